"""Methods that write into what they are given: where, how, and in which step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.losses import cross_entropy
from benchmark.core.method import Batch, Method, Supervision, Trainer

HOW: dict[str, Callable[[Tensor], object]] = {
    "operation": lambda x: x.detach().mul_(0),
    "out": lambda x: torch.mul(x.detach(), 0, out=x.detach()),
    "view": lambda x: x.detach()[..., :1].fill_(0),
    "data": lambda x: x.data.zero_(),
    "numpy": lambda x: x.detach().numpy().fill(0),
    "storage": lambda x: torch.empty(0, dtype=x.dtype).set_(x.untyped_storage()).zero_(),  # type: ignore[call-overload]
}
NAMES = {
    "logits": "logits",
    "soft labels": "batch.soft_labels",
    "index": "batch.index",
    "whole in loss": "supervision.soft_labels",
    "start": "supervision.soft_labels",
    "after_step": "supervision.soft_labels",
    "diagnostics": "supervision.soft_labels",
}
WHERE = tuple(NAMES)


@dataclass(eq=False)
class Scribbler(Method):
    """CE(q, mean), and zeros where they are not wanted, once `late` of the steps are done."""

    name = "a_scribbler"
    title = citation = "test"
    kind = "ensemble"
    where: str = "soft labels"
    how: str = "operation"
    late: float = 0.0

    def _write(self, where: str, given: Tensor) -> None:
        if where == self.where:
            HOW[self.how](given)

    def start(self, supervision: Supervision) -> None:
        self.supervision = supervision
        self._write("start", supervision.soft_labels)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        found = cross_entropy(logits, batch.soft_labels.mean(2))
        if batch.progress >= self.late:
            self._write("logits", logits)
            self._write("soft labels", batch.soft_labels)
            self._write("index", batch.index)
            self._write("whole in loss", self.supervision.soft_labels)
        return found

    def after_step(self) -> None:
        self._write("after_step", self.supervision.soft_labels)

    def diagnostics(self) -> dict[str, Tensor]:
        self._write("diagnostics", self.supervision.soft_labels)
        return {}


class StagedScribbler(Scribbler):
    name = "a_staged_scribbler"

    def fit(self, trainer: Trainer) -> None:
        trainer.fit()
        HOW[self.how](trainer.supervision.soft_labels)


class SingleScribbler(Scribbler):
    """Of several replicas a seed: what it is given of logits and index are copies."""

    name = "a_single_scribbler"
    kind = "single"
