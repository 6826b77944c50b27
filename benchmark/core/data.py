"""Plain data that goes from one part of the core to the next."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from benchmark.core.inputs import Inputs

Index = NDArray[np.int64]
SPLITS = ("train", "val", "test")
Splits = tuple[str, ...]
TEST: Splits = ("test",)
Readable = dict[str, dict[str, Any]]  # output -> split -> what the student reads of it
Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Domain:
    """All labelled examples of one domain.

    Attributes:
        load: returns the n raw inputs (2n if `paired`); called only when something is not cached.
        labels: (n,) class ids, -1 for examples that the task leaves out; or, for preference tasks without pairs of
            their own, (n,) ratings, NaN to leave out, from which pairs are made.
        groups: (n,) ids within the domain; examples of one group always stay in one split.
        fingerprint: hash of the inputs (their source and preparation); tasks with equal inputs share cached features.
        paired: example i is the pair of inputs 2i and 2i + 1; its label, 0 or 1, says which is preferred.
        score_groups: (n,) what is stored for scoring instead of `groups`, where the metric needs another division
            (regions, users) than the splits; ids mean the same in all domains of the task.
    """

    load: Callable[[], Inputs]
    labels: NDArray[Any]
    groups: NDArray[np.int64]
    fingerprint: str
    paired: bool = False
    score_groups: NDArray[np.int64] | None = None

    @property
    def num_inputs(self) -> int:
        """How many inputs `load` returns."""
        return len(self.labels) * (2 if self.paired else 1)


@dataclass(frozen=True)
class Pool:
    """Which examples a student learns on, per split."""

    examples: dict[str, Index]  # (n,) or, for pairs, (n, 2): positions in the concatenation of the inputs of `domains`
    labels: dict[str, Index]  # (n,) class ids, -1 unknown
    groups: dict[str, Index]  # (n,) for scoring, the same in every seed; a pair of rated responses has its first one's
    domains: tuple[str, ...]  # names, in the order of concatenation


@dataclass(frozen=True)
class Truth:
    """What only scoring and the canaries may see: split -> (n,) class ids (-1 unknown) and bootstrap groups."""

    labels: dict[str, Index]
    groups: dict[str, Index]


@dataclass(frozen=True)
class Problem:
    """One pool with its supervision; the train split is in random order.

    Features are for a linear head (n, D) or (n, 2, D) as encoded; of a large pool `DiskFeatures`
    (`benchmark.students.rows`), in no memory.
    """

    task: str
    condition: str
    seed: int
    features: Readable
    soft_labels: dict[str, NDArray[np.float32]]  # split -> (n, M, K)
    truth: Truth  # never handed to training (see `training_data`)
    fingerprint: str  # of the task's source data
    supervisors: tuple[str, ...]
    source_scores: NDArray[np.float32] | None = None  # (M,), `benchmark.core.source_scores`, where they are wanted


@dataclass(frozen=True)
class Recipe:
    """How the student is trained: Adam without weight decay, cosine schedule over all steps.

    Attributes:
        min_steps: a train split that is too small for so many steps in `epochs` is gone through more often.
    """

    learning_rate: float = 1e-3
    epochs: int = 30
    batch_size: int = 128
    min_steps: int = 1
    precision: Precision = "float32"  # of its matrix products in training; all else is float32 always

    def chosen(self) -> dict[str, Any]:
        """What a record holds of it; `precision` and `min_steps` only where they were asked for."""
        usual = {"precision": "float32", "min_steps": 1}
        return {name: value for name, value in asdict(self).items() if usual.get(name) != value}

    def epochs_of(self, num_examples: int) -> int:
        """Epochs on a train split of so many examples, whose incomplete minibatches are left out."""
        steps = num_examples // min(self.batch_size, num_examples)
        return max(self.epochs, math.ceil(self.min_steps / steps))

    def times(self, learning_rate: float = 1, epochs: float = 1) -> Self:
        """With multiples of the learning rate and of epochs and least steps, which are rounded, to 1 at least."""
        rounded, least = (max(1, round(number * epochs)) for number in (self.epochs, self.min_steps))
        return replace(self, learning_rate=self.learning_rate * learning_rate, epochs=rounded, min_steps=least)
