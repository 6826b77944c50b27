"""The group bootstrap: scores on resamples of a (task, condition)'s examples.

Shapes: B resamples, U units that are resampled (groups, or single examples), P rows of predictions, n examples.

All methods, seeds and metrics of a (task, condition) share the same draws, so differences between them are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from benchmark.core.metrics import METRICS, Floats, Index, Split

Counts = NDArray[np.uint8]
# Counts at a time when drawing and when scoring, so that what is made of them on the way stays small.
_DRAWN, _SCORED = 400_000, 1_000_000
_SLACK = 4.0  # standard deviations by which the Poisson counts' sum is meant to fall short


@dataclass(frozen=True, eq=False)
class Draws:
    """The resamples of one split.

    Attributes:
        unit: (n,) the unit, 0..U-1, that each of the split's examples belongs to.
        counts: (U, B) how often each unit is drawn.
    """

    unit: Index
    counts: Counts

    def of(self, part: NDArray[np.bool_]) -> Self:
        """The same resamples of some of the split's examples, (n,) which."""
        return replace(self, unit=self.unit[part])

    def scores(self, metric: str, split: Split) -> Floats:
        """(P, B) score of every row of predictions on every resample; NaN where a resample has no example."""
        own, unit = np.unique(self.unit, return_inverse=True)
        resamples = self.counts.shape[1]
        scores = np.empty((len(split.predictions), resamples), np.float32)
        block = max(1, _SCORED // len(own))
        for start in range(0, resamples, block):
            weights = self.counts[own, start : start + block].astype(np.float32)
            scores[:, start : start + block] = METRICS[metric].on_resamples(split, unit, weights)
        return scores


def draw(metric: str, splits: Sequence[Split], resamples: int, rng: np.random.Generator) -> list[Draws]:
    """Resamples for the splits of all seeds, drawn as the metric says.

    Where groups are drawn, all splits share the counts: a group weighs the same in each of them. Single examples (which
    have no name that holds for all seeds) are drawn for each split anew.
    """
    resampled = METRICS[metric].resampled
    if resampled == "groups":
        ids = np.unique(np.concatenate([split.groups for split in splits]))
        counts = resample_counts(len(ids), resamples, rng)
        return [Draws(np.searchsorted(ids, split.groups), counts) for split in splits]
    drawn = []
    for split in splits:
        n = len(split.labels)
        counts = np.empty((n, resamples), np.uint8)
        strata = split.groups if resampled == "examples within groups" else np.zeros(n, np.int64)
        for stratum in np.unique(strata):
            at = strata == stratum
            counts[at] = resample_counts(int(at.sum()), resamples, rng)
        drawn.append(Draws(np.arange(n), counts))
    return drawn


def bootstrap(metric: str, splits: Sequence[Split], resamples: int, rng: np.random.Generator) -> list[Floats]:
    """Scores of every row on every resample, (P, B) for each split."""
    drawn = draw(metric, splits, resamples, rng)
    return [draws.scores(metric, split) for draws, split in zip(drawn, splits, strict=True)]


def resample_counts(size: int, resamples: int, rng: np.random.Generator) -> Counts:
    """(size, B): how often each of `size` things is drawn in `size` draws with replacement.

    Most draws are made all at once: independent Poisson counts, given their sum N, are N draws with replacement. The
    size - N that are missing are drawn one by one; their number is kept small by a Poisson mean of a little less than
    1. Poisson counts come from a table of 2^16 quantiles, so their probabilities are exact to 2^-16. No count comes
    near 256.
    """
    mean = max(0.0, 1 - _SLACK / np.sqrt(size))
    table = np.searchsorted(pdtr(np.arange(32), mean), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)
    counts = np.empty((size, resamples), np.uint8)
    width = min(resamples, max(1, _DRAWN // size))
    for start in range(0, resamples, width):
        columns = min(width, resamples - start)
        block = np.zeros((size, columns), np.uint8)
        if mean > 0:
            words = rng.bit_generator.random_raw(-(-size * columns // 4)).view(np.uint16)
            np.take(table, words[: size * columns].reshape(size, columns), out=block, mode="clip")
        missing = size - block.sum(0, dtype=np.int64)
        block[:, missing < 0] = 0  # once in thousands of resamples the sum is too large: that one is drawn one by one
        missing[missing < 0] = size
        column = np.repeat(np.arange(columns), missing)
        cell = rng.integers(0, size, len(column)) * columns + column
        np.add.at(block.reshape(-1), cell, np.uint8(1))
        counts[:, start : start + columns] = block
    return counts
