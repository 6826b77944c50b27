"""A student and a network that weighs supervisors' votes example by example teach one another."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import gelu

from benchmark.api import Batch, Method, Supervision, W2SError, cross_entropy, hard, product_grid, register_method
from methods._adam import own_adam


@register_method
@dataclass(eq=False)
class Weasel(Method):
    """CE(q, sg t) + CE(t, sg q), sg: without gradient; t = softmax_c(sum_m theta_mc v_mc), v_m the one-hot votes,
    theta = sqrt(M) K softmax_m(e(p) / T).

    e is a network on all soft labels of the example, M K -> 70 -> 70 -> M K with GELU, started and stepped (Adam) in
    each replica by itself: at first all votes count about alike.

    Source: Ruehling Cachay, Boecking and Dubrawski, NeurIPS 2021, arXiv:2107.02233; released code, whose defaults these
    are. There e also sees features where asked to, has batch norm, dropout 0.3 and weight decay 7e-7, and takes votes
    as class numbers. Its step is 1e-4, as the student's there; 1e-3 is as the usual student's here.

    Args:
        temperature: T.
        rate: step of e.
        hidden: width of e's two hidden layers.
    """

    name = "weasel"
    version = 1
    title = "WeaSEL"
    citation = "Rühling Cachay et al. 2021, arXiv:2107.02233"
    kind = "ensemble"
    family = "learned weights"
    grid = product_grid(temperature=(1.0,), rate=(1e-4,), epochs_times=(0.3,))

    temperature: float = 2.0
    rate: float = 1e-3
    hidden: int = 70

    def start(self, supervision: Supervision) -> None:
        if self.temperature <= 0 or self.rate < 0 or self.hidden < 1:
            raise W2SError(f"expected temperature > 0, rate >= 0, hidden >= 1, found {self}")
        _, _, M, K = supervision.soft_labels.shape
        drawn = [
            torch.cat([_layer(*size, generator) for size in self.layers(M * K)]) for generator in supervision.generators
        ]
        self.encoder = torch.stack(drawn).to(supervision.soft_labels).requires_grad_()
        self.adam = own_adam(self.encoder, self.rate)

    def layers(self, width: int) -> list[tuple[int, int]]:
        """Inputs and outputs of e's layers."""
        return list(pairwise((width, self.hidden, self.hidden, width)))

    def encode(self, soft_labels: Tensor) -> Tensor:
        """theta (R, B, M, K) of soft labels (R, B, M, K)."""
        R, _, M, K = soft_labels.shape
        x, layers = soft_labels.flatten(2), self.layers(M * K)
        own = self.encoder.split([(fan_in + 1) * fan_out for fan_in, fan_out in layers], dim=1)
        for number, ((fan_in, fan_out), layer) in enumerate(zip(layers, own, strict=True)):
            weight = layer.view(R, fan_in + 1, fan_out)
            x = torch.baddbmm(weight[:, -1:], gelu(x) if number else x, weight[:, :-1])
        theta: Tensor = M**0.5 * K * (x.view_as(soft_labels) / self.temperature).softmax(2)
        return theta

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        votes = (self.encode(batch.soft_labels) * hard(batch.soft_labels)).sum(2)
        student, encoder = logits.detach().softmax(-1), votes.detach().softmax(-1)
        return cross_entropy(logits, encoder) + cross_entropy(votes, student)

    def after_step(self) -> None:
        self.adam.step()
        self.adam.zero_grad()


def _layer(fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """Weights (fan_in, fan_out) and then biases of a layer, flat, uniform within 1 / sqrt(fan_in) of 0."""
    bound = fan_in**-0.5
    return torch.empty((fan_in + 1) * fan_out).uniform_(-bound, bound, generator=generator)
