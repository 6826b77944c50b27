"""Where a linear student's features come from: one tensor, or tables on disk, read in windows.

Shapes: S seeds, N train examples, D features; a minibatch has B examples for each of S * streams streams, one a seed or
one a head. Pairs are (..., 2, D); their two sides are rows of their own in a minibatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.chunks import Mapped, Part, StoredRows, blocks
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


def source(features: Tensor | Streamed) -> InMemory | Mapping | ReadAhead:
    """What gathers minibatches of these features."""
    if isinstance(features, Tensor):
        return InMemory(features)
    return ReadAhead(features) if features.device.type == "cuda" else Mapping(features)


class Mapping:
    """The same minibatches gathered from tables on disk, mapped into memory for one window of steps at a time.

    A window is what the stream shuffles as a whole (`benchmark.minibatches`): a few blocks of consecutive rows. While
    one is trained on, the system reads those of the next.
    """

    def __init__(self, features: Streamed) -> None:
        self._features = features
        self._windows: Sequence[Tensor] = ()
        self._window, self._left = 0, 0
        self._tables: list[NDArray[np.float32]] = []
        self._rows = torch.empty(0)

    def expect(self, minibatches: Tensor) -> None:
        """The minibatches (steps, S, streams, B) of an epoch."""
        _, S, streams, B = minibatches.shape
        self._windows, self._window, self._left = minibatches.split(max(1, WINDOW // B)), -1, 0
        shape = (S, streams * B, *self._features.shape[2:])
        if self._rows.shape != shape:
            self._rows = torch.empty(shape)

    def rows(self, index: Tensor) -> Tensor:
        """As `InMemory.rows`, for the next of the minibatches that were announced."""
        if not self._left:
            self._open(self._window + 1)
        self._left -= 1
        for table, own, out in zip(self._tables, index, self._rows, strict=True):
            np.take(table, own.flatten().numpy(), axis=0, out=out.numpy(), mode="clip")  # (others copy twice)
        S, streams, _ = index.shape
        return self._rows.view(S * streams, -1, self._features.shape[-1])

    def _open(self, window: int) -> None:
        """Map the tables anew, so that pages of the window before count no more."""
        self._window, self._left, self._tables = window, len(self._windows[window]), []
        for s, table in enumerate(self._features.tables):
            if isinstance(table, StoredRows):
                mapped = Mapped(table)
                for coming in self._windows[window + (window > 0) : window + 2]:  # the first one, and the next
                    mapped.will_need(coming[:, s].flatten().numpy(), BLOCK)
                table = mapped.array
            self._tables.append(table)


class ReadAhead:
    """The same minibatches on a GPU: while one window is trained on, a thread gathers the next in pinned memory and
    sends it, beside the computation."""

    def __init__(self, features: Streamed) -> None:
        self._features = features
        self._coming: Iterator[Tensor] = iter(())

    def expect(self, minibatches: Tensor) -> None:
        """Begin to read the minibatches (steps, S, streams, B) of an epoch."""
        self._coming = self._epoch(minibatches)

    def rows(self, index: Tensor) -> Tensor:
        """As `InMemory.rows`, for the next of the minibatches that were announced."""
        return next(self._coming)

    def _epoch(self, minibatches: Tensor) -> Iterator[Tensor]:
        windows = minibatches.split(max(1, WINDOW // minibatches.shape[-1]))
        with ThreadPoolExecutor(1) as reader:
            coming: Future[Window] = reader.submit(self._read, windows[0])
            for i in range(len(windows)):
                rows = coming.result().arrived()
                if i + 1 < len(windows):
                    coming = reader.submit(self._read, windows[i + 1])
                yield from rows.unbind(1)

    def _read(self, index: Tensor) -> Window:
        """(S * streams, steps, B or 2 B, D) of the window's minibatches (steps, S, streams, B)."""
        steps, S, streams, B = index.shape
        row, device = self._features.shape[2:], self._features.device
        on_gpu = device.type == "cuda"
        buffer = torch.empty((S, streams, steps * B, *row), pin_memory=on_gpu)
        for s, table in enumerate(self._features.tables):
            mapped = Mapped(table) if isinstance(table, StoredRows) else None
            if mapped is not None:
                mapped.will_need(index[:, s].flatten().numpy(), BLOCK)
            rows = mapped.array if mapped is not None else np.asarray(table)
            for h in range(streams):
                np.take(rows, index[:, s, h].flatten().numpy(), axis=0, out=buffer[s, h].numpy(), mode="clip")
        found = buffer.view(S * streams, steps, -1, row[-1])
        if not on_gpu:
            return Window(found)
        with torch.cuda.stream(torch.cuda.Stream(device)):
            # torch keeps pinned memory, and knows when a copy from it is done
            there = found.to(device, non_blocking=True)
            return Window(there, torch.cuda.current_stream(device).record_event())


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
