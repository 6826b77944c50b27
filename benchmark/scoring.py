"""From predicted class ids to metrics: the only place that compares predictions with the truth.

Shapes: R replicas, n test examples, K classes, M supervisors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import W2SError

if TYPE_CHECKING:
    from benchmark.records import Evaluation, SeedEvaluation

Scores = NDArray[np.float64]


def hits_of(predictions: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where predictions (R, n) are right, on the examples whose label (n,) is known: (R, number of known labels)."""
    known = labels >= 0
    hits: NDArray[np.bool_] = predictions[:, known] == labels[known]
    return hits


def _mean_over_parts(hits: NDArray[np.bool_], parts: NDArray[np.int64]) -> Scores:
    """Mean of hits (R, n) within each part that occurs in parts (n,): (R, number of parts)."""
    _, inverse, sizes = np.unique(parts, return_inverse=True, return_counts=True)
    sums = np.array([np.bincount(inverse, weights=row, minlength=len(sizes)) for row in hits])
    means: Scores = sums.reshape(len(hits), len(sizes)) / sizes
    return means


def _accuracy(hits: NDArray[np.bool_], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> Scores:
    return np.asarray(hits.mean(1))


def _balanced_accuracy(hits: NDArray[np.bool_], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> Scores:
    """Mean recall over the classes that occur."""
    return np.asarray(_mean_over_parts(hits, labels).mean(1))


def _worst_group_accuracy(hits: NDArray[np.bool_], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> Scores:
    """Accuracy of the group that fares worst, for each replica."""
    return np.asarray(_mean_over_parts(hits, groups).min(1))


METRICS: dict[str, Callable[[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]], Scores]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "worst_group_accuracy": _worst_group_accuracy,
}


def score(
    metric: str,
    predictions: NDArray[Any],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    num_classes: int,
) -> Scores:
    """(R,) scores in 0..1 of predictions (R, n) against labels (n,) in groups (n,).

    Examples whose label is -1 are left out. Raises `W2SError` when no label is known or a class id is impossible.
    """
    if predictions.ndim != 2 or predictions.shape[1] != len(labels):
        raise W2SError(f"predictions: found shape {predictions.shape}, expected (replicas, {len(labels)})")
    if predictions.size and not 0 <= predictions.min() <= predictions.max() < num_classes:
        found = f"{predictions.min()}..{predictions.max()}"
        raise W2SError(f"predictions: found class ids {found}, expected 0..{num_classes - 1}")
    known = labels >= 0
    if not known.any():
        raise W2SError(f"{metric} is undefined: none of the {len(labels)} test examples has a known label")
    return METRICS[metric](hits_of(predictions, labels), labels[known], groups[known])


def metric_names(metric: str) -> list[str]:
    """What every record of a task with this metric holds: accuracy, and the task's own metric."""
    return sorted({"accuracy", metric})


def compute_metrics(evaluation: Evaluation, seed: int, predictions: NDArray[Any]) -> dict[str, float]:
    """A record's metrics, each averaged over the replicas, from its predictions (R, n); also used to verify them."""
    truth = evaluation.seeds[seed]
    return {
        name: float(score(name, predictions, truth.labels, truth.groups, evaluation.num_classes).mean())
        for name in metric_names(evaluation.metric)
    }


def reference_predictions(truth: SeedEvaluation) -> dict[str, NDArray[np.int64]]:
    """Predictions (R, n) of the reference rows, which need no training.

    `mean_supervisor` (R = M; its mean score is the floor), `supervisor_ensemble` and `majority_class` (R = 1).
    """
    return {
        "mean_supervisor": truth.supervisors,
        "supervisor_ensemble": truth.ensemble[None],
        "majority_class": np.full((1, len(truth.labels)), truth.majority),
    }
