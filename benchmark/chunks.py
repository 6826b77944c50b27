"""Rows of arrays that lie in several places: in memory, or in files of which only the wanted rows are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 1024  # examples in a file


@dataclass(frozen=True)
class StoredRows:
    """An array in a safetensors file; its rows are read when they are asked for."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        with self.path.open("rb") as file:  # the length of the header, the header, the data
            length = int.from_bytes(file.read(8), "little")
            offset = json.loads(file.read(length))[self.name]["data_offsets"][0]
        return np.array(np.memmap(self.path, self.dtype, "r", 8 + length + offset, self.shape)[rows])


Part = NDArray[Any] | StoredRows


def gather(parts: Sequence[Part], rows: NDArray[np.int64]) -> NDArray[Any]:
    """The given rows of the concatenation of `parts`, which is never made."""
    if len(parts) == 1:
        return parts[0][rows]
    found = np.empty((*rows.shape, *parts[0].shape[1:]), parts[0].dtype)
    start = 0
    for part in parts:
        here = (rows >= start) & (rows < start + len(part))
        if here.any():
            found[here] = part[rows[here] - start]
        start += len(part)
    return found
