"""Intervals and p-values for paired scores: small pure functions on arrays.

Shapes: S seeds, B bootstrap resamples, M supervisors.

**What an interval says.** The half-width of an interval of level 1 - alpha is sqrt(h_seed^2 + h_example^2):

- h_seed = t(1 - alpha/2, df) * se_seed, what another seed would change (supervisors, split, initial weights, order).
  Of scores it is a t interval on the seeds' means over tasks, weighted as that mean is (`family_weights`), with S - 1
  degrees of freedom: scores of one seed covary between tasks. Paired differences of two methods don't, but between
  tasks that share a pool; so the variance of their mean is pooled over blocks of such tasks (`pooled_error`);
- h_example = z(1 - alpha/2) * se_example, what other examples would change: se_example is the standard deviation over
  resamples of groups (documents, font families) of a (task, condition), whatever split they are scored in. All methods
  and all seeds of it get the same resample, since the seeds' pools overlap: a group must weigh the same in each of
  them. (For the worst group or identity, single examples are resampled, the same for all methods, not for all seeds.)

The sum is conservative: a seed also draws its own test split, so part of what h_example measures is in h_seed already.
With very few groups (a handful of font families) the bootstrap is known to be too narrow; h_seed carries the interval.

**What a p-value says.** It is the alpha at which the interval just reaches 0, so p < 0.05 says exactly that the 95%
interval leaves 0 out. For that h_example is a normal one, not the 2.5%..97.5% range of the resamples: quantiles far out
in the tail, which corrections for many comparisons ask for, can't be counted in 10,000 resamples. Means over hundreds
of examples are near normal: of the default suite's scores and gains, 98% have a range that is 0.93 to 1.05 times the
normal one; the rest, 0.7 to 1.2, are mostly those of a task with four groups.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit  # scipy.stats takes a second to import

from benchmark.analysis.example_errors import ExampleErrors, known
from benchmark.core.metrics import Floats, nanmean

RESAMPLES = 10_000
LEVEL = 0.95
ROUNDING = 1e-6  # scores closer than this are equal
LEAST_GAP = 0.02  # between ceiling and floor; below it PGR is undefined


@dataclass(frozen=True, eq=False)
class Sample:
    """A quantity on one (task, condition), whose estimate is the mean over seeds.

    Attributes:
        seeds: the S seeds it is known for.
        values: (S,) its value for each seed.
        resampled: (S, B) its value on each bootstrap resample, or what makes them; see `replicates`.
        name: what it is, in one folder of results; under it its error from test examples is kept in `errors`.
        paired: it is a paired difference of two rows, whose errors from seeds are those of its pool alone.
    """

    seeds: tuple[int, ...]
    values: Floats
    resampled: Floats | Callable[[], Floats]
    name: str = ""
    errors: ExampleErrors | None = None
    paired: bool = False

    @cached_property
    def replicates(self) -> Floats:
        """(S, B) its value on each bootstrap resample; NaN where a resample has no example of a seed."""
        return self.resampled() if callable(self.resampled) else self.resampled

    @cached_property
    def mean(self) -> float:
        return float(self.values.mean())

    @cached_property
    def mean_replicates(self) -> Floats:
        """(B,) mean over seeds."""
        return nanmean(self.replicates)

    def on(self, seeds: Sequence[int]) -> "Sample":
        """The same quantity for some of its seeds."""
        if tuple(seeds) == self.seeds:
            return self
        at = [self.seeds.index(seed) for seed in seeds]
        name = f"{self.name}@{','.join(map(str, seeds))}"
        return Sample(tuple(seeds), self.values[at], lambda: self.replicates[at], name, self.errors, self.paired)


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks, and what is known of its error.

    Attributes:
        seed_error: standard error from seeds; NaN for fewer than two. example_error: from test examples.
        freedom: degrees of freedom of `seed_error`.
        tasks: number of tasks. runs: number of (task, seed) pairs in the mean.
    """

    mean: float
    seed_error: float
    example_error: float
    freedom: float
    tasks: int
    runs: int

    @property
    def half(self) -> float:
        """Half-width of the 95% interval; NaN when there are fewer than two seeds."""
        return float(half_width(1 - LEVEL, self.seed_error, self.example_error, self.freedom))

    @property
    def example_half(self) -> float:
        """Half-width from test examples alone."""
        return float(half_width(1 - LEVEL, 0.0, self.example_error, 1))

    @property
    def p(self) -> float:
        """Of the hypothesis that the truth is 0, two-sided; NaN when there are fewer than two seeds."""
        return float(p_value(self.mean, self.seed_error, self.example_error, self.freedom))


def family_weights(families: Sequence[str], units: Sequence[Hashable] | None = None) -> Floats:
    """(T,) the weight of each task in a mean over families of means over their units of means over their tasks.

    That is 1 / (F * n * k) for a task of one of F families that has n units, of which the task's has k tasks.

    Args:
        families: of each of the T tasks.
        units: of each of the T tasks, what counts once in its family; None: each task is one.
    """
    places = list(zip(families, range(len(families)) if units is None else units, strict=True))
    tasks, sizes = Counter(places), Counter(family for family, _ in {*places})
    return np.array([1 / (len(sizes) * sizes[place[0]] * tasks[place]) for place in places])


