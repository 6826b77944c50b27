"""The contract of a method: what it declares, what it is given, what it returns.

Shapes: R replicas (seeds for an `ensemble` method, seeds x supervisors for a `single` one), N examples of
the pool's train split, B examples of a minibatch, M supervisors (1 for `single`), K classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from benchmark.core.names import Family

LOG_FLOOR = 1e-8  # given probabilities are clamped here before a logarithm
Setting = Mapping[str, Any]  # values of a method's options by name, and of `TIMES`; what it leaves out is the default


def product_grid(**others: Sequence[Any]) -> tuple[Setting, ...]:
    """All combinations of some options' defaults and other values; the first is {}, the default.

    Args:
        others: for each name the values beside its default: `product_grid(gamma=(0.0, 0.2, 0.8), epochs_times=(0.3,))`
            has 4 x 2 settings.
    """
    choices = [[{}, *({name: value} for value in values)] for name, values in others.items()]
    return tuple({name: value for part in parts for name, value in part.items()} for parts in product(*choices))


@dataclass(frozen=True)
class Supervision:
    """All that a method may know before training.

    Attributes:
        soft_labels: (R, N, M, K) supervisors' probabilities on the train split; a view, not to be written to.
        num_classes: K.
        epochs, steps_per_epoch, total_steps: of one stage of training.
        generators: one `torch.Generator` per replica (on the CPU); a replica's draws must come from its own.
        device: where tensors live.
        encoders: names for `Trainer.fit(encoder=...)`, from the weakest to the student's own.
        margin_beta: beta of a DPO student for which the margin form of a preference loss is wanted, else None: logits
            are [s(a), s(b)], s = beta (log pi - log pi_ref).
    """

    soft_labels: Tensor
    num_classes: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    generators: tuple[torch.Generator, ...]
    device: torch.device
    encoders: tuple[str, ...]
    margin_beta: float | None = None


@dataclass(frozen=True)
class Batch:
    """One minibatch of every replica.

    Attributes:
        soft_labels: (R, B, M, K) supervisors' probabilities, or (R, B, 1, K) the stage's own targets.
        index: (R, B) positions in the train split.
        epoch: the current epoch, from 0.
        progress: share of all steps including this one, in (0, 1].
    """

    soft_labels: Tensor
    index: Tensor
    epoch: int
    progress: float


class Trainer(Protocol):
    """What a method of several stages is given in `Method.fit`."""

    supervision: Supervision

    def fit(self, targets: Tensor | None = None, keep: Tensor | None = None, encoder: str | None = None) -> None:
        """Train one stage from the initial weights; every stage runs the same number of steps.

        Args:
            targets: (R, N, K) to learn instead of the soft labels; `Batch.soft_labels` is then (R, B, 1, K).
            keep: (R, N) bool; each replica draws its minibatches from what it keeps (all, if it keeps nothing).
            encoder: one of `supervision.encoders`; the student's own by default.
        """

    def predict(self) -> Tensor:
        """(R, N, K) probabilities of the last stage's student on the train split."""


@dataclass(eq=False)
class Method:
    """A rule by which the student learns from soft labels. Subclass, declare, write `loss`.

    Options are dataclass fields with defaults; they are recorded as the method's hyperparameters. State that is
    allocated in `start` is not a field. To be resumable it must lie in attributes that are tensors, optimizers,
    generators or plain values (see `benchmark.core.resume`).

    Class attributes:
        name: unique, snake_case; also the name of the folder of its results.
        version: raise it when the method's results change.
        title: a few words for tables.
        citation: authors, year and where the formula stands.
        kind: `single` sees one supervisor at a time (scores are averaged over them), `ensemble` sees all.
        family: what kind of method it is, by which tables group; None, shown as "other", where it doesn't say.
        min_supervisors: a task with fewer is refused with a message.
        ablation_of: the method that this one is a variant of, if any.
        grid: the `GRID_SIZE` settings that `w2s run --tune` tries, the default ({}) first; `product_grid` makes one.
            Values of own options by name; `learning_rate_times` and `epochs_times` multiply what the suite says. This
            one is for methods without options worth trying: step size, and early stopping.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str]
    citation: ClassVar[str]
    kind: ClassVar[Literal["single", "ensemble"]]
    family: ClassVar[Family | None] = None
    min_supervisors: ClassVar[int] = 1
    ablation_of: ClassVar[str | None] = None
    grid: ClassVar[tuple[Setting, ...]] = product_grid(learning_rate_times=(0.3, 3, 10), epochs_times=(0.3,))

    def start(self, supervision: Supervision) -> None:
        """Allocate per-replica state; called once, before training."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of each example, (R, B), from the student's logits (R, B, K); replicas must not mix."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Update own parameters from their gradients, project them, set the gradients to None."""

    def diagnostics(self) -> dict[str, Tensor]:
        """Values worth recording at the end of training, each with a leading dimension R.

        `weights` are the supervisors', (R, M), from 0 and with sum 1: they are published.
        """
        return {}

    def fit(self, trainer: Trainer) -> None:
        """Train; methods of several stages override this."""
        trainer.fit()


def method_options(method: Method) -> dict[str, Any]:
    """A method's options, its dataclass fields, as a record holds them: plain JSON, so tuples become lists.

    Raises:
        ValueError: an option is no JSON value; the message names it.
    """
    plain = {}
    for name in (field.name for field in fields(method) if field.init):
        try:
            plain[name] = json.loads(json.dumps(getattr(method, name), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from None
    return plain


def method_state(method: Method) -> dict[str, Any]:
    """What a method keeps beside its options: attributes by name."""
    options = {field.name for field in fields(method) if field.init}
    return {key: value for key, value in vars(method).items() if key not in options}


def rows_at(table: Tensor, index: Tensor) -> Tensor:
    """Rows (R, B, K) of each replica's own table (R, N, K) at the positions (R, B)."""
    R, N, K = table.shape
    rows = index + torch.arange(0, R * N, N, device=table.device)[:, None]
    return table.reshape(R * N, K).index_select(0, rows.flatten()).view(R, -1, K)


def log_softmax(logits: Tensor) -> Tensor:
    """log q of the logits (B, K) or (R, B, K), same shape; finite without a clamp.

    Taken along the first of the last two dimensions of the transposed logits: in the layout that the engine gives them,
    with examples contiguous, that is one fast kernel.
    """
    return logits.mT.log_softmax(-2).mT


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """CE(q, t) = -sum_c t_c log q_c with q = softmax(logits): (R, B, K), (R, B, K) -> (R, B)."""
    return -(logits.mT.log_softmax(-2) * targets.mT).sum(-2)


def safe_log(probabilities: Tensor) -> Tensor:
    """log of given probabilities, clamped at 1e-8."""
    return probabilities.clamp_min(LOG_FLOOR).log()


def hard(scores: Tensor) -> Tensor:
    """One-hot argmax (the first of a tie) over the last dimension, without a gradient: (..., K) -> (..., K)."""
    scores = scores.detach()
    # `max` is several times as fast as `argmax` on a CPU when classes are strided
    return torch.zeros_like(scores).scatter_(-1, scores.max(-1, keepdim=True).indices, 1)


@dataclass(eq=False)
class CrossEntropy(Method):
    """CE(q, p) on one supervision: how whatever is not compared learns (canaries, fine-tuned supervisors)."""

    name = "cross_entropy"
    title = "cross-entropy"
    citation = "this benchmark"
    kind = "single"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels[:, :, 0])
