"""Early-learning regularisation: what the student came to believe early is kept against what it would memorise."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmark.api import Batch, Method, Supervision, cross_entropy, log_softmax, product_grid, register_method
from methods._memory import remember
from methods._options import expect

_LEAST = 1e-4  # of a probability in the second term, and its distance from 1


@register_method
@dataclass(eq=False)
class Elr(Method):
    """CE(q, p̄) + strength * log(1 - <r_i, q>) with p̄ = mean_m p_m, and r_i (R, N, K) a running mean of what the
    student said of example i: r_i <- momentum r_i + (1 - momentum) q, without gradient, 0 at first, and updated before
    it is used. The second term falls as q goes where r_i points, the more so the surer both are.

    q in the second term and in r is clamped to [1e-4, 1 - 1e-4] (in r it is divided by its sum), as in the release.

    Deviation: the soft target p̄ in the place of one noisy hard label. Defaults are the release's for CIFAR-10, by which
    the second term outweighs CE as soon as r_i is sure; for CIFAR-100 it has momentum 0.9, strength 7.

    Source: Liu, Niles-Weed, Razavian and Fernandez-Granda (NeurIPS 2020), arXiv:2007.00151, and its code,
    github.com/shengliu66/ELR. For domain adaptation without source data: Yi, Xu, Xu, Li, Pu, Ling, McLeod and Wang
    (ICLR 2023), arXiv:2301.13381.

    Args:
        strength: weight of the second term, λ in the paper; 0 is `ensemble`.
        momentum: of r, β in the paper.
    """

    name = "elr"
    version = 1
    title = "ELR"
    citation = "Liu et al. 2020, arXiv:2007.00151"
    kind: ClassVar[Literal["single", "ensemble"]] = "ensemble"
    family = "self-reinforcing"
    grid = product_grid(strength=(1.0, 5.0, 7.0), epochs_times=(0.3,))

    strength: float = 3.0
    momentum: float = 0.7

    def start(self, supervision: Supervision) -> None:
        expect(self, strength="[0, inf)", momentum="[0, 1)")
        self.memory = torch.zeros_like(supervision.soft_labels[:, :, 0])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        given = batch.soft_labels.mean(2)  # p_m itself for `single`, where M = 1
        q = log_softmax(logits).exp().clamp(_LEAST, 1 - _LEAST)
        said = remember(self.memory, batch.index, q / q.sum(-1, keepdim=True), self.momentum)
        return cross_entropy(logits, given) + self.strength * (1 - (said * q).sum(-1)).log()
