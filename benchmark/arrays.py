"""Bring your own arrays: a task made from features, soft labels and labels."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unicodedata import normalize

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open

from benchmark.base.errors import W2SError
from benchmark.base.seeding import numpy_rng
from benchmark.core.data import SPLITS, Index, Problem, Truth
from benchmark.core.minibatches import in_windows
from benchmark.core.pools import SHARES, deal_by_group
from benchmark.core.registry import TASKS
from benchmark.core.task import ReadyMade, TaskCard
from benchmark.store.cache import Cache
from benchmark.store.stored_rows import Part, StoredRows, blocks, read_header
from benchmark.students.frozen import LinearHead
from benchmark.students.rows import select


class ArrayTask(ReadyMade):
    """A task whose pool is given ready-made; condition `ood` only, split 70/10/20 by seed.

    Args:
        features: (N, D), or (N, 2, D) for preference pairs (then K = 2); may be in a file (`StoredRows`).
        soft_labels: (N, M, K), rows sum to 1.
        labels: (N,) in 0..K-1, -1 for unknown (never scored).
        groups: (N,) or None. With groups the worst group's accuracy is the second metric.
        name: the task's name.
        split_by_group: keep each group whole when splitting.

    Raises:
        W2SError: an array has another shape or other values than expected; the message says which and what was found.
    """

    conditions = ("ood",)

    def __init__(
        self,
        features: ArrayLike | StoredRows,
        soft_labels: ArrayLike,
        labels: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        name: str = "arrays",
        split_by_group: bool = False,
    ) -> None:
        self.name = name
        x = features if isinstance(features, StoredRows) else np.asarray(features)
        _check_kind("features", x.dtype)
        self.features = x if isinstance(x, StoredRows) else x.astype(np.float32, copy=False)
        p, y = np.asarray(soft_labels), np.asarray(labels)
        _check_kind("soft_labels", p.dtype)
        self.soft_labels = p.astype(np.float32, copy=False)
        whole = y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.floor(y)).all()
        _check_kind("labels", y.dtype, "fiub" if whole else "iub", "whole numbers")
        self.labels, self.groups = y.astype(np.int64), None
        if groups is not None:
            ids = np.asarray(groups)
            if ids.ndim != 1:
                raise W2SError(f"groups: shape {ids.shape}, expected (N,)")
            _check_kind("groups", ids.dtype, "iubUS", "whole numbers or text")
            self.groups = np.unique(ids, return_inverse=True)[1].astype(np.int64)
        self.split_by_group = split_by_group
        self._check()
        K = self.soft_labels.shape[2]
        pairs = self.features.ndim == 3
        self.card = TaskCard(
            modality="preference" if pairs else "arrays",
            shift="the user's own arrays",
            sources=(),
            target=name,
            classes=("first preferred", "second preferred") if pairs else tuple(map(str, range(K))),
            metric="accuracy" if self.groups is None else "worst_group_accuracy",
            licence="the user's own",
            citation="the user's own",
            requires="the file",
            size=f"{len(self.labels)} examples, {self.soft_labels.shape[1]} supervisors, {K} classes",
        )
        digest = hashlib.sha256()
        for value in (self.features, self.soft_labels, self.labels, self.groups):
            if isinstance(value, StoredRows):
                digest.update(f"float32{value.shape}".encode())
                for _, block in blocks([value]):
                    digest.update(block.astype(np.float32, copy=False).data)
            elif value is not None:
                digest.update(f"{value.dtype}{value.shape}".encode())
                digest.update(np.ascontiguousarray(value).data)
        digest.update(str(split_by_group).encode())
        self.fingerprint = digest.hexdigest()

    @classmethod
    def from_file(cls, path: Path, *, split_by_group: bool = False) -> Self:
        """Read an npz or safetensors file; the task is named after it. Features of a large pool stay in a safetensors
        file, and are read block by block."""
        if not path.is_file():
            raise W2SError(f"--arrays {path}: no such file")
        if path.suffix not in (".npz", ".safetensors"):
            raise W2SError(f"--arrays {path}: expected a name that ends in .npz or .safetensors")
        try:
            arrays = _load(path)
        except Exception as error:  # whatever a broken file makes the readers raise
            pickled = "it is no such file, or holds pickled objects, which are never read"
            why = pickled if "pickle" in str(error) else error
            raise W2SError(f"--arrays {path}: cannot be read ({why})") from error
        known = ("features", "soft_labels", "labels", "groups")
        if extra := sorted(set(arrays) - set(known)):
            raise W2SError(f"--arrays {path}: unknown array '{extra[0]}', expected {', '.join(sorted(known))}")
        if lost := [name for name in known[:3] if name not in arrays]:
            found = ", ".join(sorted(arrays)) or "none"
            raise W2SError(f"--arrays {path}: array '{lost[0]}' is missing, found {found}")
        try:
            return cls(**arrays, name=_task_name(path), split_by_group=split_by_group)  # type: ignore[arg-type]
        except W2SError as error:
            raise W2SError(f"--arrays {path}: {error}") from error

    @property
    def student(self) -> LinearHead:
        return LinearHead(None)

    def require(self, conditions: Sequence[str], seeds: Sequence[int]) -> None:
        """Refuse other conditions, arrays that can't be split, or whose test split can't be scored."""
        if lacking := [condition for condition in conditions if condition not in self.conditions]:
            raise W2SError(f"task '{self.name}' has no condition '{lacking[0]}', only {', '.join(self.conditions)}")
        for seed in seeds:
            self._rows(seed)

    def _rows(self, seed: int) -> dict[str, Index]:
        """Split -> positions."""
        N, rng = len(self.labels), numpy_rng("arrays", seed)
        if self.split_by_group and self.groups is not None:
            splits = deal_by_group(self.groups, SHARES, rng)
            if in_windows(len(splits[0])):  # a large train split must be in random order (`benchmark.core.minibatches`)
                splits = [rng.permutation(split) for split in splits]
        else:
            cuts = [round(SHARES[0] * N), round((SHARES[0] + SHARES[1]) * N)]
            splits = [np.asarray(part) for part in np.split(rng.permutation(N), cuts)]
        rows = dict(zip(SPLITS, splits, strict=True))
        if empty := [split for split in SPLITS if not len(rows[split])]:
            whole = f"{N} examples" if self.groups is None else f"{N} examples in {self.groups.max() + 1} groups"
            raise W2SError(f"task '{self.name}': the {empty[0]} split is empty; {whole} are too few to split 70/10/20")
        if not (self.labels[rows["test"]] >= 0).any():
            what = f"no label of the test split (seed {seed}) is known"
            raise W2SError(f"task '{self.name}': {what}, so nothing can be scored")
        return rows

    def problem(self, condition: str, seed: int, cache: Cache) -> Problem:
        """The arrays, split 70/10/20 by seed."""
        N, rows = len(self.labels), self._rows(seed)
        groups = np.arange(N) if self.groups is None else self.groups
        return Problem(
            task=self.name,
            condition=condition,
            seed=seed,
            features={"features": select([self.features], rows, self.fingerprint, cache)},
            soft_labels={split: self.soft_labels[r] for split, r in rows.items()},
            truth=Truth({s: self.labels[r] for s, r in rows.items()}, {s: groups[r] for s, r in rows.items()}),
            fingerprint=self.fingerprint,
            supervisors=tuple(f"supervisor {m}" for m in range(self.soft_labels.shape[1])),
        )

    def _check(self) -> None:
        x, p, y = self.features, self.soft_labels, self.labels
        if x.ndim not in (2, 3) or (x.ndim == 3 and x.shape[1] != 2):
            raise W2SError(f"features: shape {x.shape}, expected (N, D) or (N, 2, D)")
        if p.ndim != 3:
            raise W2SError(f"soft_labels: shape {p.shape}, expected (N, M, K)")
        N, M, K = p.shape
        if y.ndim != 1:
            raise W2SError(f"labels: shape {y.shape}, expected (N,)")
        if min(N, M) == 0 or K < 2 or x.shape[-1] == 0:
            raise W2SError(f"soft_labels: shape {p.shape}, features: shape {x.shape}; expected N, M, D >= 1 and K >= 2")
        for name, value in (("features", x), ("labels", y), ("groups", self.groups)):
            if value is not None and len(value) != N:
                raise W2SError(f"{name}: {len(value)} examples, but soft_labels has {N}")
        if x.ndim == 3 and K != 2:
            raise W2SError(f"soft_labels: K = {K}, but features are pairs (N, 2, D), which need K = 2")
        if self.split_by_group and self.groups is None:
            raise W2SError("groups: missing, but --split-by-group needs them")
        for name, array in (("features", x), ("soft_labels", p)):
            for first, block in blocks([array]):
                if not np.isfinite(block).all():
                    raise W2SError(f"{name}: NaN or infinity in row {first + _first(~np.isfinite(block))}")
        if (p < 0).any():
            raise W2SError(f"soft_labels: negative value {p.min():.4g} in row {_first(p < 0)}")
        if (off := np.abs(p.sum(-1) - 1) > 1e-3).any():
            raise W2SError(f"soft_labels: row {_first(off)} sums to {p.sum(-1)[off][0]:.4g}, expected 1")
        if (bad := (y < -1) | (y >= K)).any():
            raise W2SError(f"labels: {y[bad][0]} in row {_first(bad)}, expected 0..{K - 1} or -1 for unknown")
        if not (y >= 0).any():
            raise W2SError("labels: all unknown (-1), so nothing could be scored")


@dataclass(frozen=True)
class ArraysSource:
    """`w2s run --arrays FILE`."""

    path: Path
    split_by_group: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def folder(self, suite: str) -> str:
        return f"arrays-{_task_name(self.path)}"

    def register(self, copies: Mapping[Path, Path]) -> ArrayTask:
        """In the place of what was read from the file before; the name of another task is refused."""
        task = ArrayTask.from_file(copies.get(self.path, self.path), split_by_group=self.split_by_group)
        TASKS.discover()  # first, so that a duplicate name is blamed on the file
        TASKS.forget(str(self.path))
        TASKS.register(task.name, task, str(self.path))
        return task


def _task_name(path: Path) -> str:
    return re.sub(r"[^\w-]+", "-", normalize("NFC", path.stem)).strip("-") or "arrays"


def _load(path: Path) -> dict[str, Part]:
    """The arrays of a file; features of a large pool are left in it, if it is a safetensors file."""
    if path.suffix == ".npz":
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as packed:  # it leaves a bad file open
            return dict(packed)
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        large = "features" in names and in_windows(round(SHARES[0] * file.get_slice("features").get_shape()[0]))
        arrays: dict[str, Part] = {n: file.get_tensor(n) for n in names if n != "features" or not large}
    if large:
        arrays["features"] = read_header(path)[1]["features"]
    return arrays


def _check_kind(name: str, dtype: np.dtype[Any], kinds: str = "fiub", expected: str = "numbers") -> None:
    if dtype.kind not in kinds:
        raise W2SError(f"{name}: dtype {dtype}, expected {expected}")


def _first(mask: NDArray[np.bool_]) -> int:
    return int(np.argwhere(mask)[0][0])
