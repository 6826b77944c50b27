"""Intervals for paired scores: small pure functions on arrays.

Shapes: S seeds, B bootstrap resamples, P rows of predictions (a row is one replica of one method), n test examples.

**What an interval says.** The half-width of a 95% interval is sqrt(h_seed^2 + h_example^2):

- h_seed, what another seed would change (supervisors, split, initial weights, order): a t interval on the seeds' means,
  paired, i.e. taken on per-seed differences when two methods are compared, and on per-seed means over tasks for a mean
  over tasks;
- h_example, what other test examples would change: half the 2.5%..97.5% range of a bootstrap that resamples groups
  (documents, font families) of a (task, condition). All methods and all seeds of it get the same resample, since the
  seeds' test splits overlap: a group must weigh the same in each of them. (For the worst group or identity, single
  examples are resampled, the same for all methods but not for all seeds.)

The sum is conservative: a seed also draws its own test split, so part of what h_example measures is in h_seed already.
With very few groups (a handful of font families) the bootstrap is known to be too narrow; h_seed carries the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import rankdata, t

from benchmark.metrics import METRICS, Floats, Index, Metric, Split, Weights, nanmean

RESAMPLES = 2000
LEVEL = 0.95
ROUNDING = 1e-6  # scores closer than this are equal
LEAST_GAP = 0.02  # between ceiling and floor; below it PGR is undefined


@dataclass(frozen=True, eq=False)
class Sample:
    """A quantity on one (task, condition), whose estimate is the mean over seeds.

    Attributes:
        seeds: the S seeds it is known for.
        values: (S,) its value for each seed.
        replicates: (S, B) its value on each bootstrap resample; NaN where a resample has no example of a seed.
    """

    seeds: tuple[int, ...]
    values: Floats
    replicates: Floats

    @cached_property
    def mean(self) -> float:
        return float(self.values.mean())

    @cached_property
    def mean_replicates(self) -> Floats:
        """(B,) mean over seeds."""
        return nanmean(self.replicates)

    def on(self, seeds: Sequence[int]) -> Sample:
        """The same quantity for some of its seeds."""
        if tuple(seeds) == self.seeds:
            return self
        at = [self.seeds.index(seed) for seed in seeds]
        return Sample(tuple(seeds), self.values[at], self.replicates[at])


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks and the two parts of its 95% half-width; `runs` counts the (task, seed) pairs in it."""

    mean: float
    seed_half: float
    example_half: float
    tasks: int
    runs: int

    @property
    def half(self) -> float:
        """Half-width of the 95% interval; NaN when there are fewer than two seeds."""
        return float(np.hypot(self.seed_half, self.example_half))


def estimate(samples: Sequence[Sample]) -> Estimate:
    """Mean over tasks of the means over seeds. The seeds' part is paired over tasks: it needs seeds that all share."""
    common = common_seeds(*samples)
    per_seed = np.array([sample.on(common).values for sample in samples]).mean(0)
    replicates = np.mean([sample.mean_replicates for sample in samples], axis=0)
    return Estimate(
        mean=float(np.mean([sample.mean for sample in samples])),
        seed_half=t_half_width(per_seed),
        example_half=percentile_half_width(replicates),
        tasks=len(samples),
        runs=sum(len(sample.seeds) for sample in samples),
    )


def common_seeds(*samples: Sample) -> tuple[int, ...]:
    """Seeds that every sample has, in order."""
    return tuple(sorted(set.intersection(*(set(sample.seeds) for sample in samples))))


def t_half_width(values: Floats) -> float:
    """Half-width of the t interval for the mean of values (S,); NaN for fewer than two."""
    size = len(values)
    if size < 2:
        return float("nan")
    return float(t.ppf((1 + LEVEL) / 2, size - 1) * np.std(values, ddof=1) / np.sqrt(size))


