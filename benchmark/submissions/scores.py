"""Each record of a submission against its predictions and the published truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from numpy.typing import NDArray

from benchmark.analysis.cells import TOLERANCE
from benchmark.core.data import Recipe
from benchmark.core.method import method_options
from benchmark.core.minibatches import Minibatches
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import Evaluation, Record, RecordKey, digest
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.scoring import compute_metrics
from benchmark.core.suite import Suite
from benchmark.results.contents import Contents
from benchmark.submissions.findings import Finding
from benchmark.submissions.reading import Submission, is_class_ids

WEIGHTS_TOLERANCE = 1e-3  # they are rounded, and made in single precision


@dataclass(frozen=True)
class Published:
    """What a submission is compared with: a suite, and what is published of it, less the submission itself.

    Attributes:
        same_unit: records of other methods by (task, condition).
    """

    suite: Suite
    contents: Contents
    same_unit: dict[tuple[str, str], list[Record]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, record in sorted(self.contents.records.items()):
            self.same_unit.setdefault((key.task, key.condition), []).append(record)


def check_record(key: RecordKey, record: Record, submission: Submission, published: Published) -> Iterator[Finding]:
    """What is wrong with one record of a task, condition and seed that the suite has."""
    where = str(record.key)
    yield from _versions(where, record)
    yield from _setting(where, record, submission, published)
    yield from _weights(where, record)
    evaluation = published.contents.evaluations.get((record.task, record.condition))
    if evaluation is None or record.seed not in evaluation.seeds:
        return  # nothing to score it against: found for the suite as a whole
    scored_alike = list(_evaluation(where, record, published, evaluation))
    yield from scored_alike
    predictions = submission.predictions.get(key)
    if predictions is None:
        if not submission.unread:
            yield Finding("missing-predictions", f"{where}: has no predictions")
        return
    unfit = list(_predictions(where, record, predictions, evaluation, submission))
    yield from unfit
    if not unfit:
        yield from _cost(where, record, len(predictions))
    if not unfit and not scored_alike:
        yield from _metrics(where, record, predictions, evaluation)


def _versions(where: str, record: Record) -> Iterator[Finding]:
    known = [
        ("engine", record.engine_version, ENGINE_VERSION),
        ("task", record.task_version, TASKS[record.task].version),
    ]
    if record.method in METHODS:
        known.append(("method", record.method_version, METHODS[record.method].version))
    for what, found, here in known:
        if found != here:
            kind = "stale-version" if found < here else "newer-version"
            yield Finding(kind, f"{where}: {what} version {found}, here it is {here}")


def _weights(where: str, record: Record) -> Iterator[Finding]:
    """Learned weights are published beside the supervisors' scores; that they are finite, the record's schema says."""
    weights = record.diagnostics.get("weights")
    if weights is None:
        return
    numbers = [w for w in weights if isinstance(w, float)] if isinstance(weights, list) else []
    if numbers != weights or min(numbers, default=-1) < 0 or abs(sum(numbers) - 1) > WEIGHTS_TOLERANCE:
        found = str(weights)[:100]
        text = f"{where}: diagnostics.weights: found {found}, expected a list of numbers from 0 that sum to 1"
        yield Finding("impossible-value", text)


def _setting(where: str, record: Record, submission: Submission, published: Published) -> Iterator[Finding]:
    expected: Any = None
    if submission.manifest:
        expected = submission.manifest.options
    elif record.method in METHODS:
        expected = method_options(METHODS[record.method]())
    found = record.hyperparameters
    if found.keys() != {"method", "student"} or (expected is not None and found["method"] != expected):
        yield Finding("unknown-setting", f"{where}: options {found.get('method')}, those of the method are {expected}")
    others = published.same_unit.get((record.task, record.condition), [])
    students = [other.hyperparameters["student"] for other in others]
    recipe = published.suite.student.of(record.task).chosen()
    student: Any = found.get("student")
    own = {f.name: student[f.name] for f in fields(Recipe) if f.name in student} if isinstance(student, dict) else None
    if own != recipe or (students and student not in students):
        yield Finding("foreign-student", f"{where}: student {student}, in the suite it is {(students or [recipe])[0]}")


def _evaluation(where: str, record: Record, published: Published, evaluation: Evaluation) -> Iterator[Finding]:
    truth = evaluation.seeds[record.seed]
    if record.data_fingerprint != evaluation.data_fingerprint:
        text = f"{where}: data fingerprint {record.data_fingerprint}, published is {evaluation.data_fingerprint}"
        yield Finding("foreign-data", text)
    if record.evaluation_sha256 != truth.sha256:
        twin = next((s for s, t in evaluation.seeds.items() if t.sha256 == record.evaluation_sha256), None)
        if twin is not None:
            yield Finding("swapped-seeds", f"{where}: truth and supervisors are those of seed {twin}")
        else:
            yield Finding("foreign-supervisors", f"{where}: truth or supervisors are not the published ones")
    if record.n_test != len(truth.labels):
        yield Finding("wrong-size", f"{where}: n_test {record.n_test}, published are {len(truth.labels)}")
    others = published.same_unit.get((record.task, record.condition), [])
    sizes = sorted({other.n_train for other in others if other.seed == record.seed})
    if sizes and record.n_train not in sizes:
        yield Finding("wrong-size", f"{where}: n_train {record.n_train}, published are {sizes[0]}")


def _predictions(
    where: str, record: Record, predictions: NDArray[Any], evaluation: Evaluation, submission: Submission
) -> Iterator[Finding]:
    if not is_class_ids(predictions):
        yield Finding("wrong-type", f"{where}: predictions of type {predictions.dtype}, expected class ids from 0")
        return
    replicas = len(evaluation.supervisors) if record.kind == "single" else 1
    if predictions.ndim != 2 or len(predictions) != replicas:
        text = f"{where}: predictions of shape {predictions.shape}, expected {replicas} replicas ({record.kind})"
        yield Finding("wrong-replicas", text)
        return
    if predictions.shape[1] != (n := len(evaluation.seeds[record.seed].labels)):
        yield Finding("wrong-size", f"{where}: predictions of {predictions.shape[1]} examples, expected {n}")
        return
    if predictions.max() >= evaluation.num_classes:
        text = f"{where}: class id {predictions.max()}, expected 0..{evaluation.num_classes - 1}"
        yield Finding("wrong-class", text)
        return
    if (found := digest(predictions)) != record.predictions_sha256:
        twins = [other for other in submission.records.values() if other.predictions_sha256 == found]
        if twins:
            yield Finding("swapped-seeds", f"{where}: its predictions are those of the record of {twins[0].key}")
        else:
            yield Finding("edited-prediction", f"{where}: not the predictions that the record was written with")


def _metrics(where: str, record: Record, predictions: NDArray[Any], evaluation: Evaluation) -> Iterator[Finding]:
    expected = compute_metrics(evaluation, record.seed, predictions)
    for name in sorted(expected.keys() | record.metrics.keys()):
        stored, computed = record.metrics.get(name), expected.get(name)
        if stored is None or computed is None or abs(stored - computed) > TOLERANCE:
            yield Finding("edited-score", f"{where}: {name}: found {stored}, its predictions give {computed}")


def _cost(where: str, record: Record, heads: int) -> Iterator[Finding]:
    """Every stage of every method takes the recipe's steps."""
    student: Any = record.hyperparameters.get("student")
    try:
        stage = Minibatches((), record.n_train, student["batch_size"]).steps_per_epoch * student["epochs"] * heads
    except (KeyError, TypeError, ZeroDivisionError):
        return  # a foreign student or no training examples: found already
    if record.cost <= 0 or record.cost % stage:
        text = f"{where}: cost {record.cost}, expected a multiple of {stage}: steps of a stage x {heads} heads"
        yield Finding("wrong-cost", text)
