"""Rows of arrays that lie in several places: in memory, or in files of which only the wanted rows are read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import W2SError

CHUNK = 1024  # examples in a file


class State(NamedTuple):
    """What changes when a file is written or replaced."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path | int) -> State:
        """Of a file, or of an open one."""
        found = os.stat(path)
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class StoredRows:
    """An array in a safetensors file; its rows are read when they are asked for.

    Attributes:
        state: of the file when its checksum was compared; another one is never read.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    state: State

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The rows, (*rows.shape, ...).

        Raises:
            W2SError: the file was changed or deleted since it was checked.
        """
        try:
            with self.path.open("rb") as file:  # the length of the header, the header, the data
                self._check(State.of(file.fileno()))
                length = int.from_bytes(file.read(8), "little")
                offset = json.loads(file.read(length))[self.name]["data_offsets"][0]
                found = np.array(np.memmap(file, self.dtype, "r", 8 + length + offset, self.shape)[rows])
                self._check(State.of(file.fileno()))
        except OSError as error:
            raise W2SError(f"cache: {self.path} cannot be read any more ({error.strerror}); run again") from error
        return found

    def _check(self, state: State) -> None:
        if state != self.state:
            raise W2SError(f"cache: {self.path} was changed while it was in use; run again")


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