def percentile_half_width(replicates: Floats) -> float:
    """Half the 2.5%..97.5% range of replicates (B,); NaN when none is defined."""
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return float("nan")
    low, high = np.percentile(replicates, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(high - low) / 2


def difference(a: Sample, b: Sample) -> Sample | None:
    """a - b, paired by seed and by resample; None without a common seed."""
    seeds = common_seeds(a, b)
    if not seeds:
        return None
    a, b = a.on(seeds), b.on(seeds)
    return Sample(seeds, a.values - b.values, a.replicates - b.replicates)


def recovered_gap(student: Sample, floor: Sample, ceiling: Sample) -> Sample | None:
    """PGR = (student - floor) / (ceiling - floor), a ratio of seed means; None when that gap is below 2 points.

    Its values are linearised around the ratio r, r + (student - floor - r (ceiling - floor)) / gap for each seed and
    resample: their mean over seeds is r, and a resample whose own gap is near 0 can't blow the interval up.
    """
    if not gap_defined(floor, ceiling):
        return None
    seeds = common_seeds(student, floor, ceiling)
    if not seeds:
        return None
    student, floor, ceiling = student.on(seeds), floor.on(seeds), ceiling.on(seeds)
    gap = ceiling.mean - floor.mean
    if gap < LEAST_GAP - ROUNDING:  # on the seeds that the student has
        return None
    ratio = (student.mean - floor.mean) / gap
    parts = [
        ratio + (one - low - ratio * (high - low)) / gap
        for one, low, high in (
            (student.values, floor.values, ceiling.values),
            (student.replicates, floor.replicates, ceiling.replicates),
        )
    ]
    return Sample(seeds, *parts)


def gap_defined(floor: Sample, ceiling: Sample) -> bool:
    """Whether PGR is defined on this (task, condition): decided once, from all seeds, for all methods."""
    seeds = common_seeds(floor, ceiling)
    return bool(seeds) and ceiling.on(seeds).mean - floor.on(seeds).mean > LEAST_GAP - ROUNDING


def failure(student: Sample, floor: Sample) -> Sample | None:
    """1 for each seed where the student is worse than the mean of its supervisors, else 0."""
    gain = difference(student, floor)
    if gain is None:
        return None
    replicates = np.where(np.isnan(gain.replicates), np.nan, gain.replicates < -ROUNDING)
    return Sample(gain.seeds, (gain.values < -ROUNDING).astype(np.float64), replicates)


def rank_correlation(weights: Floats, scores: Floats) -> float:
    """Spearman's correlation of weights (M,) and scores (M,); NaN when either is constant."""
    a, b = rankdata(weights), rankdata(scores)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def bootstrap(metric: str, splits: Sequence[Split], resamples: int, rng: np.random.Generator) -> list[Floats]:
    """Scores of every row on every resample, (P, B) for each split.

    The splits of all seeds share their resamples where groups are drawn; single examples (which have no name that holds
    for all seeds) are drawn for each split anew. NaN where a resample has no example of a split.
    """
    chosen = METRICS[metric]
    if chosen.resampled == "groups":
        ids = np.unique(np.concatenate([split.groups for split in splits]))
        counts = resample_counts(len(ids), resamples, rng)
        return [_in_blocks(chosen, split, np.searchsorted(ids, split.groups), counts) for split in splits]
    scores = []
    for split in splits:
        n = len(split.labels)
        counts = np.empty((n, resamples), np.float32)
        strata = split.groups if chosen.resampled == "examples within groups" else np.zeros(n, np.int64)
        for stratum in np.unique(strata):
            at = strata == stratum
            counts[at] = resample_counts(int(at.sum()), resamples, rng)
        scores.append(_in_blocks(chosen, split, np.arange(n), counts))
    return scores


def _in_blocks(metric: Metric, split: Split, unit: Index, counts: Weights) -> Floats:
    """`metric.on_resamples`, some resamples at a time: what it makes of them on the way stays small."""
    block = max(1, 2_000_000 // len(split.labels))
    starts = range(0, counts.shape[1], block)
    return np.concatenate([metric.on_resamples(split, unit, counts[:, i : i + block]) for i in starts], axis=1)


def resample_counts(size: int, resamples: int, rng: np.random.Generator) -> Weights:
    """(size, B): how often each of `size` things is drawn in `size` draws with replacement."""
    counts = np.empty((size, resamples), np.float32)
    block = max(1, 200_000 // size)  # resamples at a time, so that counting stays in the processor's cache
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        draws = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        counts[:, start : start + rows] = np.bincount(draws.ravel(), minlength=rows * size).reshape(rows, size).T
    return counts
