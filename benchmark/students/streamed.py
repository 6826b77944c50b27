"""Where a linear student's features come from: one tensor, or tables on disk, read ahead in windows.

Shapes: S seeds, N train examples, D features; a minibatch has B examples for each of S * streams streams, one a seed or
one a head. Pairs are (..., 2, D); their two sides are rows of their own in a minibatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from benchmark.chunks import Part, StoredRows, blocks
from benchmark.minibatches import BLOCK, WINDOW

_ROOM = 0.5  # of the GPU's free memory may be filled with features


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
        """All examples of the seed at this position, in order, in parts of at most `chunks.BLOCK`."""
        for _, block in blocks([self.tables[seed]]):
            yield torch.from_numpy(block).to(self.device)


def placed(tables: Sequence[Part], device: str) -> Tensor | Streamed:
    """The tables of all seeds where they are wanted: on a GPU with room for them as one tensor, else streamed."""
    streamed = Streamed(tables, device)
    if streamed.device.type != "cuda" or 4 * streamed.shape.numel() > _ROOM * torch.cuda.mem_get_info(device)[0]:
        return streamed
    resident = torch.empty(streamed.shape, device=device)
    for s, own in enumerate(resident):
        start = 0
        for block in streamed.blocks(s):
            own[start : start + len(block)] = block
            start += len(block)
    return resident


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

    def expect(self, minibatches: Tensor) -> None:
        """Nothing to prepare."""

    def rows(self, index: Tensor) -> Tensor:
        """(S * streams, B or 2 B, D) for the positions (S, streams, B); valid until the next call."""
        S, streams, _ = index.shape
        rows = (index + self._offsets).flatten()
        if self._rows is None:
            self._rows = self._table.new_empty(len(rows), self._table.shape[1])
        torch.index_select(self._table, 0, rows, out=self._rows)
        return self._rows.view(S * streams, -1, self._dim)


class ReadAhead:
    """The same minibatches from tables on disk: while one window of steps is trained on, a thread reads the next.

    A window is what the stream shuffles as a whole (`benchmark.minibatches`): a few blocks of consecutive rows, mapped
    into memory only while they are gathered. On a GPU it goes there through pinned memory, beside the computation.
    """

    def __init__(self, features: Streamed) -> None:
        self._features = features
        self._coming: Iterator[Tensor] = iter(())
        self._buffers: list[Tensor | None] = [None, None]

    def expect(self, minibatches: Tensor) -> None:
        """Begin to read the minibatches (steps, S, streams, B) of an epoch."""
        self._coming = self._epoch(minibatches)

    def rows(self, index: Tensor) -> Tensor:
        """As `InMemory.rows`, for the next of the minibatches that were announced."""
        return next(self._coming)

    def _epoch(self, minibatches: Tensor) -> Iterator[Tensor]:
        windows = minibatches.split(max(1, WINDOW // minibatches.shape[-1]))
        with ThreadPoolExecutor(1) as reader:
            coming: Future[Window] = reader.submit(self._read, windows[0], 0)
            for i in range(len(windows)):
                rows = coming.result().arrived()
                if i + 1 < len(windows):
                    coming = reader.submit(self._read, windows[i + 1], (i + 1) % 2)
                yield from rows.unbind(1)

    def _read(self, index: Tensor, turn: int) -> Window:
        """(S * streams, steps, B or 2 B, D) of the window's minibatches (steps, S, streams, B)."""
        steps, S, streams, B = index.shape
        row, device = self._features.shape[2:], self._features.device
        buffer = self._buffer((S, streams, steps * B, *row), turn)
        for s, table in enumerate(self._features.tables):
            for h in range(streams):
                rows, out = index[:, s, h].flatten().numpy(), buffer[s, h].numpy()
                if isinstance(table, StoredRows):
                    table.take(rows, out, BLOCK)
                else:
                    np.take(table, rows, axis=0, out=out, mode="clip")
        found = buffer.view(S * streams, steps, -1, row[-1])
        if device.type != "cuda":
            return Window(found)
        with torch.cuda.stream(torch.cuda.Stream(device)):
            there = found.to(device, non_blocking=True)
            return Window(there, torch.cuda.current_stream(device).record_event())

    def _buffer(self, shape: tuple[int, ...], turn: int) -> Tensor:
        """Memory for one window: two take turns, the other one is being trained on."""
        if self._features.device.type == "cuda":  # torch keeps pinned memory, and knows when a copy from it is done
            return torch.empty(shape, pin_memory=True)
        size, kept = int(np.prod(shape)), self._buffers[turn]
        if kept is None or kept.numel() < size:
            kept = self._buffers[turn] = torch.empty(size)
        return kept[:size].view(shape)


class Window:
    """Rows that are here, or on their way to a GPU."""

    def __init__(self, rows: Tensor, copied: torch.cuda.Event | None = None) -> None:
        self._rows, self._copied = rows, copied

    def arrived(self) -> Tensor:
        """The rows, for use on the current stream, which waits for them; this thread does not."""
        if self._copied is not None:
            stream = torch.cuda.current_stream(self._rows.device)
            stream.wait_event(self._copied)
            self._rows.record_stream(stream)
        return self._rows
