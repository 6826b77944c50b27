"""Rows of arrays that lie in several places: in memory, or in files of which only the wanted rows are read."""

import contextlib
import errno
import json
import math
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError

CHUNK = 1024  # examples in a file
READ_ROWS = 16_384  # rows that are read in one go where an array is read from end to end
# of NumPy, by their names in safetensors files
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}


def _state(file: Path | int) -> tuple[int, int, int]:
    """Inode, size and time of a file, or of an open one: one of them changes when it is written or replaced."""
    found = os.stat(file)
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class StoredRows:
    """An array in a safetensors file; its rows are read when they are asked for.

    Attributes:
        offset: of its first byte in the file.
        state: of the file when it was checked; another one is never read.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    state: tuple[int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The rows, (*rows.shape, ...).

        Raises:
            W2SError: as `opened`.
        """
        with self.opened():  # what was mapped is still what was checked when the rows have been copied
            return np.asarray(Mapped(self).array[rows])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows from `start` to `stop`, in one sequential read.

        Raises:
            W2SError: as `opened`.
        """
        found = np.empty((stop - start, *self.shape[1:]), self.dtype)
        view = memoryview(found.data).cast("B")
        with self.opened() as file:
            file.seek(self.offset + start * found.strides[0])
            while view:
                if not (count := file.readinto(view)):
                    raise OSError(errno.EIO, "it ends too early")
                view = view[count:]
        return found

    @contextlib.contextmanager
    def opened(self) -> Iterator[FileIO]:
        """The file, as it was when it was checked: compared when it is opened and before it is closed.

        Raises:
            W2SError: the file was changed or deleted since.
        """
        try:
            with open(self.path, "rb", 0) as file:
                self._check(file)
                yield file
                self._check(file)
        except OSError as error:
            raise W2SError(f"{self.path} cannot be read any more ({error.strerror}); run again") from error

    def _check(self, file: FileIO) -> None:
        if _state(file.fileno()) != self.state:
            raise W2SError(f"{self.path} was changed while it was in use; run again")


class Mapped:
    """The array of `StoredRows`, mapped into memory: pages once looked at count as memory until this is dropped.

    Raises:
        W2SError: as `StoredRows.opened`.
    """

    def __init__(self, rows: StoredRows) -> None:
        with rows.opened() as file:
            self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._offset = rows.offset
        flat = np.frombuffer(self._file, rows.dtype, math.prod(rows.shape), rows.offset)
        self.array: NDArray[Any] = flat.reshape(rows.shape)

    def will_need(self, blocks: NDArray[np.int64], size: int) -> None:
        """Have the system read these blocks of so many rows, without waiting for it."""
        if hasattr(self._file, "madvise"):
            length = size * self.array.strides[0]
            for block in blocks.tolist():
                start = (self._offset + block * length) // mmap.PAGESIZE * mmap.PAGESIZE
                self._file.madvise(mmap.MADV_WILLNEED, start, min(length, len(self._file) - start))


Part = NDArray[Any] | StoredRows


def read_header(path: Path) -> tuple[dict[str, str], dict[str, StoredRows]]:
    """Metadata and arrays of a safetensors file, of which only the header is read.

    Raises:
        OSError, ValueError, KeyError: the file can't be read, is no safetensors file, or has numbers of a kind that
            NumPy lacks.
    """
    with path.open("rb") as file:  # the length of the header, the header, the data
        state = _state(file.fileno())  # before anything is checked: what is read later is that file, or none
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > state[1]:
            raise ValueError("its header is cut off")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    arrays = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        rows = StoredRows(path, tuple(entry["shape"]), np.dtype(_DTYPES[entry["dtype"]]), 8 + length + start, state)
        if 8 + length + stop > state[1] or stop - start != rows.dtype.itemsize * math.prod(rows.shape):
            raise ValueError(f"'{name}' is cut off")
        arrays[name] = rows
    return metadata, arrays


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


def blocks(parts: Sequence[Part], rows: int = READ_ROWS) -> Iterator[tuple[int, NDArray[Any]]]:
    """The concatenation of `parts` from end to end: the first row of each block, and its rows (at most `rows`)."""
    start = 0
    for part in parts:
        for first in range(0, len(part), rows):
            stop = min(first + rows, len(part))
            yield start + first, part[first:stop] if isinstance(part, np.ndarray) else part.read(first, stop)
        start += len(part)
