"""Guo et al.'s adaptive confidence loss: each example chooses between the supervisor and the student itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmark.api import Batch, Method, Supervision, cross_entropy, product_grid, register_method
from methods._options import expect


@register_method
@dataclass(eq=False)
class AdaptiveConfidence(Method):
    """CE(q, (1 - α) p_m + α ŷ), ŷ = onehot(argmax z), with α (R, B) from how well the student fits either hard label:

    α = e^{CE(q, ŷ)/T} / (e^{CE(q, ŷ)/T} + e^{CE(q, onehot(argmax p_m))/T}), without gradient.

    α is 1/2 where student and supervisor agree and falls towards 0 the more surely the student contradicts.

    Source: Guo, Chen, Wang, Han, Xu and Wang (2024), "Vision Superalignment: Weak-to-Strong Generalization for
    Vision Foundation Models", arXiv:2402.03749.

    Args:
        temperature: T.
    """

    name = "adaptive_confidence"
    version = 1
    title = "Adaptive confidence"
    citation = "Guo et al. 2024, arXiv:2402.03749"
    kind: ClassVar[Literal["single", "ensemble"]] = "single"
    family = "self-reinforcing"
    grid = product_grid(temperature=(0.5, 2.0, 4.0), epochs_times=(0.3,))

    temperature: float = 1.0

    def start(self, supervision: Supervision) -> None:
        expect(self, temperature="(0, inf)")

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        given = batch.soft_labels.mean(2)  # p_m itself for `single`, where M = 1
        z = logits.detach()
        own_score, own = z.max(-1, keepdim=True)
        given_score = z.gather(-1, given.max(-1, keepdim=True).indices)
        # CE(q, ŷ) - CE(q, onehot) is a difference of two logits: the log-sum-exp cancels
        alpha = torch.sigmoid((given_score - own_score) / self.temperature)
        return cross_entropy(logits, ((1 - alpha) * given).scatter_add(-1, own, alpha))
