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
# What chose a trial: nobody; the truth of other task families; agreement with the supervisors' ensemble; the truth that
# it is scored against. "short" is the default but for fewer epochs.
Which = Literal["default", "transfer", "agreement", "oracle", "short"]
_PARTS = ("method", "student")  # of a trial's hyperparameters
_LENGTH = {"epochs", "min_steps"}  # of the student's recipe


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
    if not all(
        isinstance(trial, dict) and all(isinstance(trial.get(part), dict) for part in _PARTS) for trial in tried
    ):
        return f"hyperparameters.{TRIALS}: expected the options of {' and '.join(_PARTS)} of each trial"
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
    scores = trial_scores(evaluation, seed, predictions)
    return {
        **compute_metrics(evaluation, seed, of_trial(predictions, number), method),
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


def of_trial(predictions: NDArray[Any], number: int) -> NDArray[Any]:
    """(R, n): of the predictions (T * R, n) of a tuned record those of one trial."""
    return np.asarray(predictions.reshape(GRID_SIZE, -1, predictions.shape[1])[number])


def trial_scores(evaluation: Evaluation, seed: int, predictions: NDArray[Any]) -> NDArray[np.float64]:
    """(T,) scores by the task's metric, each the mean over replicas, of the predictions (T * R, n)."""
    truth = evaluation.seeds[seed]
    scores = score(evaluation.metric, predictions, truth.labels, truth.groups, evaluation.num_classes)
    return np.asarray(scores.reshape(GRID_SIZE, -1).mean(1))


def trial_numbers(record: Record, scores: NDArray[np.float64], transfer: int | None) -> dict[Which, int]:
    """The number of each trial that tables show of a tuned record, by what chose it, where there is such a one.

    Args:
        scores: (T,) of its trials. transfer: the trial that other families choose, if there are any.
    """
    numbers: dict[Which, int] = {"default": 0, "agreement": _number(record), "oracle": int(scores.argmax())}
    if transfer is not None:
        numbers["transfer"] = transfer
    if (short := short_trial(record)) is not None:
        numbers["short"] = short
    return numbers


def trial_name(record: Record, number: int) -> str:
    """What a trial of a tuned record has other than the default, as 'eta=0.001, epochs × 0.3': the method's options,
    and multiples of the student's recipe."""
    changed = _changed(record, number)
    options = [f"{name}={value}" for name, (_, value) in changed["method"].items()]
    for name, (before, value) in changed["student"].items():
        if name != "min_steps":  # goes with the epochs
            is_multiple = isinstance(value, int | float) and isinstance(before, int | float) and before
            options.append(f"{name.replace('_', ' ')} × {value / before:.2g}" if is_multiple else f"{name}={value}")
    return ", ".join(options) or "default"


def short_trial(record: Record) -> int | None:
    """The first trial that has fewer epochs than the default, and is the default otherwise."""
    for number in range(1, GRID_SIZE):
        changed = _changed(record, number)
        before, epochs = changed["student"].get("epochs", (0, 0))
        fewer = isinstance(before, int) and isinstance(epochs, int) and epochs < before
        if fewer and not changed["method"] and changed["student"].keys() <= _LENGTH:
            return number
    return None


def short_epochs(record: Record) -> tuple[int, int] | None:
    """Epochs of the default and of the `short_trial`."""
    number = short_trial(record)
    return None if number is None else _changed(record, number)["student"]["epochs"]


def _changed(record: Record, number: int) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Of a trial's options of the method and of the student those that differ from the default's, and both values."""
    default, own = (_tried(record)[at] for at in (0, number))
    return {
        part: {name: (default[part].get(name), v) for name, v in own[part].items() if v != default[part].get(name)}
        for part in _PARTS
    }


def _tried(record: Record) -> list[dict[str, dict[str, Any]]]:
    """The hyperparameters of each trial, by part."""
    return record.hyperparameters[TRIALS]  # type: ignore[return-value]


def _number(record: Record) -> int:
    number = record.diagnostics[CHOSEN]
    assert isinstance(number, int | float)
    return int(number)


def _show(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"
