"""Each record of a submission against the suite, its predictions and what is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from benchmark.core.data import Recipe
from benchmark.core.method import method_options
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import Record
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Suite
from benchmark.results.contents import Contents
from benchmark.results.trials import expected_metrics, metric_faults
from benchmark.submissions.findings import Finding
from benchmark.submissions.manifest import Grid
from benchmark.submissions.reading import Submission

WEIGHTS_TOLERANCE = 1e-3  # they are rounded, and made in single precision
_Training = tuple[int, object]  # n_train and the student's hyperparameters


def check_records(submission: Submission, suite: Suite, grid: Grid, published: Contents) -> Iterator[Finding]:
    """What is wrong with each record.

    Args:
        published: what is there of other methods, and the truth.
    """
    own = submission.contents
    scored = Contents(own.records, published.evaluations, own.predictions)
    trainings: dict[tuple[str, str, int], list[_Training]] = {}
    for key, other in sorted(published.records.items()):
        training = (other.n_train, other.hyperparameters.get("student"))
        trainings.setdefault((key.task, key.condition, key.seed), []).append(training)
    options = None
    if submission.manifest:
        options = submission.manifest.options
    elif submission.name in METHODS:
        options = method_options(METHODS[submission.name]())
    for key, record in sorted(own.records.items()):
        unit = (record.task, record.condition)
        if record.seed not in grid.get(unit, ()):
            text = f"{key}: suite {suite.folder} has no such task, condition or seed (it has {suite.seeds}, from 0)"
            yield Finding("foreign-record", text)
            continue
        yield from _versions(record)
        if options is not None and record.hyperparameters.get("method") != options:
            text = f"{key}: options {record.hyperparameters.get('method')}, those of the method are {options}"
            yield Finding("other-setting", text)
        yield from _training(record, suite, trainings.get((*unit, record.seed), []))
        yield from _weights(record)
        if key not in own.predictions and not submission.whole:
            continue  # they may be there, unread
        if misfit := scored.misfit(record):
            yield Finding("misfit", f"{key}: {misfit}")
            continue
        predictions = own.predictions[key]
        yield from _cost(record, suite.student.of(record.task), len(predictions))
        for fault in metric_faults(record, expected_metrics(published.evaluations[unit], record, predictions)):
            yield Finding("edited-score", f"{key}: {fault}")


def _versions(record: Record) -> Iterator[Finding]:
    method = METHODS[record.method].version if record.method in METHODS else record.method_version
    known = (ENGINE_VERSION, TASKS[record.task].version, method)
    for what, found, here in zip(record.versions._fields, record.versions, known, strict=True):
        if found != here:
            yield Finding("other-version", f"{record.key}: {what} version {found}, here it is {here}")


def _training(record: Record, suite: Suite, others: list[_Training]) -> Iterator[Finding]:
    """The student's recipe is the suite's, and all else of its training that of other methods on the same seed."""
    student, recipe = record.hyperparameters.get("student"), suite.student.of(record.task).chosen()
    names = {field.name for field in fields(Recipe)}
    as_suite = isinstance(student, dict) and recipe == {k: v for k, v in student.items() if k in names}
    if record.hyperparameters.keys() != {"method", "student"} or not as_suite:
        yield Finding("other-setting", f"{record.key}: {record.hyperparameters}, in the suite the student is {recipe}")
    elif others and (record.n_train, student) not in others:
        n_train, expected = others[0]
        text = f"{record.key}: {student} on {record.n_train} examples, published are {expected} on {n_train}"
        yield Finding("other-setting", text)


def _weights(record: Record) -> Iterator[Finding]:
    """Learned weights are published beside the supervisors' scores; that they are finite, the record's schema says."""
    weights = record.diagnostics.get("weights", [1.0])
    numbers = [w for w in weights if isinstance(w, float) and w >= 0] if isinstance(weights, list) else []
    if numbers != weights or abs(sum(numbers) - 1) > WEIGHTS_TOLERANCE:
        text = f"{record.key}: diagnostics.weights: found {weights!s:.100}, expected numbers from 0 that sum to 1"
        yield Finding("impossible-value", text)


def _cost(record: Record, recipe: Recipe, heads: int) -> Iterator[Finding]:
    """Every stage of every method takes the recipe's steps, in epochs as `Minibatches` has them."""
    n_train = record.n_train
    steps = n_train // min(recipe.batch_size, n_train) * recipe.epochs if n_train else 0
    if not steps or record.cost <= 0 or record.cost % (steps * heads):
        text = f"{record.key}: cost {record.cost}, expected a multiple of {steps} steps of a stage x {heads} heads"
        yield Finding("impossible-value", text)
