"""Ranks that show ties as ties: p-values of all pairs of methods, corrected for their number, then counted.

**A method's rank is an interval, from 1 + number of methods that are significantly better to R - number of those that
are significantly worse.** Every pair of R competitors is compared by its paired mean difference over the same tasks,
families first, its variance pooled over tasks that share no pool (`cells.task_weights`, `statistics.pooled_error`);
Holm's correction over all these pairs keeps the chance that any two are told apart wrongly at 5%. Being tied is not
transitive: a may be told apart from b, but c from neither.
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
    example_error,
    holm,
    in_blocks,
    joint_name,
    joint_replicates,
    p_value,
    pooled_error,
    seed_values,
)
from benchmark.core.metrics import Floats

Rank = tuple[int, int]  # from the best to the worst place that is not ruled out


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

    @property
    def told_apart(self) -> int:
        """How many of the R (R - 1) / 2 pairs differ significantly."""
        return int(self.better.sum())

    @property
    def number(self) -> int:
        return len(self.rows) * (len(self.rows) - 1) // 2

    def ranks(self) -> dict[str, Rank]:
        """Of every row."""
        better = self.better
        return {
            row: (1 + int(above), len(self.rows) - int(below))
            for row, above, below in zip(self.rows, better.sum(0), better.sum(1), strict=True)
        }

    def ties(self, ordered: Sequence[str]) -> list[list[str]]:
        """The longest runs of rows that follow one another in this order, of which no two are told apart; at least two.

        Runs overlap, as being tied is not transitive.
        """
        at = [self.rows.index(row) for row in ordered]
        apart = self.better | self.better.T
        found: list[list[str]] = []
        end = 0
        for start in range(len(at)):
            longest = start + 1
            while longest < len(at) and not apart[at[longest], at[start:longest]].any():
                longest += 1
            if longest > max(end, start + 1):
                found.append([*ordered[start:longest]])
                end = longest
        return found


def compare_pairs(rows: Sequence[str], cells: Sequence[Cell], plain: bool = False) -> Pairs:
    """All pairs of rows, by their mean scores over the cells; every row must be full in each of them.

    For each pair it is what `Analysis.over` says of the cells' gains.
    """
    weights = task_weights(cells, plain)
    by_row = [[cell.samples[row] for cell in cells] for row in rows]
    means = np.array([weights @ [sample.mean for sample in samples] for samples in by_row])
    by_block = [  # (R, S_b) for each block
        np.array([weights[at] @ seed_values([samples[i] for i in at]) for samples in by_row])
        for at in in_blocks([cell.pool for cell in cells])
    ]
    names = [joint_name(samples, weights) for samples in by_row]
    replicates = cache(lambda row: joint_replicates(by_row[row], weights))

    def error(i: int, j: int) -> float:
        name = f"{names[i]} - {names[j]}"
        return known(by_row[0][0].errors, name, lambda: example_error(replicates(i) - replicates(j)))

    a, b = np.triu_indices(len(rows), 1)
    errors = np.array([error(i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True)])
    seeds, freedom = pooled_error([values[a] - values[b] for values in by_block])
    p = p_value(means[a] - means[b], seeds, errors, freedom)
    return Pairs(tuple(rows), means[:, None] - means, _symmetric(len(rows), p), _symmetric(len(rows), holm(p)))


def comparable(analysis: Analysis, cells: Sequence[Cell]) -> list[str]:
    """Methods that compete (no ablations) and have all of these tasks and their seeds."""
    return [row for row in analysis.competitors if cells and all(cell.full(row) for cell in cells)]


def ranks(analysis: Analysis, cells: Sequence[Cell]) -> dict[str, Rank | None]:
    """The rank of every row by its mean score over the cells.

    None for rows that don't compete (ablations, canaries, reference rows: they are in no comparison either) and for
    methods that lack some of the tasks or seeds. With fewer than two seeds nobody is told apart: all may be first or
    last.
    """
    competing = comparable(analysis, cells)
    return {**dict.fromkeys(analysis.titles), **(compare_pairs(competing, cells).ranks() if competing else {})}


def _symmetric(size: int, upper: Floats) -> Floats:
    """(R, R) from the values above the diagonal, row by row; 1 on it."""
    matrix = np.ones((size, size))
    matrix[np.triu_indices(size, 1)] = upper
    return np.minimum(matrix, matrix.T)
