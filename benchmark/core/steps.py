"""One optimizer step of all methods of a stage.

Shapes: S seeds, h heads a seed of one method and H of all, M supervisors (1 for given targets), N examples of the train
split, B of a minibatch, K classes; R = S*h replicas of one method.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmark.base.errors import MethodFailed
from benchmark.core.adam import Adam, cosine_rates
from benchmark.core.data import Recipe
from benchmark.core.guard import Guard, NamedErrors
from benchmark.core.losses import rows_at
from benchmark.core.method import Batch, Method
from benchmark.core.precision import backward, forward
from benchmark.core.student import Student


class Stage(Protocol):
    """One method in training."""

    @property
    def method(self) -> Method: ...
    @property
    def heads(self) -> int: ...
    def own(self, soft_labels: Tensor) -> Tensor:
        """Its view of (S, M, B, K): (R, B, m, K)."""


@dataclass(frozen=True)
class Given:
    """What losses are computed from: index (S, 1, B) or (S, H, B), logits (S, H, B, K), soft labels (S, M, B, K), or
    (S, H, B, K) of given targets."""

    index: Tensor
    logits: Tensor
    soft_labels: Tensor


class Work:
    """The computation of one step, and the order of its parts.

    Args:
        labels: what is learned, (S, M, N, K), or (S, H, N, K) if `targets`.
        average: as of `Adam`.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        student: Student,
        labels: Tensor,
        targets: bool,
        recipe: Recipe,
        steps: int,
        guard: Guard,
        average: float = 0.0,
    ) -> None:
        self.stages, self.student, self.recipe, self.guard = stages, student, recipe, guard
        self.rates = cosine_rates(recipe.learning_rate, steps)
        self.adam = Adam(student.parameters(), average)
        self.device = labels.device
        self.running: Method | None = None  # whose code runs
        self._labels, self._targets = labels, targets
        self.widths = [stage.heads for stage in stages]
        self.hooked = [stage for stage in stages if type(stage.method).after_epoch is not Method.after_epoch]

    def forward(self, index: Tensor) -> Given:
        with forward(self.recipe.precision, self.device):
            logits = self.student.logits(index).float()
        S, m, N, K = self._labels.shape
        rows = rows_at(self._labels.view(S * m, N, K), index.expand(S, m, -1).flatten(0, 1))
        # laid out with examples contiguous, as the logits are
        lent, rows = self.guard.lend(index, rows.mT.contiguous())
        return Given(lent, logits, rows.mT.unflatten(0, (S, m)))

    def slope(self, stages: Sequence[Stage], given: Given, epoch: int, progress: float) -> Tensor:
        """The gradient (S, H, B, K) of these methods' losses for the logits; replicas never mix, each has its mean."""
        logits = given.logits.detach().requires_grad_()
        self.guard.lend_logits(given.logits.detach())
        losses = []
        for stage, own in zip(self.stages, logits.split(self.widths, dim=1), strict=True):
            if stage in stages:
                S, _, B = given.index.shape
                learned = (
                    given.soft_labels.flatten(0, 1).unsqueeze(2) if self._targets else stage.own(given.soft_labels)
                )
                at = given.index.expand(S, stage.heads, B).flatten(0, 1)
                # (S, h, B, K) -> (R, B, K); where examples are contiguous, they stay so
                logits_own = own.flatten(0, 1) if own.stride(-1) == 1 else own.mT.flatten(0, 1).mT
                before = logits_own._version, learned._version, at._version
                with self.named_errors(stage.method):
                    loss = stage.method.loss(logits_own, Batch(learned, at, epoch, progress))
                self.guard.check(stage.method, before, (logits_own._version, learned._version, at._version))
                if loss.shape != at.shape:
                    found, expected = tuple(loss.shape), tuple(at.shape)
                    raise MethodFailed(stage.method.name, f"loss has shape {found}, expected (R, B) = {expected}")
                if not loss.requires_grad:
                    raise MethodFailed(stage.method.name, "loss does not depend on the logits (it has no gradient)")
                losses.append(loss)
        self.running = None
        if losses:
            whole = torch.cat(losses)
            with backward(self.recipe.precision):
                (whole.sum() / whole.shape[1]).backward()  # the sum of the replicas' means
        return torch.zeros_like(logits) if logits.grad is None else logits.grad

    def update(self, slope: Tensor, rate: float | Tensor) -> None:
        """The optimizer's step."""
        with backward(self.recipe.precision):
            gradients = self.student.gradients(slope)
        self.adam.step(gradients, rate)

    def after(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            with self.named_errors(stage.method):
                stage.method.after_step()
            self.guard.check(stage.method)

    def after_epoch(self, stage: Stage, epoch: int, inputs: Any) -> None:
        """The `after_epoch` of a method that has one; inputs are what the student reads of the train split."""
        with self.named_errors(stage.method):
            stage.method.after_epoch(epoch, Prediction(self, self.stages.index(stage), inputs))
        self.guard.check(stage.method)

    def named_errors(self, method: Method) -> NamedErrors:
        self.running = method
        return NamedErrors(method)


@dataclass(frozen=True)
class Prediction:
    """What the student of one method predicts now, or its average if one is kept: (R, N, K) probabilities."""

    work: Work
    position: int  # of the method
    inputs: Any

    def __call__(self) -> Tensor:
        self.work.adam.swap_averages()
        try:
            student = self.work.student.split(self.work.widths)[self.position]
            return student.predict(self.inputs).flatten(0, 1)
        finally:
            self.work.adam.swap_averages()


class EagerStep:
    """Every step by Python."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._epoch, self._minibatches = 0, torch.empty(0)

    def running(self) -> AbstractContextManager[Any]:
        """Entered around all epochs."""
        return nullcontext()

    def begin(self, epoch: int, minibatches: Tensor) -> None:
        """An epoch with these minibatches, (steps, S, 1 or H, B) on the CPU."""
        self._epoch, self._minibatches = epoch, minibatches.to(self._work.device, non_blocking=True)

    def run(self, number: int) -> None:
        """The epoch's next step, the `number`th of it (from 0)."""
        work, done = self._work, self._epoch * len(self._minibatches) + number
        work.guard.thorough = work.guard.closely or number == 0
        work.student.fetch()
        given = work.forward(self._minibatches[number])
        slope = work.slope(work.stages, given, self._epoch, (done + 1) / len(work.rates))
        work.update(slope, work.rates[done])
        work.after(work.stages)
        work.guard.compare([stage.method for stage in work.stages])

    def end(self, inputs: Any) -> None:
        """An epoch has ended; inputs are what the student reads of the train split."""
        for stage in self._work.hooked:
            self._work.after_epoch(stage, self._epoch, inputs)
