"""The contract of a student: what reads the pool, what is trained, what predicts.

Shapes: S seeds, H heads a seed (a head is one replica: a linear head, or a set of adapter weights), B examples of a
minibatch, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from benchmark.core.data import TEST, Domain, Pool, Problem, Readable, Recipe, Splits
from benchmark.store.cache import Cache


class Fitted(Protocol):
    """Trained heads, (S, H) of them."""

    def heads(self, part: slice) -> Self:
        """Some of the heads of every seed."""

    def seed(self, position: int) -> Self:
        """The heads of one seed, S = 1."""

    def finite(self) -> bool:
        """Whether training stayed free of NaN and infinity."""

    def predict(self, inputs: Any) -> Tensor:
        """Probabilities (S, H, n, K) for inputs as `StudentKind.prepare` gives them."""

    def classes(self, inputs: Any) -> Tensor:
        """Predicted class ids (S, H, n), likewise."""


class Student(Protocol):
    """The heads in training, bound to the train split.

    Attributes:
        recordable: whether `logits` and `gradients` are the same operations in every step, without Python.
    """

    recordable: ClassVar[bool]

    def parameters(self) -> list[Tensor]:
        """What the optimizer updates."""

    def expect(self, minibatches: Tensor) -> None:
        """Told the minibatches of an epoch, (steps, S, 1 or H, B) on the CPU, before the epoch ahead of it begins:
        `logits` is called for one after the other, epoch by epoch. So what is not in memory can be read ahead."""

    def fetch(self) -> None:
        """A step begins: what `logits` needs next, and a recording can't fetch, is put in its place."""

    def logits(self, index: Tensor) -> Tensor:
        """Logits (S, H, B, K) of the train examples `index`: (S, 1, B), one stream for all heads, or (S, H, B)."""

    def gradients(self, of_logits: Tensor) -> list[Tensor]:
        """Those of the parameters, from the gradient (S, H, B, K) for the last logits."""

    def close(self) -> None:
        """Training has ended, or failed: what reads ahead ends, too."""

    def split(self, widths: list[int]) -> Sequence[Fitted]:
        """The trained heads, in consecutive parts of the given widths (summing to H)."""


class StudentKind:
    """How a task's student reads a pool and is made. Subclass; what has a default here may be left out.

    Attributes:
        title: a line that says what it is.
        outputs: what it can be trained on, from the weakest to its own (the last); more than one is a chain for
            bootstrapping.
        fingerprint: changes with everything that changes what is read (weights, tokenizer, preprocessing, version).
        parameters: what was chosen for it, recorded as hyperparameters beside the recipe; JSON values.
        costly: whether training takes so long that a seed is a unit of work of its own, with checkpoints.
    """

    costly: ClassVar[bool] = False

    @property
    def title(self) -> str:
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        return ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {}

    def read(
        self, task: str, domains: Mapping[str, Domain], pool: Pool, cache: Cache, device: str, held_out: Splits = TEST
    ) -> Readable:
        """The pool as the student reads it (from the cache, or made now): the train split and at least `held_out`."""
        raise NotImplementedError

    def width(self, domains: Sequence[Domain], cache: Cache, device: str) -> int | None:
        """How many numbers it reads of an example, if what is read of all these domains is made already."""
        return None

    def prepare(
        self, problems: Sequence[Problem], device: str, held_out: Splits = TEST
    ) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """For problems of one size: output -> the train splits of all seeds; and of each split that is asked for, what
        each seed has, S = 1."""
        raise NotImplementedError

    def start(self, inputs: Any, num_classes: int, seeds: tuple[int, ...], heads: int) -> Student:
        """Fresh heads on the train splits of all seeds; all heads of a seed start from the same weights."""
        raise NotImplementedError

    def diagnostics(self, problem: Problem) -> dict[str, float]:
        """What is worth recording about how it read a problem."""
        return {}

    def release(self) -> None:
        """Let go of what stays in memory between trainings: models, and the weights of the last replica."""

    def relief(self, recipe: Recipe) -> str:
        """Which option to change, and to what, when the GPU's memory is not enough."""
        return "run fewer methods or seeds at once (--methods, --seeds), or --device cpu"
