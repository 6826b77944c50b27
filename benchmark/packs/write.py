"""Writing a pack: the problems of a task, each example's features once, and the sheet."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors.numpy import save

from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.files import sha256_file, write_output
from benchmark.base.notices import Say
from benchmark.base.paths import using
from benchmark.base.versions import libraries, project_commit
from benchmark.core.data import SPLITS, Index
from benchmark.core.pools import VERSION
from benchmark.core.problems import build_problem, data_fingerprint
from benchmark.core.soft_labels import supervisor_recipe
from benchmark.core.task import ReadyMade, Task
from benchmark.packs import sheet as layout
from benchmark.packs.card import card
from benchmark.packs.sheet import Sheet
from benchmark.running.request import Request, check_options, lacking, resolve
from benchmark.running.result import LIBRARIES
from benchmark.store.cache import Cache
from benchmark.students.frozen import LinearHead


def pack_task(request: Request, out: Path, say: Say) -> None:
    """What `w2s pack` does: write the pack of a task, say how large it is and whether it may be shared.

    Args:
        request: of one task, its conditions (none: all that it has) and how many seeds; methods don't matter.

    Raises:
        W2SError: as `write_pack`, or an unknown name or option.
    """
    seeds = range(request.seeds or 1)
    found = resolve(replace(request, conditions=(), download=False), say)
    check_options(request.options, found.tasks)
    task, cache, device = found.tasks[0], found.setup.cache, found.setup.device
    with using(download=request.download):
        sheet = write_pack(task, request.conditions, seeds, out, cache, device, say, request.download, request.mirror)
    size = sum(entry.bytes for entry in sheet.files.values()) / 2**20
    held = f"{', '.join(sheet.conditions)}, {len(seeds)} seeds, {size:.1f} MiB"
    say(f"wrote {out}: {held}; sheet's SHA-256 {sheet.sha256}")
    say(sheet.sharing)


def write_pack(
    task: Task,
    wanted: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    cache: Cache,
    device: str,
    say: Say,
    fetch: bool = False,
    mirror: str | None = None,
) -> Sheet:
    """Make all problems of these conditions and seeds, and write them to the folder `out`.

    Until all is written it lies beside `out` under another name, so that a kill leaves nothing that looks complete.

    Args:
        wanted: conditions; none for all that the task has.
        fetch: whether data that are missing are downloaded, from `mirror` where one is named.

    Raises:
        NotAvailable: the task lacks something on this machine.
        W2SError: the task cannot be packed, or `out` is there already.
    """
    if isinstance(task, ReadyMade):
        raise W2SError(f"task '{task.name}' is made from given arrays, with nothing expensive to pack: share those")
    if not isinstance(task.student, LinearHead):
        raise W2SError(
            f"task '{task.name}' trains a language model, which no pack can hold: packs are of frozen encoders"
        )
    if out.exists():
        raise W2SError(f"--out {out}: is there already; name another folder, or delete it first")
    wanted = list(dict.fromkeys(wanted)) or task.conditions
    if unknown := [c for c in wanted if c not in task.conditions]:
        raise W2SError(f"task '{task.name}' has no condition '{unknown[0]}', only {', '.join(task.conditions)}")
    if lack := lacking(task, fetch, mirror, say):
        raise NotAvailable(f"not packed: {task.name}: {lack}")
    fingerprint = data_fingerprint(task)
    with _beside(out.absolute()) as folder:
        names: dict[int, tuple[str, ...]] = {}
        for condition in wanted:
            table = _Table()
            for seed in seeds:
                say(f"{task.name} ({condition}): seed {seed}")
                problem = build_problem(task, condition, seed, cache, device, also=wanted, scored=True)
                names[seed] = problem.supervisors
                examples = {s: table.add({name: x[s] for name, x in problem.features.items()}) for s in SPLITS}
                supervision = {**_named("examples", examples), **_named("soft_labels", problem.soft_labels)}
                if problem.source_scores is not None:
                    supervision["source_scores"] = problem.source_scores
                write_output(folder / layout.supervision_file(condition, seed), save(supervision))
                truth = _named("labels", problem.truth.labels) | _named("groups", problem.truth.groups)
                write_output(folder / layout.truth_file(condition, seed), save(truth))
            write_output(folder / layout.features_file(condition), save(table.arrays()))
        encoder = task.student.encoder
        assert encoder is not None  # only ready-made tasks have none
        content: dict[str, Any] = {
            "format": layout.FORMAT,
            "protocol": VERSION,
            "task": task.name,
            "task_version": task.version,
            "card": task.card,
            "data_fingerprint": fingerprint,
            "encoder": encoder.name,
            "encoder_fingerprint": task.student.fingerprint,
            "outputs": task.student.outputs,
            "conditions": tuple(wanted),
            "seeds": tuple(seeds),
            "supervisors": tuple(_supervisors(task, seed, names[seed]) for seed in seeds),
            "may_share": task.card.redistribution is None,
            "device": device,
            "libraries": libraries(*LIBRARIES, "pillow", "safetensors"),
            "commit": project_commit(),
        }
        write_output(folder / layout.CARD, card(Sheet(**content, files={})).encode())
        paths = {name: folder / name for name in layout.expected_files(wanted, seeds)}
        files = {n: layout.FileEntry(bytes=path.stat().st_size, sha256=sha256_file(path)) for n, path in paths.items()}
        sheet = Sheet(**content, files=files)
        write_output(folder / layout.SHEET, sheet.to_text().encode())
    return sheet


class _Table:
    """The distinct examples of a condition's problems, in order of their first use."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self._parts: dict[str, list[NDArray[np.float32]]] = {}

    def add(self, features: dict[str, NDArray[np.float32]]) -> Index:
        """Rows (n,), or for pairs (n, 2), of the examples that have these features: output -> (n, D) or (n, 2, D).

        Examples are the same when all their outputs are, bit by bit.
        """
        shape = next(iter(features.values())).shape[:-1]
        flat = {name: np.ascontiguousarray(x).reshape(-1, x.shape[-1]) for name, x in features.items()}
        rows, fresh = np.empty(int(np.prod(shape)), np.int64), []
        for i in range(len(rows)):
            key = hashlib.sha256(b"".join(x[i].tobytes() for x in flat.values())).digest()
            if key not in self._rows:
                self._rows[key] = len(self._rows)
                fresh.append(i)
            rows[i] = self._rows[key]
        for name, x in flat.items():
            self._parts.setdefault(name, []).append(x[fresh])
        return rows.reshape(shape)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Output -> (rows, D)."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def _supervisors(task: Task, seed: int, names: tuple[str, ...]) -> tuple[layout.SupervisorEntry, ...]:
    recipes = [json.loads(json.dumps(supervisor_recipe(supervisor))) for supervisor in task.supervisors(seed)]
    return tuple(layout.SupervisorEntry(name=n, recipe=r) for n, r in zip(names, recipes, strict=True))


def _named(kind: str, by_split: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Tensors by the names that they have in a file."""
    return {f"{kind}/{split}": np.ascontiguousarray(x) for split, x in by_split.items()}


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder that is called `out` when all went well."""
    lock = FileLock(out.with_name(f".{out.name}.packing.lock"))
    folder = out.with_name(f".{out.name}.packing")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        shutil.rmtree(folder, ignore_errors=True)  # what a killed one left
        folder.mkdir()
    except Timeout:
        raise W2SError(f"--out {out}: another `w2s pack` is writing there; wait, or name another folder") from None
    except OSError as error:
        raise W2SError(f"--out {out}: cannot be written: {error}") from error
    try:
        yield folder
        os.rename(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
