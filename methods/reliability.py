"""Reliability-aware weak-to-strong training: answers count by how many of the supervisors give them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import Supervision, hard, product_grid, register_method
from methods._options import expect
from methods.ensemble import Ensemble
from methods.entropy_weighting import entropy


@register_method
@dataclass(eq=False)
class Reliability(Ensemble):
    """mean_m w(v_m) CE(q, onehot(v_m)) with v_m = argmax p_m and w = softmax over the distinct answers to an example of
    (share of the supervisors that give the answer) / temperature. That is CE(q, sum_c share_c w_c onehot(c)), whose
    target sums to less than 1 where supervisors disagree.

    With `keep` < 1 ("uncertainty filtering"), examples whose answers' entropy is above that quantile of the train
    split have loss 0; all of a tie at the quantile are kept.

    Deviation: the paper asks one weak model five times; here every supervisor answers once.

    Source: Guo and Yang (2024), "Improving Weak-to-Strong Generalization with Reliability-Aware Alignment",
    arXiv:2406.19032; formula and temperature by its code, github.com/Irenehere/ReliableAlignment. Its two methods are
    re-weighting, the default here, and filtering, `temperature=None, keep=0.5`.

    Args:
        temperature: None for w = 1.
        keep: quantile, in (0, 1].
    """

    name = "reliability"
    version = 1
    title = "Reliability-aware"
    citation = "Guo and Yang 2024, arXiv:2406.19032"
    family = "averaging"
    grid = product_grid(temperature=(None,), keep=(0.5,), epochs_times=(0.3,))

    temperature: float | None = 0.2
    keep: float = 1.0

    def start(self, supervision: Supervision) -> None:
        expect(self, temperature="(0, inf) or None", keep="(0, 1]")
        super().start(supervision)

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        share = hard(soft_labels).mean(2)
        uncertain = entropy(share.sort(-1).values)  # sorted: the same shares have the same sum, bit by bit
        kept = uncertain <= uncertain.quantile(self.keep, dim=1, keepdim=True)
        target = share * kept[..., None]
        if self.temperature is None:
            return target
        return target * (share / self.temperature).masked_fill(share == 0, -torch.inf).softmax(-1)
