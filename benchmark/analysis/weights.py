"""Do a method's learned weights of its supervisors follow their accuracy?

Shapes: M supervisors, S seeds. A seed's record has the weights (M,) at the end of training; scores are the supervisors'
by the task's own metric on the same examples as a method's.
"""

from collections.abc import Callable, Mapping

import numpy as np

from benchmark.analysis.cells import Cell
from benchmark.analysis.statistics import Sample, rank_correlation
from benchmark.core.metrics import Floats
from benchmark.results.trials import is_tuned


def learned_weights(cell: Cell, row: str) -> dict[int, Floats]:
    """(M,) the weight of each supervisor at the end of training, for each seed whose record has them.

    A tuned record has those of the setting that agreement chose, which is not the one that its score is of: none.
    """
    members = len(cell.evaluation.supervisors)
    records = {seed: record for seed, record in cell.records.get(row, {}).items() if not is_tuned(record)}
    found = {seed: record.diagnostics.get("weights") for seed, record in records.items()}
    return {
        seed: np.array(weights)
        for seed, weights in found.items()
        if isinstance(weights, list) and len(weights) == members and all(isinstance(w, float) for w in weights)
    }


def weights_correlation(cell: Cell, learned: Mapping[int, Floats]) -> float | None:
    """Rank correlation of weights and the supervisors' scores, mean over seeds; None where it is undefined."""
    found = [rank_correlation(weights, cell.supervisor_scores[seed]) for seed, weights in learned.items()]
    defined = [value for value in found if not np.isnan(value)]
    return float(np.mean(defined)) if defined else None


def correlation(cell: Cell, row: str) -> Sample | None:
    """Spearman's correlation of a seed's weights and its supervisors' scores, of seeds where it is defined."""
    return _sample(cell, row, rank_correlation)


def best_is_first(cell: Cell, row: str) -> Sample | None:
    """1 for each seed where the supervisor of the highest score has the largest weight, else 0; equal weights share."""
    return _sample(cell, row, lambda weights, scores: float((scores == scores.max())[weights == weights.max()].mean()))


def best_by_chance(cell: Cell, row: str) -> Sample | None:
    """What `best_is_first` would be if weights were dealt at random: 1 / M, more where supervisors are equally good."""
    return _sample(cell, row, lambda weights, scores: float((scores == scores.max()).mean()))


def _sample(cell: Cell, row: str, of: Callable[[Floats, Floats], float]) -> Sample | None:
    """Of each seed's weights and scores (M,). It has no error from test examples: it is of these."""
    found = {seed: of(weights, cell.supervisor_scores[seed]) for seed, weights in learned_weights(cell, row).items()}
    defined = {seed: value for seed, value in sorted(found.items()) if not np.isnan(value)}
    values = np.array([*defined.values()])
    return Sample(tuple(defined), values, values[:, None]) if defined else None
