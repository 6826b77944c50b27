"""Training on the one supervisor that agrees most with the others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import hard, register_method
from methods._agreement import agreement_with_others
from methods.ensemble import Ensemble


@register_method
@dataclass(eq=False)
class AgreementSelection(Ensemble):
    """CE(q, p_m*), m* = argmax_m sum_{l != m} (share of examples for which m and l vote alike); the first of a tie.

    With two classes and errors that are independent, agreement is a_ml = (1 + d_m d_l) / 2, d = 1 - 2 error, so that
    m's sum exceeds n's by (d_m - d_n) / 2 times the d of all others: if these are better than chance in sum, m* is the
    most accurate supervisor. Two copies of a bad supervisor defeat it. A reference below which no method should be.

    Source: agreement rates tell errors, Platanios, Blum and Mitchell (UAI 2014), who solve for the errors (abstract
    read); that here only their order is used is this project's choice.
    """

    name = "agreement_selection"
    version = 1
    title = "Agreement selection"
    citation = "after Platanios et al. 2014, UAI"
    family = "averaging"

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        chosen = agreement_with_others(hard(soft_labels)).max(-1).indices
        self.weights = torch.nn.functional.one_hot(chosen, soft_labels.shape[2]).to(soft_labels)
        return soft_labels[torch.arange(len(chosen), device=chosen.device), :, chosen]

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights}
