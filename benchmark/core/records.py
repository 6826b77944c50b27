"""What is published: one `Record` per (task, condition, method, setting, seed), one `Evaluation` per (task, condition).

A record holds what was run and its metrics; an evaluation holds what any score needs: the truth, the bootstrap groups
and what the supervisors say of the whole pool. Both are validated on writing and on reading.

Students have not seen the truth of the train split either, so they are scored on the whole pool (`core/scoring.py`).
Records of engine version 1 and their evaluations are of the test split alone; a file holds the one kind or the other.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, JsonValue, field_validator, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from benchmark.core.data import SPLITS
from benchmark.core.metrics import METRICS
from benchmark.core.names import Family, Use

Condition = Literal["ind", "ood"]
Kind = Literal["single", "ensemble", "canary"]
Numbers = TypeAliasType("Numbers", "float | list[Numbers]")  # a number, or nested lists of numbers
# Names become file names, so nothing but letters, digits, '_' and (tasks) '-'; '_tasks' is no method.
TaskName = Annotated[str, Field(pattern=r"^[\w-]+$")]
MethodName = Annotated[str, Field(pattern=r"^[^\W_]\w*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Version = Annotated[int, Field(ge=1)]
Schema = Annotated[int, Field(ge=1, le=1)]  # `Literal[1]` would take true
Count = Annotated[int, Field(ge=0)]
SettingHash = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Versions(NamedTuple):
    """What must be raised when results change."""

    engine: int
    task: int
    method: int


class RecordKey(NamedTuple):
    """Names a record within a suite's results; with its versions it is the record's identity."""

    task: str
    condition: str
    method: str
    setting: str
    seed: int

    def __str__(self) -> str:
        return f"{self.method} on {self.task}/{self.condition}, seed {self.seed}"


def setting_hash(hyperparameters: dict[str, Any]) -> str:
    """12 hex digits that change with every hyperparameter (a JSON-like dict; NaN and infinity are refused)."""
    text = json.dumps(hyperparameters, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def compact(class_ids: NDArray[Any]) -> NDArray[Any]:
    """Class ids (any shape, >= 0) in the smallest unsigned type that holds them, contiguous."""
    if class_ids.size and (class_ids.dtype.kind not in "iu" or class_ids.min() < 0):
        raise ValueError(f"class ids must be integers from 0, found {class_ids.dtype} with minimum {class_ids.min()}")
    return np.ascontiguousarray(class_ids, np.min_scalar_type(int(class_ids.max(initial=0))))


def digest(predictions: NDArray[Any]) -> str:
    """SHA-256 of predicted class ids (replicas, n), whatever their integer type."""
    head = "x".join(map(str, predictions.shape)).encode()
    return hashlib.sha256(head + b":" + np.ascontiguousarray(predictions, "<u4").tobytes()).hexdigest()


class Strict(BaseModel):
    """What is read from files: no other fields, no other types, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_line(self) -> str:
        """JSON on one line, without its end: the same object always gives the same text."""
        values = self.model_dump(mode="json")
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Record(Strict):
    """One run of one method with one setting on one task, condition and seed.

    Attributes:
        setting: `setting_hash(hyperparameters)`.
        metrics: "accuracy" and the task's own metric, each the mean over replicas (supervisors, for a `single` method),
            and both on the test split alone, `test_<metric>` (`core/scoring.py`).
        diagnostics: numbers or nested lists of numbers; "weights" is (M,), the learned weight of each supervisor.
        cost: optimizer steps x heads.
        n_train, n_test: examples in the pool's train and test split.
        predictions_sha256: `digest` of the predictions, so that a record and its predictions belong together.
        evaluation_sha256: `SeedEvaluation.sha256` of its seed, likewise.
        ablation_of: the method that this one is a variant of.
        family: of the method, not of the task; None, and not in the file, where it names none.
        uses: what the method was given beside soft labels, of what it asks for (`Method.uses`); not in the file, if
            it is nothing.
        source_sha256: `benchmark.core.code_hash.source_of` its method; None, and not in the file, if that is not known.
    """

    schema_version: Schema = 1
    task: TaskName
    condition: Condition
    method: MethodName
    setting: SettingHash
    seed: Count
    title: Annotated[str, Field(min_length=1)]
    kind: Kind
    ablation_of: MethodName | None = None
    family: Annotated[Family | None, Field(exclude_if=lambda family: family is None)] = None
    metrics: dict[str, Share]
    diagnostics: dict[str, Numbers]
    hyperparameters: dict[str, JsonValue]
    cost: Count
    n_train: Count
    n_test: Annotated[int, Field(ge=1)]
    predictions_sha256: Sha256
    evaluation_sha256: Sha256
    device: str
    libraries: dict[str, str]
    commit: str
    data_fingerprint: str
    engine_version: Version
    task_version: Version
    method_version: Version
    uses: Annotated[tuple[Use, ...], Field(exclude_if=lambda uses: not uses)] = ()
    source_sha256: Annotated[Sha256 | None, Field(exclude_if=lambda source: source is None)] = None

    @field_validator("metrics")
    @classmethod
    def _has_accuracy(cls, metrics: dict[str, float]) -> dict[str, float]:
        if "accuracy" not in metrics:
            raise PydanticCustomError("metrics", "'accuracy' is missing")
        return metrics

    @model_validator(mode="after")
    def _setting_fits(self) -> Self:
        try:
            expected = setting_hash(self.hyperparameters)
        except ValueError:  # JSON text may hold NaN where any value may stand
            raise PydanticCustomError("hyperparameters", "hyperparameters: NaN or infinity") from None
        if self.setting != expected:
            text = f"setting: found {self.setting}, but the hyperparameters' hash is {expected}"
            raise PydanticCustomError("setting", "{text}", {"text": text})
        return self

    @property
    def key(self) -> RecordKey:
        return RecordKey(self.task, self.condition, self.method, self.setting, self.seed)

    @property
    def versions(self) -> Versions:
        return Versions(self.engine_version, self.task_version, self.method_version)

    def of_source(self, source: str | None) -> bool:
        """Whether nothing says that it was made from another source."""
        return self.source_sha256 is None or source is None or self.source_sha256 == source


