"""The contract of a method: what it declares, what it is given, what it returns.

Shapes: R replicas (seeds for an `ensemble` method, seeds x supervisors for a `single` one), N examples of
the pool's train split, B examples of a minibatch, M supervisors (1 for `single`), K classes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from benchmark.base.errors import W2SError
from benchmark.core.names import GRID_SIZE, Family, Use

Setting = Mapping[str, Any]  # values of a method's options by name, and of `TIMES`; what it leaves out is the default


def product_grid(**others: Sequence[Any]) -> tuple[Setting, ...]:
    """All combinations of some options' defaults and other values; the first is {}, the default.

    Args:
        others: for each name the values beside its default: `product_grid(gamma=(0.0, 0.2, 0.8), epochs_times=(0.3,))`
            has 4 x 2 settings.

    Raises:
        W2SError: there are not `GRID_SIZE`. (Cutting a larger grid would lose values unseen.)
    """
    choices = [[{}, *({name: value} for value in values)] for name, values in others.items()]
    grid = tuple({name: value for part in parts for name, value in part.items()} for parts in product(*choices))
    if len(grid) != GRID_SIZE:
        found = ", ".join(f"{len(own)} of {name}" for name, own in zip(others, choices, strict=True))
        raise W2SError(f"product_grid: {len(grid)} settings, expected {GRID_SIZE}; values, with the default: {found}")
    return grid


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
        features, source_scores: None where `uses` does not name them, or there are none: language students and pools
            read from disk have no features, tasks without an in-distribution pool no scores. A method then does
            without, or raises `W2SError`.
        features: what a linear student reads of the train split, standardised, (S, N, D), or (S, N, 2, D) of pairs, S
            seeds: a `single` method's replica r is of seed r // (R / S). A copy that is not to be written to.
        source_scores: (R, M) each supervisor's accuracy on labelled examples of its own source domains that it has not
            been trained on (`benchmark.core.source_scores`). In the condition `ind` these are a tenth of the pool, its
            validation split: M numbers of the truth of what is scored.
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
    features: Tensor | None = None
    source_scores: Tensor | None = None


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

    def fit(
        self,
        targets: Tensor | None = None,
        keep: Tensor | None = None,
        encoder: str | None = None,
        warm_start: bool = False,
        variant: int = 0,
        average: float = 0.0,
        learning_rate_times: float = 1.0,
    ) -> None:
        """Train one stage from the initial weights; every stage runs the same number of steps.

        Args:
            targets: (R, N, K) to learn instead of the soft labels; `Batch.soft_labels` is then (R, B, 1, K).
            keep: (R, N) bool; each replica draws its minibatches from what it keeps (all, if it keeps nothing).
            encoder: one of `supervision.encoders`; the student's own by default.
            warm_start: go on from the weights of the last stage, of the same encoder, with a fresh optimizer and
                schedule.
            variant: above 0 other initial weights and another order of minibatches, by the seed and this number only.
            average: decay a in [0, 1) of an average of the student's weights w, v <- a v + (1 - a) w after each step,
                v = w before the first (Tarvainen and Valpola 2017, arXiv:1703.01780). The stage's student is then v.
            learning_rate_times: of this stage, as of a setting (`Method.grid`), by which it is multiplied.
        """

    def predict(self) -> Tensor:
        """(R, N, K) probabilities of the last stage's student on the train split."""


@dataclass(eq=False)
class Method:
    """A rule by which the student learns from soft labels. Subclass, declare, write `loss`.

    Options are dataclass fields with defaults; they are recorded as the method's hyperparameters. State that is
    allocated in `start` is not a field. To be resumable it must lie in attributes that are tensors, optimizers,
    generators or plain values (see `benchmark.core.resume`). The `Supervision` may be kept in one, and is no part of
    checkpoints, as `start` is given it again; its large tensors under names of their own are.

    Class attributes:
        name: unique, snake_case; also the name of the folder of its results.
        version: raise it when the method's results change.
        title: a few words for tables.
        citation: authors, year and where the formula stands.
        kind: `single` sees one supervisor at a time (scores are averaged over them), `ensemble` sees all.
        family: what kind of method it is, by which tables group; None, shown as "other", where it doesn't say.
        min_supervisors: a task with fewer is refused with a message.
        ablation_of: the method that this one is a variant of, if any.
        uses: what it sees beside soft labels, where it is there, by the names of `Supervision`'s attributes; records
            hold them.
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
    uses: ClassVar[tuple[Use, ...]] = ()
    grid: ClassVar[tuple[Setting, ...]] = product_grid(learning_rate_times=(0.3, 3, 10), epochs_times=(0.3,))

    def start(self, supervision: Supervision) -> None:
        """Allocate per-replica state; called once, before training."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of each example, (R, B), from the student's logits (R, B, K); replicas must not mix."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Update own parameters from their gradients, project them, set the gradients to None."""

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        """An epoch of a stage has ended, the last one, too; `epoch` is from 0 in every stage, and may be its only one.

        `predict()` gives (R, N, K) probabilities of the student as it is now (of its average, if one is kept) on the
        train split, without a gradient, at the cost of a pass over it.
        """

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
