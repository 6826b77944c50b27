"""The metrics: what each one is, and what it is on bootstrap resamples.

Shapes: P rows of predictions, n examples with known labels, U units that are resampled, B resamples.

`groups` (n,) mean what the metric says. Where groups are resampled they are what is drawn together: documents, cameras,
users. For the worst group and the worst identity they are what the metric partitions by: regions, identities.

Macro-F1 (iWildCam), worst group (fMoW), tenth percentile (Amazon) and worst identity (CivilComments) are the official
metrics of WILDS (Koh et al. 2021, arXiv:2012.07421); `tests/with_wilds` compares them with its own code.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Scores = NDArray[np.float64]
Index = NDArray[np.int64]
Weights = NDArray[np.float32]

# The identities of CivilComments, in the order of WILDS. Bit i of an example's group id: whether it mentions the ith.
IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")


@dataclass(frozen=True, eq=False)
class Split:
    """One seed's examples with known labels."""

    predictions: NDArray[Any]  # (P, n) predicted class ids of each row (a replica of a method)
    labels: Index  # (n,) classes
    groups: Index  # (n,) ids that mean the same group in every seed

    @classmethod
    def of(cls, predictions: NDArray[Any], labels: Index, groups: Index) -> Self:
        """The part of these examples whose label is known (not -1)."""
        return cls(predictions, labels, groups).part(labels >= 0)

    def part(self, which: NDArray[np.bool_]) -> Self:
        """Some of the examples, (n,) which."""
        return type(self)(self.predictions[:, which], self.labels[which], self.groups[which])

    @cached_property
    def hits(self) -> NDArray[np.bool_]:
        """(P, n) whether each row's prediction is right."""
        return np.asarray(self.predictions == self.labels)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        score: split -> (P,) scores in 0..1.
        on_resamples: (split, unit (n,), weights (U, B)) -> (P, B) scores when example i counts weights[unit[i]] times,
            as if it stood in the split so often; NaN where nothing is drawn.
        resampled: what a resample draws. "groups": whole groups, the same ones in every seed; "examples": single ones;
            "examples within groups": single ones, each group keeping its size.
        uniform_chance: whether guessing all classes alike scores 1/K on average, whatever the classes' and the groups'
            shares are.
        undefined: groups (n,) -> why the metric has no value on them, or None.
    """

    score: Callable[[Split], Scores]
    on_resamples: Callable[[Split, Index, Weights], Floats]
    resampled: Literal["groups", "examples", "examples within groups"] = "groups"
    uniform_chance: bool = False
    undefined: Callable[[Index], str | None] = lambda groups: None


def _balanced_accuracy(split: Split) -> Scores:
    """Mean recall over the classes that occur."""
    return np.asarray(_mean_over_parts(split.hits, split.labels).mean(1))


def _balanced_accuracy_on_resamples(split: Split, unit: Index, weights: Weights) -> Floats:
    """A class that a resample lacks is left out of its mean."""
    members = [split.labels == label for label in np.unique(split.labels)]
    return nanmean(np.array([_weighted_mean(split.hits[:, at], unit[at], weights) for at in members]))


def _macro_f1(split: Split) -> Scores:
    """Mean over the classes that occur among the labels of F1 = 2 TP / (2 TP + FP + FN)."""
    one = np.ones((1, 1), np.float32)
    return np.asarray(_macro_f1_on_resamples(split, np.zeros_like(split.labels), one)[:, 0], np.float64)


def _macro_f1_on_resamples(split: Split, unit: Index, weights: Weights) -> Floats:
    """2 TP + FP + FN is how often a class is true plus how often it is predicted; both add up over units, so they are
    counted once for each class and unit. Classes that occur are those among a resample's own labels."""
    from scipy.sparse import csr_array  # takes a while to import, and few tasks have this metric

    classes, label = np.unique(split.labels, return_inverse=True)

    def occurrences(class_of: Index, at: NDArray[np.bool_]) -> Weights:
        """(K, B): how often each class stands at these examples; whole numbers below 2^24, exact in float32."""
        ones = np.ones(int(at.sum()), np.float32)
        counts = csr_array((ones, (class_of[at], unit[at])), shape=(len(classes), len(weights)))
        return np.asarray(counts @ weights)

    true = occurrences(label, np.ones(len(label), bool))
    occurs = true > 0
    scores = np.empty((len(split.predictions), weights.shape[1]))
    for row, (predictions, hits) in enumerate(zip(split.predictions, split.hits, strict=True)):
        predicted = np.searchsorted(classes, predictions).clip(max=len(classes) - 1)
        both = true + occurrences(predicted, classes[predicted] == predictions)
        f1 = np.zeros(true.shape)
        np.divide(2 * occurrences(label, hits), both, out=f1, where=occurs, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            scores[row] = f1.sum(0) / occurs.sum(0)
    return scores


# (labels (n,), groups (n,)) -> positions (m,) of examples and the part (m,) that each stands in; parts may overlap
_Parts = Callable[[Index, Index], tuple[Index, Index]]


def _by_group(labels: Index, groups: Index) -> tuple[Index, Index]:
    """A group is a part. An example with a negative id is in none (in fMoW: region "Other", as in WILDS)."""
    at = np.flatnonzero(groups >= 0)
    return at, groups[at]


def _by_identity(labels: Index, groups: Index) -> tuple[Index, Index]:
    """The examples that mention an identity and have one label are a part."""
    at, identity = np.nonzero(groups[:, None] >> np.arange(len(IDENTITIES)) & 1)
    return at, identity * (labels.max(initial=0) + 1) + labels[at]


def _worst(parts: _Parts, split: Split) -> Scores:
    """Accuracy on the part that fares worst. A part without examples doesn't count (WILDS scores an empty part of
    CivilComments 0, but its official test set has none)."""
    at, part = parts(split.labels, split.groups)
    return np.asarray(_mean_over_parts(split.hits[:, at], part).min(1))


def _worst_on_resamples(parts: _Parts, split: Split, unit: Index, weights: Weights) -> Floats:
    """A part that a resample lacks is left out of its minimum."""
    positions, part = parts(split.labels, split.groups)
    worst = np.full((len(split.hits), weights.shape[1]), np.nan)
    for one in np.unique(part):
        at = positions[part == one]
        np.fmin(worst, _weighted_mean(split.hits[:, at], unit[at], weights), out=worst)
    return worst


def _no_group(groups: Index) -> str | None:
    return None if (groups >= 0).any() else f"none of the {len(groups)} examples is in a group (all ids are negative)"


def _no_identity(groups: Index) -> str | None:
    limit = 2 ** len(IDENTITIES)
    if not 0 <= groups.min() <= groups.max() < limit:
        return f"groups are {groups.min()}..{groups.max()}, expected bit masks of identities, 0..{limit - 1}"
    return None if groups.any() else f"none of the {len(groups)} examples mentions an identity (all groups are 0)"


def _tenth_percentile(split: Split) -> Scores:
    """10th percentile (interpolated linearly) of the groups' accuracies."""
    return np.asarray(np.percentile(_mean_over_parts(split.hits, split.groups), 10, axis=1))


def _tenth_percentile_on_resamples(split: Split, unit: Index, weights: Weights) -> Floats:
    """Units are the groups; one that is drawn twice is two groups."""
    accuracies = _mean_over_parts(split.hits, unit)
    drawn = weights[np.unique(unit)]
    last = drawn.sum(0, dtype=np.float64) - 1  # place of the best group in a resample, counted from 0
    place = 0.1 * last
    below = np.floor(place)
    scores = np.empty((len(accuracies), weights.shape[1]))
    for row, values in enumerate(accuracies):
        order = values.argsort()
        ends = drawn[order].cumsum(0)
        # The group at a place is the first, in order, up to which more than `place` are drawn.
        low, high = (values[order][(ends <= at).sum(0).clip(max=len(values) - 1)] for at in (below, below + 1))
        scores[row] = low + (high - low) * (place - below)
    scores[:, last < 0] = np.nan
    return scores


def _mean_over_parts(hits: NDArray[np.bool_], parts: Index) -> Scores:
    """Mean of hits (P, n) within each part that occurs in parts (n,): (P, number of parts)."""
    _, inverse, sizes = np.unique(parts, return_inverse=True, return_counts=True)
    sums = np.array([np.bincount(inverse, weights=row, minlength=len(sizes)) for row in hits])
    means: Scores = sums.reshape(len(hits), len(sizes)) / sizes
    return means


def _weighted_mean(hits: NDArray[np.bool_], unit: Index, weights: Weights) -> Floats:
    """Means of hits (P, n) when example i counts weights[unit[i]] times: (P, B), NaN where the weights are all 0.

    Hits are added up over units first, then one product with the weights (U, B) gives the sums of all rows and, from a
    row of ones, the sums of the weights. They are whole numbers below 2^24: float32 gives them exactly, in any order.
    """
    own, sizes = np.unique(unit, return_counts=True)
    rows = np.ones((len(hits) + 1, hits.shape[1]), np.float32)
    rows[:-1] = hits[:, unit.argsort()]
    sums = np.add.reduceat(rows, sizes.cumsum() - sizes, axis=1)
    sums = sums @ (weights if len(own) == len(weights) else weights[own])
    with np.errstate(invalid="ignore"):
        means: Floats = sums[:-1] / sums[-1]
    return means


def nanmean(values: Floats) -> Floats:
    """Mean over the first axis of what is defined; NaN where nothing is."""
    if not np.isnan(values).any():
        return np.asarray(values.mean(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an all-NaN column
        return np.asarray(np.nanmean(values, axis=0))


# Where groups are the population (cameras, users), another test set has other ones. The worst group is about the groups
# that are there: each keeps its size. Parts by identity overlap and another test set has them in other sizes, so single
# examples are drawn; drawing within each combination of identities would freeze the many that one example has.
METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        lambda split: np.asarray(split.hits.mean(1)),
        lambda split, unit, weights: _weighted_mean(split.hits, unit, weights),
        uniform_chance=True,
    ),
    "balanced_accuracy": Metric(_balanced_accuracy, _balanced_accuracy_on_resamples, uniform_chance=True),
    "macro_f1": Metric(_macro_f1, _macro_f1_on_resamples),
    "tenth_percentile_accuracy": Metric(_tenth_percentile, _tenth_percentile_on_resamples),
    "worst_group_accuracy": Metric(
        partial(_worst, _by_group),
        partial(_worst_on_resamples, _by_group),
        "examples within groups",
        undefined=_no_group,
    ),
    "worst_identity_accuracy": Metric(
        partial(_worst, _by_identity), partial(_worst_on_resamples, _by_identity), "examples", undefined=_no_identity
    ),
}