@dataclass(frozen=True, eq=False)
class SeedEvaluation:
    """What scoring needs for one seed's pool of n examples: train, validation and test split, one after the other, each
    in the problem's order.

    Groups are ids in the sense that the task's metric gives them (`metrics.py`): of what is resampled together, or of
    the parts that it compares. An id means the same group in every seed.
    """

    labels: NDArray[np.int64]  # (n,) class ids, -1 for unknown (never scored)
    groups: NDArray[np.int64]  # (n,)
    supervisors: NDArray[np.int64]  # (M, n) predicted class ids
    ensemble: NDArray[np.int64]  # (n,) argmax of the supervisors' mean soft labels
    majority: int  # the most frequent class of the pool's train truth
    splits: NDArray[np.uint8] | None = None  # (n,) places in `SPLITS`; None where all are of the test split

    @cached_property
    def sha256(self) -> str:
        """Hash of everything here: the truth and what the supervisors say."""
        made = hashlib.sha256(f"{self.supervisors.shape}|{self.majority}|".encode())
        for array in (self.labels, self.groups, *self.supervisors, self.ensemble):
            made.update(array.astype("<i8").tobytes())
        if self.splits is not None:
            made.update(self.splits.tobytes())
        return made.hexdigest()

    @property
    def test(self) -> NDArray[np.bool_]:
        """(n,) whether an example is of the test split."""
        return np.ones(len(self.labels), bool) if self.splits is None else self.splits == SPLITS.index("test")


class Evaluation(Strict):
    """Truth, groups and supervisors' predictions of one (task, condition), per seed."""

    task: TaskName
    condition: Condition
    family: TaskName  # of tasks on the same data; averages are over families of means over their tasks
    modality: str
    metric: str  # the task's own, a key of `METRICS`
    num_classes: Annotated[int, Field(ge=2)]
    target: str  # the shifted domain
    tags: tuple[str, ...]
    supervisors: Annotated[tuple[str, ...], Field(min_length=1)]  # names of the M supervisors, in their order
    task_version: Version
    data_fingerprint: str  # of the data that the pool and the supervisors come from
    seeds: dict[Count, InstanceOf[SeedEvaluation]] = Field(exclude=True)

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        if metric not in METRICS:
            raise PydanticCustomError("metric", "unknown metric; known: {known}", {"known": ", ".join(METRICS)})
        return metric

    @property
    def whole(self) -> bool:
        """Whether it is of whole pools, and not of their test splits alone."""
        return all(truth.splits is not None for truth in self.seeds.values())

    @model_validator(mode="after")
    def _arrays_fit(self) -> Self:
        if not self.whole and any(truth.splits is not None for truth in self.seeds.values()):
            raise PydanticCustomError("seeds", "splits: some seeds are of the whole pool, others of the test split")
        for seed, arrays in self.seeds.items():
            if problem := self._array_problem(arrays):
                raise PydanticCustomError("seeds", "{text}", {"text": f"seed {seed}: {problem}"})
        return self

    def _array_problem(self, arrays: SeedEvaluation) -> str | None:
        n, classes = len(arrays.labels), self.num_classes
        shapes = {"labels": (n,), "groups": (n,), "supervisors": (len(self.supervisors), n), "ensemble": (n,)}
        for name, shape in shapes.items():
            array = getattr(arrays, name)
            if array.shape != shape:
                return f"{name}: found shape {array.shape}, expected {shape}"
            if array.dtype != np.int64:
                return f"{name}: found {array.dtype}, expected int64"
            low = -1 if name == "labels" else 0
            if name != "groups" and array.size and not low <= array.min() <= array.max() < classes:
                return f"{name}: found values {array.min()}..{array.max()}, expected {low}..{classes - 1}"
        if arrays.splits is not None:
            if arrays.splits.shape != (n,) or arrays.splits.dtype != np.uint8:
                return f"splits: found {arrays.splits.dtype} {arrays.splits.shape}, expected uint8 {(n,)}"
            if n and arrays.splits.max() >= len(SPLITS):
                return f"splits: found {arrays.splits.max()}, expected 0..{len(SPLITS) - 1}"
        known = arrays.labels >= 0
        if not known[arrays.test].any():
            return "labels: no example has a known label" + " in the test split" * self.whole
        for scored in (known, known & arrays.test):
            if reason := METRICS[self.metric].undefined(arrays.groups[scored]):
                return f"groups: {self.metric} is undefined: {reason}"
        if not 0 <= arrays.majority < classes:
            return f"majority: found {arrays.majority}, expected 0..{classes - 1}"
        return None

    def same_data(self, other: Self) -> bool:
        """Whether seeds of both can stand in one file."""
        names = ("task", "condition", "task_version", "data_fingerprint", "num_classes", "whole")
        alike = all(getattr(self, name) == getattr(other, name) for name in names)
        return alike and len(self.supervisors) == len(other.supervisors)
