"""A pack as a task: what `w2s run --pack` runs on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError
from benchmark.core.data import SPLITS, Problem, Truth
from benchmark.core.registry import TASKS
from benchmark.core.soft_labels import check_probabilities
from benchmark.core.task import ReadyMade
from benchmark.packs.sheet import check_files, features_file, read_sheet, supervision_file, truth_file
from benchmark.store.cache import Cache
from benchmark.store.stored_rows import StoredRows, read_header
from benchmark.students.frozen import LinearHead
from benchmark.students.rows import DiskFeatures, select


class PackTask(ReadyMade):
    """The task that a pack was made from, with the pack's problems.

    Args:
        folder: of the pack. Every file is compared with its hash here, once.

    Raises:
        W2SError: the pack was altered, is incomplete, or comes from another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.sheet = folder, read_sheet(folder)
        check_files(folder, self.sheet)
        self.name, self.version, self.card = self.sheet.task, self.sheet.task_version, self.sheet.card
        self.conditions, self.seeds = self.sheet.conditions, self.sheet.seeds
        self.fingerprint = self.sheet.data_fingerprint

    def require(self, conditions: Sequence[str], seeds: Sequence[int]) -> None:
        """Refuse conditions and seeds that the pack lacks, with what it has."""
        for kind, has, wanted in (("condition", self.conditions, conditions), ("seed", self.sheet.seeds, seeds)):
            if lacking := [each for each in wanted if each not in has]:
                raise W2SError(
                    f"pack {self.folder}: has no {kind} {lacking[0]!r}, only {', '.join(map(str, has))}; "
                    "ask for those, or pack the others too"
                )

    @property
    def student(self) -> LinearHead:
        return LinearHead(None)

    def problem(self, condition: str, seed: int, cache: Cache) -> Problem:
        """One problem. Of the features' file only the rows of its pool are read; those of a large pool later."""
        self.require([condition], [seed])
        file = features_file(condition)
        table, sha256 = self._stored(file), self.sheet.files[file].sha256
        supervision = self._arrays(supervision_file(condition, seed))
        truth = self._arrays(truth_file(condition, seed))
        members = self.sheet.supervisors[self.sheet.seeds.index(seed)]
        try:
            if strange := [f"{n} are {x.dtype}" for n, x in table.items() if x.dtype != np.float32]:
                raise TypeError(strange[0])
            rows = {split: supervision[f"examples/{split}"] for split in SPLITS}
            problem = Problem(
                task=self.name,
                condition=condition,
                seed=seed,
                features={
                    name: select([table[name]], rows, f"{name} of {sha256}", cache) for name in self.sheet.outputs
                },
                soft_labels={split: supervision[f"soft_labels/{split}"] for split in SPLITS},
                truth=Truth(*({split: truth[f"{kind}/{split}"] for split in SPLITS} for kind in ("labels", "groups"))),
                fingerprint=self.fingerprint,
                supervisors=tuple(member.name for member in members),
                source_scores=supervision.get("source_scores"),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise W2SError(
                f"pack {self.folder}: {condition}, seed {seed}: a tensor is missing, too small or strange ({error})"
            ) from None
        self._check(problem)
        return problem

    def _check(self, problem: Problem) -> None:
        """A pack whose hashes are right can still have been written by something else than `w2s pack`."""
        what = f"pack {self.folder}: {problem.condition}, seed {problem.seed}"
        M, K = len(problem.supervisors), len(self.card.classes)
        sides = (2,) if self.card.modality == "preference" else ()
        scores = problem.source_scores
        if scores is not None and (
            scores.dtype != np.float32 or scores.shape != (M,) or not ((scores >= 0) & (scores <= 1)).all()
        ):
            raise W2SError(
                f"{what}: source_scores are {scores.dtype} {scores.shape}, expected float32 ({M},) from 0 to 1"
            )
        for split in SPLITS:
            labels, features = problem.truth.labels[split], [x[split] for x in problem.features.values()]
            n = len(labels)
            expected: list[tuple[str, NDArray[Any], type[np.generic], tuple[int, ...]]] = [
                ("labels", labels, np.int64, (n,)),
                ("groups", problem.truth.groups[split], np.int64, (n,)),
                ("soft_labels", problem.soft_labels[split], np.float32, (n, M, K)),
                *[("features", x, np.float32, (n, *sides, x.shape[-1])) for x in features],
            ]
            for name, array, dtype, shape in expected:
                if array.dtype != dtype or array.shape != shape or not n:
                    found = f"{array.dtype} {array.shape}"
                    raise W2SError(f"{what}: {name}/{split} is {found}, expected {np.dtype(dtype)} {shape}, not empty")
            check_probabilities(problem.soft_labels[split], (n, M, K), what)
            if not -1 <= labels.min() <= labels.max() < K:
                found = f"{labels.min()}..{labels.max()}"
                raise W2SError(f"{what}: labels/{split} are {found}, expected 0..{K - 1}, or -1 for unknown")
            for x in features:
                pieces = (piece for _, piece in x.pieces()) if isinstance(x, DiskFeatures) else (x,)
                if not all(np.isfinite(piece).all() for piece in pieces):
                    raise W2SError(f"{what}: features/{split} hold NaN or infinity")

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        return {key: rows.read(0, len(rows)) for key, rows in self._stored(name).items()}

    def _stored(self, name: str) -> dict[str, StoredRows]:
        """Tensors that lie in the file until they are looked at."""
        try:
            return read_header(self.folder / name)[1]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise W2SError(f"pack {self.folder}: cannot read {name} ({error})") from None


@dataclass(frozen=True)
class PackSource:
    """`w2s run --pack FOLDER`: see `benchmark.core.source.Source`."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def folder(self, suite: str) -> str:
        """The suite's own: a pack's problems are those of its task."""
        return suite

    def register(self, copies: Mapping[Path, Path]) -> PackTask:
        """In the place of the installed task of its name.

        Raises:
            W2SError: as `PackTask`, or the installed task has another version.
        """
        task = PackTask(copies.get(self.path, self.path))
        if task.name in TASKS.names() and (installed := TASKS[task.name].version) != task.version:
            mend = "make it again" if task.version < installed else "update w2s-bench"
            raise W2SError(
                f"pack {task.folder}: was made from version {task.version} of task '{task.name}', installed is version "
                f"{installed}; {mend}"
            )
        TASKS.forget(str(self.path))
        TASKS.replace(task.name, task, str(self.path))
        return task
