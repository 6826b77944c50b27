"""What the record of a tuned method holds: the predictions of every trial, how each agreed, and which one was chosen.

`hyperparameters` is {"trials": [the hyperparameters of each trial]}, so that the setting's hash is that of the whole
grid; predictions (T * R, n) are those of trial after trial. Shapes: T trials (1 of an ordinary record), R replicas,
n examples of the pool.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.core.names import GRID_SIZE
from benchmark.core.records import Evaluation, Record
from benchmark.core.scoring import compute_metrics, score

TRIALS, AGREEMENT, CHOSEN = "trials", "agreement", "chosen"  # in hyperparameters; in diagnostics
TOLERANCE = 1e-9  # a stored metric may differ from its recomputation by this
Which = Literal["chosen", "default", "oracle"]


def is_tuned(record: Record) -> bool:
    """Whether it holds the trials of a grid."""
    return TRIALS in record.hyperparameters


def trial_count(record: Record) -> int:
    """T: how many trials its predictions are of."""
    return GRID_SIZE if is_tuned(record) else 1


def choice_fault(record: Record) -> str | None:
    """Why the choice of a tuned record can't be right; None if it can, or for an ordinary one."""
    if not is_tuned(record):
        return None
    tried = record.hyperparameters[TRIALS]
    if not isinstance(tried, list) or len(tried) != GRID_SIZE:
        found = len(tried) if isinstance(tried, list) else tried
        return f"hyperparameters.{TRIALS}: found {found}, expected {GRID_SIZE}, as every method has"
    agreements, number = record.diagnostics.get(AGREEMENT), record.diagnostics.get(CHOSEN)
    if not isinstance(agreements, list) or len(agreements) != GRID_SIZE:
        return f"diagnostics.{AGREEMENT}: found {agreements}, expected {GRID_SIZE} numbers"
    shares = [value for value in agreements if isinstance(value, int | float) and 0 <= value <= 1]
    if len(shares) != GRID_SIZE:
        return f"diagnostics.{AGREEMENT}: found {agreements}, expected shares in 0..1"
    best = int(np.argmax(shares))
    if number != best:
        return f"diagnostics.{CHOSEN}: found {number}, but {best} is the first with the highest {AGREEMENT}"
    return None


def trial_metrics(
    evaluation: Evaluation, seed: int, predictions: NDArray[Any], number: int, method: str
) -> dict[str, float]:
    """The metrics of a tuned record, each averaged over replicas.

    Those of an ordinary record of the chosen trial, and of the task's metric also `default_<metric>` (the first trial)
    and `oracle_<metric>`: the best trial by the truth that it is scored against, which no method can choose.

    Args:
        predictions: (T * R, n). number: the chosen trial.
    """
    scores = _scores(evaluation, seed, predictions)
    return {
        **compute_metrics(evaluation, seed, predictions.reshape(GRID_SIZE, -1, predictions.shape[1])[number], method),
        f"default_{evaluation.metric}": float(scores[0]),
        f"oracle_{evaluation.metric}": float(scores.max()),
    }


def expected_metrics(evaluation: Evaluation, record: Record, predictions: NDArray[Any]) -> dict[str, float]:
    """What a record's metrics must be by its predictions (T * R, n); the record has no `choice_fault`."""
    if is_tuned(record):
        return trial_metrics(evaluation, record.seed, predictions, _number(record), record.method)
    return compute_metrics(evaluation, record.seed, predictions, record.method)


def metric_faults(record: Record, expected: Mapping[str, float]) -> list[str]:
    """A line for each metric of a record that is not what its predictions give (`expected_metrics`)."""
    faults = []
    for name in sorted(expected.keys() | record.metrics.keys()):
        stored, computed = record.metrics.get(name), expected.get(name)
        if stored is None or computed is None or abs(stored - computed) > TOLERANCE:
            faults.append(f"metrics.{name}: found {_show(stored)}, its predictions give {_show(computed)}")
    return faults


def picked(evaluation: Evaluation, record: Record, predictions: NDArray[Any], which: Which) -> NDArray[Any]:
    """(R, n): of the predictions (T * R, n) those of the trial that was chosen, of the default, or of the best one by
    the truth; all of an ordinary record's."""
    if not is_tuned(record):
        return predictions
    number = {"chosen": _number(record), "default": 0}.get(which)
    if number is None:
        number = int(_scores(evaluation, record.seed, predictions).argmax())
    return np.asarray(predictions.reshape(GRID_SIZE, -1, predictions.shape[1])[number])


def _number(record: Record) -> int:
    number = record.diagnostics[CHOSEN]
    assert isinstance(number, int | float)
    return int(number)


def _scores(evaluation: Evaluation, seed: int, predictions: NDArray[Any]) -> NDArray[np.float64]:
    """(T,) scores by the task's metric, each the mean over replicas."""
    truth = evaluation.seeds[seed]
    scores = score(evaluation.metric, predictions, truth.labels, truth.groups, evaluation.num_classes)
    return np.asarray(scores.reshape(GRID_SIZE, -1).mean(1))


def _show(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"
