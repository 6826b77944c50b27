"""Reverse KL: the student may leave out what the supervisor thinks possible, but not add what it excludes."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from benchmark.api import Batch, Method, Supervision, log_softmax, product_grid, register_method
from methods._options import expect


@register_method
@dataclass(eq=False)
class ReverseKl(Method):
    """KL(q || p_m) = sum_c q_c (entropy * log q_c - log p_mc), with entropy = 1; the second term alone (entropy = 0) is
    reverse cross-entropy. Logarithms of given probabilities are clamped at `floor`, which decides what a supervisor's
    hard label costs: -log 1e-8 = 18 for all of q elsewhere.

    Source: Yao, Yang, Wang, Lin and Liu (Findings of ACL 2025), arXiv:2502.11107. Its losses are KL and cross-entropy
    with student and supervisor exchanged, by its abstract and a summary of the paper (papernotes.org); its equations
    were not read. The clamp is this project's. There is also a variant with a confidence loss on top, not here.

    Deviation: they train for one epoch, on pairs of two classes.

    Args:
        entropy: weight of the student's negative entropy.
        floor: least probability of a supervisor.
    """

    name = "reverse_kl"
    version = 1
    title = "Reverse KL"
    citation = "Yao et al. 2025, arXiv:2502.11107"
    kind: ClassVar[Literal["single", "ensemble"]] = "single"
    family = "noisy-label loss"
    grid = product_grid(entropy=(0.0,), floor=(1e-2,), epochs_times=(0.3,))

    entropy: float = 1.0
    floor: float = 1e-8

    def start(self, supervision: Supervision) -> None:
        expect(self, entropy="[0, inf)", floor="(0, 1)")

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        given = batch.soft_labels.mean(2)  # p_m itself for `single`, where M = 1
        log_q = log_softmax(logits)
        return (log_q.exp() * (self.entropy * log_q - given.clamp_min(self.floor).log())).sum(-1)
