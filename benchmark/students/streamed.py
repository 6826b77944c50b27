"""Where a linear student's features come from: one tensor, or tables on disk, read in windows.

Shapes: S seeds, N train examples, D features; a minibatch has B examples for each of S * streams streams, one a seed or
one a head. Pairs are (..., 2, D); their two sides are rows of their own in a minibatch.
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.core.minibatches import SHUFFLE_BLOCK, WINDOW, one_ahead
from benchmark.store.stored_rows import READ_ROWS, Mapped, Part, StoredRows, blocks

_ROOM = 0.5  # of the GPU's free memory may be filled with features
_PIECE = 1_024  # examples that are gathered in one go
_AHEAD = 2  # pieces that are gathered, or being gathered

Window = tuple[list[NDArray[np.float32]], NDArray[np.int64]]


class Streamed:
    """Features (S, n, D) or (S, n, 2, D), standardised, of which only windows are in memory.

    Args:
        tables: of S seeds, each (n, ...) in the order of its split.
        device: where they are wanted.
    """

    def __init__(self, tables: Sequence[Part], device: str = "cpu") -> None:
        self.tables, self.device = tuple(tables), torch.device(device)
        self.shape = torch.Size((len(tables), *tables[0].shape))

    def blocks(self, seed: int) -> Iterator[Tensor]:
        """All examples of the seed at this position, in order, in parts of at most `READ_ROWS`."""
        for _, block in blocks([self.tables[seed]]):
            yield torch.from_numpy(block).to(self.device)

    def whole(self) -> Tensor:
        """As one tensor, where they are wanted."""
        found = torch.empty(self.shape, device=self.device)
        for s, own in enumerate(found):
            for there, block in zip(own.split(READ_ROWS), self.blocks(s), strict=True):
                there.copy_(block)
        return found


def placed(tables: Sequence[Part], device: str) -> Tensor | Streamed:
    """The tables of all seeds where they are wanted: on a GPU with room for them as one tensor, else streamed."""
    streamed = Streamed(tables, device)
    if streamed.device.type != "cuda" or 4 * streamed.shape.numel() > _ROOM * torch.cuda.mem_get_info(device)[0]:
        return streamed
    return streamed.whole()


class InMemory:
    """Minibatches gathered from features (S, N, D) or (S, N, 2, D); a seed axis of stride 0 shares one table."""

    def __init__(self, features: Tensor) -> None:
        S, N = features.shape[:2]
        shared = features.stride(0) == 0
        self._dim = features.shape[-1]
        self._table = (features[0] if shared else features.flatten(0, 1)).flatten(1)
        offsets = torch.zeros(S) if shared else torch.arange(S) * N
        self._offsets = offsets.to(features.device, torch.int64)[:, None, None]
        self._rows: Tensor | None = None

    def expect(self, minibatches: Tensor) -> None: ...
    def fetch(self) -> None: ...
    def close(self) -> None: ...

    def rows(self, index: Tensor) -> Tensor:
        """(S * streams, B or 2 B, D) for the positions (S, streams, B); valid until the next call."""
        S, streams, _ = index.shape
        rows = (index + self._offsets).flatten()
        if self._rows is None:
            self._rows = self._table.new_empty(len(rows), self._table.shape[1])
        torch.index_select(self._table, 0, rows, out=self._rows)
        return self._rows.view(S * streams, -1, self._dim)


class ReadAhead:
    """The same minibatches gathered from tables by threads, a few steps ahead of the training; on a GPU through pinned
    memory, and sent beside the computation.

    One thread gathers from a window while another opens the next. A window is what the stream shuffles as a whole
    (`benchmark.core.minibatches`): a few blocks of consecutive rows. Files are mapped, and the system is told which
    blocks will be needed.
    """

    def __init__(self, features: Streamed) -> None:
        self._features = features
        self._epochs: deque[Tensor] = deque()
        self._coming = self._rows()
        self._here = torch.empty(0, device=features.device)  # of the present step; on a GPU always in the same place
        self._stream: torch.cuda.Stream | None = None  # of copies to a GPU
        self._process = os.getpid()

    def expect(self, minibatches: Tensor) -> None:
        """The minibatches (steps, S, streams, B) of the next epoch, while there are still some of the present one."""
        self._epochs.append(minibatches)

    def fetch(self) -> None:
        """The rows of the next of the minibatches that were announced."""
        if os.getpid() != self._process:
            raise RuntimeError("a copy of the process that trains, forked by a plug-in, has no threads")
        rows = next(self._coming)
        if rows.is_cuda and self._here.shape == rows.shape:
            self._here.copy_(rows)
        else:
            self._here = rows.clone() if rows.is_cuda else rows

    def rows(self, index: Tensor) -> Tensor:
        """As `InMemory.rows`, for the minibatch that was fetched."""
        return self._here

    def close(self) -> None:
        """End the threads, and let go of what they hold."""
        self._coming.close()

    def _rows(self) -> Generator[Tensor]:
        with ThreadPoolExecutor(1) as thread:
            while self._epochs:  # once, if no epoch is so short that all is read before the next is announced
                pieces = self._pieces()
                coming = deque(thread.submit(next, pieces, None) for _ in range(_AHEAD))
                while (piece := coming.popleft().result()) is not None:
                    coming.append(thread.submit(next, pieces, None))
                    rows, copied = piece
                    if copied is not None:  # the current stream waits for the copy; this thread does not
                        stream = torch.cuda.current_stream(rows.device)
                        stream.wait_event(copied)
                        rows.record_stream(stream)
                    yield from rows.unbind(1)

    def _pieces(self) -> Iterator[tuple[Tensor, torch.cuda.Event | None]]:
        """What was announced, a few steps at a time: rows (S * streams, steps, B or 2 B, D) that are here, or on their
        way to a GPU until an event."""
        _, S, streams, B = self._epochs[0].shape
        steps = max(1, _PIECE // (streams * B))
        buffers = self._buffers(S, streams, steps, B, *self._features.shape[2:])
        for arrays, places in self._windows():
            for first in range(0, len(places), steps):
                part = places[first : first + steps]
                buffer = next(buffers)[:, :, : len(part)]
                for s, h in product(range(S), range(streams)):  # (a mode other than "clip" copies twice)
                    np.take(arrays[s], part[:, s, h], axis=0, out=buffer[s, h].numpy(), mode="clip")
                yield self._sent(buffer.view(S * streams, len(part), -1, buffer.shape[-1]))

    def _windows(self) -> Iterator[Window]:
        """What was announced, the next window opened while one is in use."""
        with ThreadPoolExecutor(1) as reader:
            for window in one_ahead(reader.submit(self._opened, part) for part in self._parts()):
                yield window.result()

    def _parts(self) -> Iterator[Tensor]:
        while self._epochs:
            epoch = self._epochs.popleft()
            yield from epoch.split(max(1, WINDOW // epoch[0, 0].numel()))

    def _opened(self, part: Tensor) -> Window:
        """A few steps: arrays of S seeds, and where in them the examples are, (steps, S, streams, B)."""
        arrays, places = [], part.numpy()
        for s, table in enumerate(self._features.tables):
            if isinstance(table, StoredRows):
                mapped = Mapped(table)  # anew, so that pages of the window before count no more
                mapped.will_need(np.flatnonzero(np.bincount(places[:, s].ravel() // SHUFFLE_BLOCK)), SHUFFLE_BLOCK)
                table = mapped.array
            arrays.append(table)
        return arrays, places

    def _buffers(self, *shape: int) -> Iterator[Tensor]:
        """On a GPU pinned memory, which torch keeps, and knows when a copy from it is done."""
        if self._features.device.type == "cuda":
            while True:
                yield torch.empty(shape, pin_memory=True)
        yield from cycle([torch.empty(shape) for _ in range(_AHEAD + 1)])

    def _sent(self, rows: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        device = self._features.device
        if device.type != "cuda":
            return rows, None
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        with torch.cuda.stream(self._stream):
            return rows.to(device, non_blocking=True), torch.cuda.current_stream(device).record_event()
