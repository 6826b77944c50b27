"""A student and a network that weighs supervisors' votes example by example teach one another."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import gelu

from benchmark.api import Batch, Supervision, cross_entropy, hard, product_grid, register_method
from methods._adam import LearnsByAdam
from methods._options import expect


@register_method
@dataclass(eq=False)
class Weasel(LearnsByAdam):
    """CE(q, sg t) + CE(t, sg q), sg: without gradient; t = softmax_c(sum_m theta_mc v_mc), v_m the one-hot votes,
    theta = sqrt(M) K softmax_m(e(p) / T).

    e is a network on all soft labels of the example, M K -> 70 -> 70 -> M K with GELU, started and stepped (Adam) in
    each replica by itself: at first all votes count about alike.

    Source: Ruehling Cachay, Boecking and Dubrawski, NeurIPS 2021, arXiv:2107.02233; formula and T by its code,
    github.com/autonlab/weasel. The widths are of its configuration template (`configs/template.yaml`), which says that
    others are probably better; where none are given its `MLPEncoder` has 2/3 M K for the second, and for the first a
    fifth of the inputs, at least as many. `rate` is this project's, as the usual student's here: both steps are 1e-4
    there.

    Deviations: the release's e has batch norm, by the template also dropout 0.3 and weight decay 7e-7 (0 where nothing
    is given), sees features where asked to, and votes as class numbers in the place of soft labels.

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
    min_supervisors = 2  # as in the release: of one, theta is constant
    grid = product_grid(temperature=(1.0,), rate=(1e-4,), epochs_times=(0.3,))

    temperature: float = 2.0
    rate: float = 1e-3
    hidden: int = 70

    def start(self, supervision: Supervision) -> None:
        expect(self, temperature="(0, inf)", rate="[0, inf)", hidden="[1, inf)")
        _, _, M, K = supervision.soft_labels.shape
        drawn = [
            torch.cat([_layer(*size, generator) for size in self.layers(M * K)]) for generator in supervision.generators
        ]
        self.encoder = self.learned(torch.stack(drawn).to(supervision.soft_labels), self.rate)

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


def _layer(fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """Weights (fan_in, fan_out) and then biases of a layer, flat, uniform within 1 / sqrt(fan_in) of 0."""
    bound = fan_in**-0.5
    return torch.empty((fan_in + 1) * fan_out).uniform_(-bound, bound, generator=generator)
