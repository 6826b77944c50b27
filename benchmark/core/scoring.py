"""From predicted class ids to scores: checks, records' metrics, reference rows. The metrics are in `metrics.py`.

What is scored is the whole pool, since students have not seen the truth of its train split either: that leaves less to
the chance of which examples a seed's test split draws. Rows that were made from that truth (`TRAIN_TRUTH`: the ceiling,
the oracles) are scored on the test split alone, and so is whatever is compared with them or with the supervisors.

Shapes: R replicas, n examples of the pool, K classes, M supervisors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError
from benchmark.core.metrics import METRICS, Scores, Split
from benchmark.core.names import TRAIN_TRUTH
from benchmark.core.records import Evaluation, SeedEvaluation


def score(
    metric: str, predictions: NDArray[Any], labels: NDArray[np.int64], groups: NDArray[np.int64], num_classes: int
) -> Scores:
    """(R,) scores in 0..1 of predictions (R, n) against labels (n,) in groups (n,).

    Examples whose label is -1 are left out. Raises `W2SError` when no label is known, a class id is impossible, or the
    metric has no value on these groups.
    """
    if predictions.ndim != 2 or predictions.shape[1] != len(labels):
        raise W2SError(f"predictions: found shape {predictions.shape}, expected (replicas, {len(labels)})")
    if predictions.size and not 0 <= predictions.min() <= predictions.max() < num_classes:
        found = f"{predictions.min()}..{predictions.max()}"
        raise W2SError(f"predictions: found class ids {found}, expected 0..{num_classes - 1}")
    split = Split.of(predictions, labels, groups)
    if not len(split.labels):
        raise W2SError(f"{metric} is undefined: none of the {len(labels)} examples has a known label")
    if reason := METRICS[metric].undefined(split.groups):
        raise W2SError(f"{metric} is undefined: {reason}")
    return METRICS[metric].score(split)


def metric_names(metric: str) -> list[str]:
    """What every record of a task with this metric holds, of the whole pool and of the test split: accuracy, and the
    task's own metric."""
    return sorted({"accuracy", metric})


def compute_metrics(evaluation: Evaluation, seed: int, predictions: NDArray[Any], row: str) -> dict[str, float]:
    """The metrics of a row's record, each averaged over the replicas, from its predictions (R, n); also used to verify
    them. `test_<metric>` is on the test split alone; for a row of `TRAIN_TRUTH` `<metric>` is so, too."""
    truth = evaluation.seeds[seed]

    def metrics(of: NDArray[Any], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> dict[str, float]:
        names = metric_names(evaluation.metric)
        return {name: float(score(name, of, labels, groups, evaluation.num_classes).mean()) for name in names}

    on = truth.test
    test = metrics(predictions[:, on], truth.labels[on], truth.groups[on])
    if not evaluation.whole:
        return test
    scored = test if row in TRAIN_TRUTH else metrics(predictions, truth.labels, truth.groups)
    return {**scored, **{f"test_{name}": value for name, value in test.items()}}


def reference_predictions(truth: SeedEvaluation) -> dict[str, NDArray[np.int64]]:
    """Predictions (R, n) of the rows that need no training: R = M of the mean supervisor."""
    return {
        "mean_supervisor": truth.supervisors,
        "supervisor_ensemble": truth.ensemble[None],
        "majority_class": np.full((1, len(truth.labels)), truth.majority),
    }
