"""Ranks that show ties as ties: p-values of all pairs of methods, corrected for their number, then counted.

**Rank = 1 + number of methods that are significantly better.** Every pair of competitors is compared by its paired mean
difference over the same tasks, families first (`statistics.p_value`, `cells.task_weights`); Holm's correction over all
these pairs keeps the chance that any method is ranked below one that is no better at 5%. Being tied is not transitive:
a may be told apart from b, but c from neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmark.analysis.cells import Analysis, Cell, task_weights
from benchmark.analysis.example_errors import known
from benchmark.analysis.statistics import (
    LEVEL,
    common_seeds,
    example_error,
    holm,
    joint_name,
    joint_replicates,
    p_value,
    seed_error,
)
from benchmark.core.metrics import Floats


@dataclass(frozen=True, eq=False)
class Pairs:
    """Every two of R methods, compared.

    Attributes:
        rows: the R names.
        differences: (R, R) mean of the one minus mean of the other.
        p: (R, R) p-values, each pair's the same both ways; 1 on the diagonal. adjusted: the same, corrected by Holm.
    """

    rows: tuple[str, ...]
    differences: Floats
    p: Floats
    adjusted: Floats

    @property
    def better(self) -> NDArray[np.bool_]:
        """(R, R) whether the one is significantly better than the other."""
        return (self.adjusted < 1 - LEVEL) & (self.differences > 0)


def compare_pairs(rows: Sequence[str], cells: Sequence[Cell], plain: bool = False) -> Pairs:
    """All pairs of rows, by their mean scores over the cells; every row must be full in each of them.

    For each pair it is what `Analysis.over` says of the cells' gains.
    """
    weights = task_weights(cells, plain)
    by_row = [[cell.samples[row] for cell in cells] for row in rows]
    seeds = common_seeds(*(sample for samples in by_row for sample in samples))
    means = np.array([weights @ [sample.mean for sample in samples] for samples in by_row])
    values = np.array([weights @ np.array([sample.on(seeds).values for sample in samples]) for samples in by_row])
    names = [joint_name(samples, weights) for samples in by_row]
    replicates = cache(lambda row: joint_replicates(by_row[row], weights))

    def error(i: int, j: int) -> float:
        name = f"{names[i]} - {names[j]}"
        return known(by_row[0][0].errors, name, lambda: example_error(replicates(i) - replicates(j)))

    a, b = np.triu_indices(len(rows), 1)
    errors = np.array([error(i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True)])
    p = p_value(means[a] - means[b], seed_error(values[a] - values[b]), errors, len(seeds))
    return Pairs(tuple(rows), means[:, None] - means, _symmetric(len(rows), p), _symmetric(len(rows), holm(p)))


def ranks(analysis: Analysis, cells: Sequence[Cell]) -> dict[str, int | None]:
    """The rank of every row by its mean score over the cells.

    None for rows that don't compete (ablations, canaries, reference rows: they are in no comparison either) and for
    methods that lack some of the tasks or seeds. With fewer than two seeds nobody is told apart: all are first.
    """
    competing = [row for row in analysis.competitors if cells and all(cell.full(row) for cell in cells)]
    found: dict[str, int | None] = dict.fromkeys(analysis.titles)
    if competing:
        worse_than = compare_pairs(competing, cells).better.sum(0)
        found |= {row: 1 + int(count) for row, count in zip(competing, worse_than, strict=True)}
    return found


def _symmetric(size: int, upper: Floats) -> Floats:
    """(R, R) from the values above the diagonal, row by row; 1 on it."""
    matrix = np.ones((size, size))
    matrix[np.triu_indices(size, 1)] = upper
    return np.minimum(matrix, matrix.T)