def estimate(
    samples: Sequence[Sample], weights: Floats | None = None, blocks: Sequence[Hashable] | None = None
) -> Estimate:
    """Mean over tasks of the means over seeds.

    The seeds' part is paired over the tasks of a block, of which it needs seeds that all share, and pooled over blocks.

    Args:
        weights: (T,) of the tasks, which sum to 1; None for equal ones.
        blocks: of each of the T tasks, the name of its block; None: all are one.
    """
    weights = np.full(len(samples), 1 / len(samples)) if weights is None else weights

    def errors_of_examples() -> Floats:
        return example_error(joint_replicates(samples, weights))

    by_block = [weights[at] @ seed_values([samples[i] for i in at]) for at in in_blocks(blocks or [0] * len(samples))]
    error, freedom = pooled_error(by_block)
    return Estimate(
        mean=float(weights @ [sample.mean for sample in samples]),
        seed_error=float(error),
        example_error=known(samples[0].errors, joint_name(samples, weights), errors_of_examples),
        freedom=float(freedom),
        tasks=len(samples),
        runs=sum(len(sample.seeds) for sample in samples),
    )


def in_blocks(blocks: Sequence[Hashable]) -> list[list[int]]:
    """The places of each block's tasks, blocks in the order in which they come."""
    return [[i for i, block in enumerate(blocks) if block == one] for one in dict.fromkeys(blocks)]


def seed_values(samples: Sequence[Sample]) -> Floats:
    """(T, S) values of T samples for the seeds that all of them have."""
    common = common_seeds(*samples)
    return np.array([sample.on(common).values for sample in samples])


