"""The stream of minibatches: one per seed, the same for all methods of that seed."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.seeding import torch_rng


class Minibatches:
    """Positions in the train split, epoch by epoch; an epoch's incomplete last minibatch is left out.

    Args:
        seeds: S seeds.
        num_examples: N of the train split.
        batch_size: B, cut to N.
        keep: (S, H, N) bool; each head then draws from what it keeps (from all, if it keeps nothing), permutation
            after permutation, and still takes the same number of steps.
    """

    def __init__(self, seeds: tuple[int, ...], num_examples: int, batch_size: int, keep: Tensor | None = None) -> None:
        self.batch_size = min(batch_size, num_examples)
        self.steps_per_epoch = num_examples // self.batch_size
        self._seeds, self._n = seeds, num_examples
        self._kept: list[list[_Endless]] | None = None
        if keep is not None:
            keep = keep.cpu()
            keep = torch.where(keep.any(-1, keepdim=True), keep, True)
            self._kept = [
                [_Endless(head.nonzero()[:, 0], torch_rng("kept minibatches", seed)) for head in heads]
                for seed, heads in zip(seeds, keep, strict=True)
            ]

    def epoch(self, epoch: int) -> Tensor:
        """(steps, S, 1, B), or (steps, S, H, B) with `keep`; call with 0, 1, 2, ... in turn."""
        length = self.steps_per_epoch * self.batch_size
        if self._kept is not None:
            drawn = torch.stack([torch.stack([head.take(length) for head in heads]) for heads in self._kept])
        else:
            order = [torch.randperm(self._n, generator=torch_rng("minibatches", s, epoch)) for s in self._seeds]
            drawn = torch.stack([o[:length] for o in order])[:, None]
        return drawn.unflatten(-1, (self.steps_per_epoch, self.batch_size)).movedim(2, 0).contiguous()


class _Endless:
    """Permutations of `items`, one after the other without end."""

    def __init__(self, items: Tensor, rng: torch.Generator) -> None:
        self._items, self._rng = items, rng
        self._rest = items[:0]

    def take(self, count: int) -> Tensor:
        while len(self._rest) < count:
            order = torch.randperm(len(self._items), generator=self._rng)
            self._rest = torch.cat([self._rest, self._items[order]])
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken
