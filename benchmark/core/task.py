"""The contract of a task: a data set with domains, its weak supervisors, its student's encoder and its metric."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from benchmark.core.corruption import Corruption
from benchmark.core.data import Domain, Problem
from benchmark.core.inputs import Inputs
from benchmark.core.names import CONDITIONS
from benchmark.core.student import StudentKind
from benchmark.store.cache import Cache

Modality = Literal["image", "text", "preference", "series", "arrays"]


class Encoder(Protocol):
    """A frozen encoder.

    `fingerprint` changes with everything that changes its features (weights, preprocessing, version). `outputs` names
    its feature sets from the weakest to the student's own (the last); more than one is a bootstrapping chain, for
    instance a network cut at half depth and whole. `requires`: module -> distribution of what must be installed.
    """

    @property
    def name(self) -> str: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def requires(self) -> dict[str, str]: ...

    def encode(self, inputs: Inputs, device: str = "cpu") -> dict[str, NDArray[np.float32]]:
        """(n, D) features for each of `outputs`."""


@runtime_checkable
class Streaming(Protocol):
    """What an encoder for more inputs than fit into memory has as well; its features are cached part by part."""

    def stream(
        self, inputs: Inputs, ranges: Sequence[slice], device: str = "cpu"
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """What `encode` gives for the inputs of each range, in turn."""


class Model(Protocol):
    """A trained weak model."""

    def predict_proba(self, inputs: Inputs) -> NDArray[np.float64]:
        """(n, K) probabilities. For preferences `inputs` is a pair (first responses, second responses) and K = 2."""


class WeakModel(Protocol):
    """How a supervisor is trained: a frozen dataclass of hyperparameters with class attributes `name` and `version`.

    `name` is part of the data's fingerprint and of supervisors' seeds, so it never changes, wherever the class moves;
    each class declares its own, and no two classes have the same (put your package's name before it).

    For a supervisor with `validation` domains `fit` gets one more argument, `validation=(inputs, labels)`. A model
    with a class attribute `resumable = True` gets `checkpoints`, a `benchmark.store.checkpoints.Checkpoints` of its
    own, and one with `on_device = True` the `device`. What else changes its soft labels is in the attributes
    `fingerprint` (of pretrained weights, say) and `libraries` (names of distributions), where there is anything.
    A model with a method `prepare(inputs)` gets an array that this makes of each input by itself, once a domain, where
    inputs are costly to read (large images).
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def fit(self, inputs: Inputs, labels: NDArray[np.int64], num_classes: int, seed: int) -> Model:
        """Train on n inputs and class ids (n,). For preferences: a pair of responses, label = the preferred one."""


@dataclass(frozen=True)
class Supervisor:
    """One weak supervisor of a task: a recipe, where its training data come from, and how many examples.

    Attributes:
        model: the recipe.
        domains: source domains whose first part it trains on.
        size: number of training examples (pairs, for preferences), drawn by seed; None for all.
        adversarial: its class columns are rotated by one after training.
        validation: domains by which its training may be stopped early; never part of a pool.
    """

    model: WeakModel
    domains: tuple[str, ...]
    size: int | None = None
    adversarial: bool = False
    validation: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskCard:
    """What is known of a task without running it; printed by `w2s describe`.

    Attributes:
        family: tasks on the same data are of one family, and averages over tasks are means over families first; None
            for a task that is a family by itself.
        redistribution: why features and soft labels made from its data may not be handed on; None: they may be, under
            `licence`.
    """

    modality: Modality
    shift: str  # one line
    sources: tuple[str, ...]
    target: str
    classes: tuple[str, ...]
    metric: str
    licence: str
    citation: str
    requires: str
    size: str
    tags: tuple[str, ...] = field(default=())
    redistribution: str | None = None
    family: str | None = None


class Task:
    """Subclass, give a `card` and a `student`, and write `domain` and `supervisors`.

    Class attributes:
        name: unique, kebab-case. version: raise it when the task's problems change. conditions: those that it has.
        source_share: the first part of each source domain, on which supervisors train; the rest is the `ind` pool.
        ind_domains: domains of held-out source data that are the `ind` pool; supervisors then train on whole sources.
        max_pool: largest pool; None for all there is. max_train: largest train split of a pool.
        train_sizes: if any, a train split is cut to the largest of these that it has (`pools.FEW_SIZES`).
        pair_gap: preference tasks on ratings only: least difference of the two ratings in a pair.
        disk: bytes of its data, unpacked, where they are so large that one wants to know before.
        corruption: how supervisors are made worse after training, if they are.
        options: names of what `configured` understands, and what they mean.
    """

    name: str
    version: int = 1
    conditions: tuple[str, ...] = CONDITIONS
    source_share: float = 0.6
    ind_domains: tuple[str, ...] = ()
    max_pool: int | None = 4000
    max_train: int | None = None
    train_sizes: tuple[int, ...] = ()
    pair_gap: float = 1.0
    disk: float | None = None
    corruption: Corruption | None = None
    options: ClassVar[Mapping[str, str]] = {}
    card: TaskCard

    @property
    def family(self) -> str:
        """The name of its family: `card.family`, or its own."""
        return self.card.family or self.name

    @property
    def student(self) -> StudentKind:
        """How the student reads the pool and learns."""
        raise NotImplementedError

    def declared(self) -> tuple[str, ...]:
        """Attributes that it must have to be registered."""
        return "name", "card"

    def configured(self, options: Mapping[str, Any]) -> "Task":
        """The same task with other models or sizes; options that are not its own are left alone.

        Raises:
            W2SError: a value can't be used.
        """
        return self

    def domain(self, name: str) -> Domain:
        """The examples of one of `card.sources`, of `card.target`, `ind_domains` or a supervisor's `validation`."""
        raise NotImplementedError

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        """The M supervisors of this seed; M and their order are the same for all seeds."""
        raise NotImplementedError

    def missing(self) -> str | None:
        """One line that says what this machine lacks and the command that fixes it, or None."""
        return None

    def download(self, mirror: str | None, say: Callable[[str], None]) -> None:
        """Get data that are too large to be fetched unasked; by default there are none. Only when a user asks.

        Args:
            mirror: base address of a copy; None for the data's own address.
            say: told what is downloaded, how large it is, and how far it is.

        Raises:
            W2SError: it failed; the message says what to do.
        """


class ReadyMade(Task):
    """A task whose problems are given, not made from domains, an encoder and supervisors.

    Attributes:
        fingerprint: what `data_fingerprint` says of it.
        seeds: those that it has; None for any.
    """

    fingerprint: str
    seeds: tuple[int, ...] | None = None

    def require(self, conditions: Sequence[str], seeds: Sequence[int]) -> None:
        """Refuse what it has no problems for; quick.

        Raises:
            W2SError: names the condition or seed, and what there is.
        """

    def problem(self, condition: str, seed: int, cache: Cache) -> Problem:
        """The problem of one of `conditions`; tables that are made for it are written to the cache."""
        raise NotImplementedError
