"""Generalised cross-entropy: between cross-entropy and the mean absolute error, which noise moves less."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from benchmark.api import Batch, Method, Supervision, log_softmax, product_grid, register_method
from methods._options import expect


@register_method
@dataclass(eq=False)
class Gce(Method):
    """sum_c p̄_c (1 - q_c^power) / power with p̄ = mean_m p_m. As power goes to 0 it becomes CE(q, p̄); at 1 it is
    sum_c p̄_c (1 - q_c), for a hard label half the absolute error sum_c |q_c - p̄_c|.

    Its gradient is that of cross-entropy times q_c^power, small where the student holds the label improbable: with many
    classes and few steps it learns slowly.

    Deviations: the soft target p̄ in the place of one noisy hard label. The paper's second variant, which leaves out
    examples with q_c <= 0.5 ("truncated"), is not here: it needs a search for them between epochs.

    Source: Zhang and Sabuncu (NeurIPS 2018), arXiv:1805.07836; formula and the default 0.7 (q in the paper) by a
    public reimplementation, github.com/AlanChou/Truncated-Loss.

    Args:
        power: in (0, 1].
    """

    name = "gce"
    version = 1
    title = "Generalised cross-entropy"
    citation = "Zhang and Sabuncu 2018, arXiv:1805.07836"
    kind: ClassVar[Literal["single", "ensemble"]] = "ensemble"
    family = "noisy-label loss"
    grid = product_grid(power=(0.3, 0.5, 1.0), epochs_times=(0.3,))

    power: float = 0.7

    def start(self, supervision: Supervision) -> None:
        expect(self, power="(0, 1]")

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        given = batch.soft_labels.mean(2)  # p_m itself for `single`, where M = 1
        by_class = -torch.expm1(self.power * log_softmax(logits)) / self.power  # exact for a small power, too
        return (given * by_class).sum(-1)
