"""Features of pools that may be larger than memory: rows that are not read before they are needed, and tables on disk.

Splits of a pool are rows of encoded domains in an order of their own. Up to `minibatches.WHOLE` train examples they
are copied into memory. Of a larger pool they stay where they are (`DiskFeatures`), until a student wants them: then
they are standardised and written once, in their own order, to one file in the cache (`standardised`), which is read in
large pieces from then on. Nothing here needs more memory than a few hundred MB, or reads or writes row by row.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.data import Index
from benchmark.core.minibatches import in_windows
from benchmark.store.cache import Cache
from benchmark.store.stored_rows import Part, blocks, gather
from benchmark.students.standardiser import Standardiser

Floats = NDArray[np.float32]
REGION = 2**27  # bytes of a file that are put in order in memory
_VERSION = 1  # raise when the same rows would give another table


@dataclass(frozen=True)
class DiskFeatures:
    """Rows of the concatenation of `parts`, not read: (n, ...) for `index` (n,), (n, 2, ...) for pairs (n, 2).

    Attributes:
        source: names the content of `parts`, in cache keys.
        cache: where tables go.
    """

    parts: tuple[Part, ...]
    index: Index
    source: str
    cache: Cache

    def __post_init__(self) -> None:
        total = sum(map(len, self.parts))
        if len(self.index) and not 0 <= self.index.min() <= self.index.max() < total:
            raise IndexError(f"rows {self.index.min()}..{self.index.max()} of {total}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.index.shape, *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it in memory, as float32 unless asked for otherwise."""
        return gather(self.parts, self.index).astype(dtype or np.float32, copy=False)

    def pieces(self) -> Iterator[tuple[Index, Floats]]:
        """Every row once, in the order of the parts: where they belong in the flattened index, and the rows."""
        flat = self.index.ravel()
        order = np.argsort(flat, kind="stable")
        wanted = flat[order]
        for first, block in blocks(self.parts):
            start, stop = np.searchsorted(wanted, [first, first + len(block)])
            if start < stop:
                yield order[start:stop], block[wanted[start:stop] - first].astype(np.float32, copy=False)


def select(
    parts: Sequence[Part], examples: Mapping[str, Index], source: str, cache: Cache
) -> dict[str, Floats | DiskFeatures]:
    """Split -> features of its examples: in memory, or of a large pool `DiskFeatures`."""
    splits = {split: DiskFeatures(tuple(parts), index, source, cache) for split, index in examples.items()}
    return dict(splits) if in_windows(len(examples["train"])) else {s: np.asarray(rows) for s, rows in splits.items()}


def standardised(splits: Mapping[str, DiskFeatures]) -> dict[str, Part]:
    """The splits of one output of one problem, standardised by its train split, each in its own order.

    In a file of the cache, made on first use; in memory where the cache can't be written.
    """
    train, names = splits["train"], sorted(splits)
    shapes = {name: splits[name].shape for name in names}
    key = {
        "version": _VERSION,
        "source": train.source,
        "rows": {name: hashlib.sha256(splits[name].index.tobytes()).hexdigest() for name in names},
        "shapes": shapes,
    }

    def standardiser() -> Callable[[Floats], Floats]:
        own = Standardiser.of_pieces(torch.from_numpy(rows) for _, rows in train.pieces())
        return lambda rows: own(torch.from_numpy(rows)).numpy()

    def fill(file: BinaryIO) -> None:
        index = np.concatenate([splits[name].index.ravel() for name in names])
        _write_in_order(file, replace(train, index=index), standardiser())

    stored: Mapping[str, Part] | None = train.cache.get_tables("tables", key, shapes, fill)
    if stored is None:
        change = standardiser()
        stored = {name: change(np.asarray(rows)) for name, rows in splits.items()}
    return dict(stored)


def _write_in_order(file: BinaryIO, rows: DiskFeatures, change: Callable[[Floats], Floats]) -> None:
    """Write `change(rows)` from where the file stands, in two passes: rows go to the region of the file that they
    belong to, side by side as they come; then each region is put in order in memory."""
    start, row = file.tell(), 4 * int(np.prod(rows.shape[1:]))
    in_region = max(1, REGION // row)
    firsts = range(0, len(rows), in_region)
    free = list(firsts)  # the next free place of each region
    came: list[list[Index]] = [[] for _ in firsts]  # the places where its rows belong, as they came
    for places, piece in rows.pieces():
        region = places // in_region
        by_region = np.argsort(region, kind="stable")
        changed, places = change(piece[by_region]), places[by_region]
        ends = np.searchsorted(region[by_region], np.arange(len(firsts) + 1)).tolist()
        for r, (begin, end) in enumerate(pairwise(ends)):
            if begin < end:
                file.seek(start + free[r] * row)
                file.write(changed[begin:end].data)
                free[r] += end - begin
                came[r].append(places[begin:end])
    for first, own in zip(firsts, came, strict=True):
        places = np.concatenate(own) - first
        file.seek(start + first * row)
        unordered = np.frombuffer(file.read(len(places) * row), np.uint8).reshape(len(places), row)
        ordered = np.empty_like(unordered)
        ordered[places] = unordered
        file.seek(start + first * row)
        file.write(ordered.data)
