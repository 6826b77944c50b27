"""The stream of minibatches: one per seed, the same for all methods of that seed.

The order of an epoch depends on the seed, the epoch and N only, never on where the rows lie or how much memory there
is. Up to `WHOLE` examples it is one permutation. A larger train split can be read from a disk in its order: the
epoch takes blocks of `SHUFFLE_BLOCK` consecutive examples in random order, and shuffles what lies within a window of
`WINDOW`. (The train split itself is in random order, so a block is a random sample, too.)
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from benchmark.base.torch_seeding import torch_rng

WHOLE = 65_536  # examples of a train split
SHUFFLE_BLOCK = 2_048
WINDOW = 8 * SHUFFLE_BLOCK

Item = TypeVar("Item")


def in_windows(num_examples: int) -> bool:
    """Whether a train split of so many examples is taken in windows, and its features stay on disk."""
    return num_examples > WHOLE


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; before one is given out the next is taken from its source."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


class Minibatches:
    """Positions in the train split, epoch by epoch; an epoch's incomplete last minibatch is left out.

    Args:
        seeds: S seeds.
        num_examples: N of the train split.
        batch_size: B, cut to N.
        keep: (S, H, N) bool; each head then draws from what it keeps (from all, if it keeps nothing), epoch's order
            after epoch's order, and still takes the same number of steps.
    """

    def __init__(self, seeds: tuple[int, ...], num_examples: int, batch_size: int, keep: Tensor | None = None) -> None:
        self.batch_size = min(batch_size, num_examples)
        self.steps_per_epoch = num_examples // self.batch_size
        self._seeds, self._all, self._windows = seeds, torch.arange(num_examples), in_windows(num_examples)
        self._kept: list[list[_Endless]] | None = None
        if keep is not None:
            keep = keep.cpu()
            keep = torch.where(keep.any(-1, keepdim=True), keep, True)
            self._kept = [
                [_Endless(head.nonzero()[:, 0], torch_rng("kept minibatches", seed), self._windows) for head in heads]
                for seed, heads in zip(seeds, keep, strict=True)
            ]

    def epoch(self, epoch: int) -> Tensor:
        """(steps, S, 1, B), or (steps, S, H, B) with `keep`; call with 0, 1, 2, ... in turn."""
        length = self.steps_per_epoch * self.batch_size
        if self._kept is not None:
            drawn = torch.stack([torch.stack([head.take(length) for head in heads]) for heads in self._kept])
        else:
            order = [_shuffled(self._all, torch_rng("minibatches", s, epoch), self._windows) for s in self._seeds]
            drawn = torch.stack([o[:length] for o in order])[:, None]
        return drawn.view(*drawn.shape[:2], self.steps_per_epoch, self.batch_size).movedim(2, 0).contiguous()


class _Endless:
    """All of `items` in random order, and again and again without end."""

    def __init__(self, items: Tensor, rng: torch.Generator, windows: bool) -> None:
        self._items, self._rng, self._windows = items, rng, windows
        self._rest = items[:0]

    def take(self, count: int) -> Tensor:
        while len(self._rest) < count:
            self._rest = torch.cat([self._rest, _shuffled(self._items, self._rng, self._windows)])
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


def _shuffled(items: Tensor, rng: torch.Generator, windows: bool) -> Tensor:
    """One permutation of (n,) items; with `windows`, blocks in random order, shuffled window by window."""
    if not windows:
        return items[torch.randperm(len(items), generator=rng)]
    blocks = items.split(SHUFFLE_BLOCK)
    order = torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=rng).tolist()])
    return torch.cat([window[torch.randperm(len(window), generator=rng)] for window in order.split(WINDOW)])
