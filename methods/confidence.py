"""Burns et al.'s auxiliary confidence loss: trust the student's own hard labels more and more."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmark.api import Batch, Method, Supervision, W2SError, cross_entropy, hard, product_grid, register_method
from methods._options import expect


@register_method
@dataclass(eq=False)
class Confidence(Method):
    """CE(q, (1 - c) p_m + c ŷ), ŷ = onehot(argmax z) without gradient, c = max_confidence * min(1, s / warmup).

    ŷ is the student's own hard label, s in (0, 1] the share of steps done: c grows linearly to its maximum and stays
    there (the release does not divide by the warm-up's share, so that its c jumps where the warm-up ends).

    Source: Burns, Izmailov, Kirchner, Baker, et al. (2023), "Weak-to-Strong Generalization", arXiv:2312.09390, where
    a two-class student's hard label is thresholded so that its classes are as frequent as the supervisor's. That is
    `balanced=True`; the default is argmax for every K, so that one rule holds for the whole suite.

    Args:
        max_confidence: the greatest c.
        warmup: share of all steps until c reaches it.
        balanced: two classes only: ŷ is the second class for the n examples of the minibatch that lean most to it, n
            the supervisor's expected number, sum of p_m's second class over the minibatch, rounded.
    """

    name = "confidence"
    version = 1
    title = "Confidence"
    citation = "Burns et al. 2023, arXiv:2312.09390"
    kind: ClassVar[Literal["single", "ensemble"]] = "single"
    family = "self-reinforcing"
    grid = product_grid(max_confidence=(0.25, 0.75, 0.9), epochs_times=(0.3,))  # Burns et al.: 0.5 or 0.75

    max_confidence: float = 0.5
    warmup: float = 0.2
    balanced: bool = False

    def start(self, supervision: Supervision) -> None:
        expect(self, max_confidence="[0, 1]", warmup="[0, 1]")
        if self.balanced and supervision.num_classes != 2:
            raise W2SError(f"{self.name}: balanced=True needs 2 classes, found {supervision.num_classes}")

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        given = batch.soft_labels.mean(2)  # p_m itself for `single`, where M = 1
        own = balanced_labels(logits.detach(), given) if self.balanced else hard(logits)
        c = self.max_confidence * (min(1.0, batch.progress / self.warmup) if self.warmup else 1.0)
        return cross_entropy(logits, torch.lerp(given, own, c))


def balanced_labels(logits: Tensor, given: Tensor) -> Tensor:
    """Hard labels (R, B, 2) of the student, as many of each class in a minibatch as `given` (R, B, 2) expects."""
    lean = logits[..., 0] - logits[..., 1]
    rank = lean.argsort(dim=-1, stable=True).argsort(-1)  # 0 leans most to the second class
    second = (rank < given[..., 1].sum(-1, keepdim=True).round()).to(given.dtype)
    return torch.stack([1 - second, second], -1)