def pooled_error(blocks: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Standard error of a sum of means over seeds, each block's independent of the others', and its degrees of freedom.

    Block b has the values d_bs of its seeds s = 1..S_b, already weighted as the sum wants them, with sample variance
    s_b^2. The squared error is V = sum_b s_b^2 / S_b and df = V^2 / sum_b ((s_b^2 / S_b)^2 / (S_b - 1)) (Satterthwaite
    1946, An approximate distribution of estimates of variance components, Biometrics Bulletin 2, 110-114; Welch 1947).
    With S seeds in every block that is V = sum_b s_b^2 / S, df = (S - 1) (sum_b s_b^2)^2 / sum_b s_b^4. Of one block it
    is the ordinary error of a mean with S - 1 degrees of freedom.

    Args:
        blocks: (..., S_b) for each block.

    Returns:
        (...) each; where a block has fewer than two seeds the error is NaN, and df 1.
    """
    counts = np.array([values.shape[-1] for values in blocks])
    V = np.stack([seed_error(values) ** 2 for values in blocks], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = V.sum(-1) ** 2 / (V**2 / np.maximum(counts - 1, 1)).sum(-1)
    least = max(int(counts.min()) - 1, 1)  # of differences that never vary, where df doesn't matter
    return np.sqrt(V.sum(-1)), np.where(np.isfinite(freedom), freedom, least)


def joint_replicates(samples: Sequence[Sample], weights: Floats) -> Floats:
    """(B,) mean over tasks, by these weights (T,), of the means over seeds."""
    return np.asarray(weights @ np.array([sample.mean_replicates for sample in samples]))


def joint_name(samples: Sequence[Sample], weights: Floats) -> str:
    """What a mean over tasks by these weights is, as `Sample.name`."""
    return "+".join(f"{weight:.9g}*{sample.name}" for weight, sample in zip(weights, samples, strict=True))


def common_seeds(*samples: Sample) -> tuple[int, ...]:
    """Seeds that every sample has, in order."""
    return tuple(sorted(set.intersection(*map(set, {sample.seeds for sample in samples}))))


def seed_error(values: Floats) -> Floats:
    """Standard error of the mean over the last axis of values (..., S); NaN for fewer than two."""
    size = values.shape[-1]
    if size < 2:
        return np.full(values.shape[:-1], np.nan)
    return np.asarray(np.std(values, axis=-1, ddof=1) / np.sqrt(size))


def example_error(replicates: Floats) -> Floats:
    """Standard deviation over the last axis of replicates (..., B), undefined ones left out; NaN when all are."""
    defined = np.isfinite(replicates)
    if defined.all():
        return np.asarray(np.std(replicates, axis=-1, dtype=np.float64))
    counts = defined.sum(-1)
    with np.errstate(invalid="ignore"):
        means = np.where(defined, replicates, 0).sum(-1, dtype=np.float64) / counts
        squares = np.where(defined, replicates - means[..., None], 0) ** 2
        return np.asarray(np.sqrt(squares.sum(-1) / counts))


def half_width(
    alpha: ArrayLike, seed_error: ArrayLike, example_error: ArrayLike, freedom: ArrayLike
) -> NDArray[np.float64]:
    """Half-width of the interval of level 1 - alpha, elementwise; NaN where an error is."""
    tail = np.asarray(alpha) / 2
    return np.asarray(np.hypot(-stdtrit(freedom, tail) * seed_error, -ndtri(tail) * example_error))


def p_value(
    mean: ArrayLike, seed_error: ArrayLike, example_error: ArrayLike, freedom: ArrayLike
) -> NDArray[np.float64]:
    """The alpha at which `half_width` is |mean|, elementwise; NaN where an error is.

    Found by halving an interval of log(alpha), which goes down to 1e-200: below, quantiles of t overflow. 1 for a mean
    of 0; next to 0 for a mean without any error.
    """
    distance, seed_error, example_error, freedom = np.broadcast_arrays(np.abs(mean), seed_error, example_error, freedom)
    low, high = np.full(distance.shape, np.log(1e-200)), np.zeros(distance.shape)
    for _ in range(60):
        middle = (low + high) / 2
        reaches = half_width(np.exp(middle), seed_error, example_error, freedom) >= distance
        low, high = np.where(reaches, middle, low), np.where(reaches, high, middle)
    return np.where(np.isnan(seed_error) | np.isnan(example_error), np.nan, np.exp(high))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's (1979) adjusted p-values (m,) of a family of m tests; an undefined one counts as 1.

    Rejecting what is adjusted to less than 0.05 makes a false rejection anywhere in the family, whichever of its
    hypotheses are true and however they depend on each other, at most 5% likely.
    """
    p = np.nan_to_num(np.asarray(p_values, np.float64), nan=1.0)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def combined(name: str, function: Callable[..., Floats], *samples: Sample, paired: bool = False) -> Sample | None:
    """An elementwise function of samples, paired by seed and by resample; None without a common seed.

    For one method in two conditions only seeds are paired: their pools' resamples are drawn independently.

    Args:
        name: of the function. It is given values (S,) and replicates (S, B), in which NaN must stay.
        paired: see `Sample`.
    """
    seeds = common_seeds(*samples)
    if not seeds:
        return None
    own = [sample.on(seeds) for sample in samples]
    return Sample(
        seeds,
        function(*(sample.values for sample in own)),
        lambda: function(*(sample.replicates for sample in own)),
        f"{name}({', '.join(sample.name for sample in own)})",
        own[0].errors,
        paired,
    )


def difference(a: Sample, b: Sample) -> Sample | None:
    """a - b, of two rows on one (task, condition), or two such differences."""
    return combined("difference", np.subtract, a, b, paired=True)


def change(after: Sample, before: Sample) -> Sample | None:
    """after - before, of what covaries between tasks, as scores do: one row in two conditions."""
    return combined("difference", np.subtract, after, before)


def improvement(a: Sample, b: Sample) -> Sample | None:
    """1 for each seed where a is higher than b, 1/2 where they are equal, else 0: its mean is the probability of
    improvement.

    The idea is rliable's (Agarwal et al. 2021, arXiv:2108.13264), who average over all pairs of runs of two algorithms
    on a task. Here only runs of the same seed are compared: they share split, minibatches and initial weights.

    Over few runs that are nearly all won, or lost, intervals are too short, as for any share: of 15 runs (three tasks)
    they cover about 92%, not 95%, in simulation.
    """
    return combined("improvement", lambda x, y: (1 + np.sign(_unless_equal(x - y))) / 2, a, b, paired=True)


def failure(student: Sample, floor: Sample) -> Sample | None:
    """1 for each seed where the student is worse than the floor, else 0."""
    return combined("failure", lambda x, y: np.sign(np.maximum(_unless_equal(y - x), 0)), student, floor)


def _unless_equal(differences: Floats) -> Floats:
    """Differences of scores, 0 where they are equal; NaN stays."""
    return np.where(np.abs(differences) <= ROUNDING, differences.dtype.type(0), differences)


def recovered_gap(gain: Sample, gap: Sample) -> Sample | None:
    """PGR = (student - floor) / (ceiling - floor), a ratio of seed means; None when that gap is below 2 points.

    Its values are linearised around the ratio r, r + (student - floor - r (ceiling - floor)) / gap for each seed and
    resample: their mean over seeds is r, and a resample whose own gap is near 0 can't blow the interval up.

    Args:
        gain: student - floor. gap: ceiling - floor. All on the test split: the ceiling is trained on the truth of the
            train split, and students on the supervisors' answers to it.
    """
    seeds = common_seeds(gain, gap)
    if not seeds or not gap_defined(gap):
        return None
    width = gap.on(seeds).mean
    if width < LEAST_GAP - ROUNDING:  # on the seeds that the student has
        return None
    ratio = gain.on(seeds).mean / width
    return combined("PGR", lambda gain, gap: ratio + (gain - ratio * gap) / width, gain, gap)


def gap_defined(gap: Sample | None) -> bool:
    """Whether PGR is defined on a (task, condition), by ceiling - floor: decided once, from all seeds, for all
    methods."""
    return gap is not None and gap.mean > LEAST_GAP - ROUNDING


def rank_correlation(weights: Floats, scores: Floats) -> float:
    """Spearman's correlation of weights (M,) and scores (M,); NaN when either is constant."""
    a, b = _ranks(weights), _ranks(scores)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Floats) -> Floats:
    """Places from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[place])
