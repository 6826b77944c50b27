"""How much a suite's tasks tell: how reliably each ranks methods, how many pairs of methods it tells apart, and how far
its families say the same of them.

Shapes: R methods, S seeds, F families.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmark.analysis.cells import Analysis, Cell
from benchmark.analysis.ranking import comparable, compare_pairs
from benchmark.core.metrics import Floats

LEAST_METHODS = 4  # fewer say nothing of a correlation


@dataclass(frozen=True, eq=False)
class Independence:
    """What each family says of the methods, and how alike that is.

    Attributes:
        families: their names, those without a task that has a gap left out. methods: those that ran all of these tasks.
        recovered: (F, R) mean PGR over the family's tasks that have a gap.
        correlation: (F, F) of its rows.
        left_out: families without such a task.
    """

    families: tuple[str, ...]
    methods: tuple[str, ...]
    recovered: Floats
    correlation: Floats
    left_out: tuple[str, ...]

    @property
    def effective(self) -> float:
        """The effective number of families; NaN with fewer than four methods, or where a family ranks none."""
        return effective_number(self.correlation) if len(self.methods) >= LEAST_METHODS else float("nan")

    @property
    def by_chance(self) -> float:
        """About what it would be if the families had nothing in common.

        Correlations of unrelated vectors of R numbers are not 0: their squares are 1 / (R - 1) on average.
        """
        F, R = self.recovered.shape
        return F / (1 + (F - 1) / (R - 1)) if R >= LEAST_METHODS else float("nan")


def independence(analysis: Analysis, condition: str) -> Independence:
    """Of the families of one condition, by the methods that compete."""
    by_family: dict[str, list[Cell]] = {}
    cells = analysis.headline(condition)
    for cell in cells:
        if cell.has_gap:
            by_family.setdefault(cell.evaluation.family, []).append(cell)
    families = sorted(by_family)
    with_gap = [cell for name in families for cell in by_family[name]]
    methods = comparable(analysis, with_gap)
    recovered = np.array([_recovered(by_family[name], methods) for name in families])
    recovered = recovered.reshape(len(families), len(methods))
    left_out = {cell.evaluation.family for cell in cells} - {*families}
    return Independence(tuple(families), tuple(methods), recovered, correlations(recovered), tuple(sorted(left_out)))


def _recovered(cells: Sequence[Cell], methods: Sequence[str]) -> Floats:
    """(R,) mean PGR over these cells."""
    each = [[sample.mean for row in methods if (sample := cell.recovered(row))] for cell in cells]
    return np.asarray(np.mean(each, axis=0))


def task_reliability(analysis: Analysis, cell: Cell) -> float:
    """`reliability` of the scores of the methods that compete and ran all seeds; NaN with fewer than four."""
    scores = [cell.samples[row].values for row in comparable(analysis, [cell])]
    return reliability(np.array(scores)) if len(scores) >= LEAST_METHODS else float("nan")


def separable(analysis: Analysis, cell: Cell) -> float:
    """Share of the pairs of methods that this task tells apart alone, after Holm's correction over its pairs; NaN with
    fewer than four methods that compete and ran all seeds."""
    pairs = compare_pairs(rows, [cell]) if len(rows := comparable(analysis, [cell])) >= LEAST_METHODS else None
    return pairs.told_apart / pairs.number if pairs else float("nan")


def reliability(scores: Floats) -> float:
    """How well methods' mean scores (R, S) would agree with those of as many other seeds, 0..1; NaN for one seed.

    Seeds are split into halves (of S / 2, rounded down and up) in every way, r is the mean over these splits of the
    correlation between methods' mean scores in the two, and 2 r / (1 + r) is that of means over all seeds, which are
    twice as many (Spearman 1910 and Brown 1910, Brit. J. Psychol. 3, 271 and 296). 0 where r is negative. NaN where
    all methods score the same in a half.
    """
    seeds = range(scores.shape[1])
    if len(seeds) < 2:
        return float("nan")
    found = []
    for half in combinations(seeds, len(seeds) // 2):
        other = [seed for seed in seeds if seed not in half]
        found.append(correlations(np.stack([scores[:, list(half)].mean(1), scores[:, other].mean(1)]))[0, 1])
    r = np.maximum(np.mean(found), 0)
    return float(2 * r / (1 + r))


def effective_number(correlation: Floats) -> float:
    """How many unrelated variables vary as F do whose correlation matrix is this (F, F): 1..F, or NaN.

    (sum of eigenvalues)^2 / sum of squared eigenvalues, the participation ratio: F without any correlation, 1 where all
    are the same (Bretherton et al. 1999, The effective number of spatial degrees of freedom of a time-varying field,
    J. Climate 12, 1990-2009). The sums are the trace and the squared Frobenius norm.
    """
    return float(np.trace(correlation) ** 2 / np.sum(correlation**2)) if len(correlation) else float("nan")


def correlations(rows: Floats) -> Floats:
    """(F, F) Pearson's correlations of rows (F, R); NaN with one whose values are all equal."""
    centred = rows - rows.mean(1, keepdims=True) if rows.size else rows
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    norms[norms <= 1e-9] = np.nan
    return np.asarray((centred / norms) @ (centred / norms).T)
