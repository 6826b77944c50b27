"""Between this machine's processors and the device that encodes: batches go there without waiting, features stay there
until many batches' are copied at once."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.base.process import cores

_MOST_READERS = 8


def readers(device: str) -> int:
    """How many threads get inputs ready for a device beside the one that calls; none for a CPU, which has a process a
    core already."""
    return 0 if device == "cpu" else min(_MOST_READERS, cores())


def to_device(batch: Tensor, device: str) -> Tensor:
    """A tensor of the CPU on the device; a GPU copies it from pinned memory when it gets there, and nobody waits."""
    if device == "cpu":
        return batch
    return (batch if batch.is_pinned() else batch.pin_memory()).to(device, non_blocking=True)


def to_host(batches: Sequence[Tensor]) -> NDArray[np.float32]:
    """Rows of features, of several batches, in one copy; waits until the device has computed them."""
    return torch.cat([x.float() for x in batches]).cpu().numpy()


class HostTables:
    """Float32 tables (n, D) in the host's memory, whose rows come from a device, those of many batches at once.

    Args:
        tables: what is filled.
        batches: so many stay on a device before they are copied; on a CPU each is copied at once.
    """

    def __init__(self, tables: Sequence[NDArray[np.float32]], device: str, batches: int) -> None:
        self._tables, self._most = tables, 1 if device == "cpu" else batches
        self._waiting: list[tuple[Sequence[int], Sequence[Tensor]]] = []

    def put(self, rows: Sequence[int], features: Sequence[Tensor]) -> None:
        """Rows of each table, (len(rows), D) on the device."""
        self._waiting.append((rows, features))
        if len(self._waiting) == self._most:
            self.copy()

    def copy(self) -> None:
        """Copy what has not been copied yet; to be called after the last batch."""
        if self._waiting:
            rows = [row for own, _ in self._waiting for row in own]
            for table, batches in zip(self._tables, zip(*(x for _, x in self._waiting), strict=True), strict=True):
                table[rows] = to_host(batches)
            self._waiting.clear()
