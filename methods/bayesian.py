"""Bayesian WeakS-to-Strong: evidential learning from several supervisors."""

import math
from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Batch, Supervision, hard, product_grid, register_method
from methods._options import expect
from methods.ensemble import Ensemble


@register_method
@dataclass(eq=False)
class Bayesian(Ensemble):
    """The logits z (R, B, K) are evidence for a Dirichlet distribution over class probabilities. With a = relu(z) + 1,
    S = sum_c a_c, s in (0, 1] the share of steps done and ã = (a - 1)(1 - t) + 1, a hard label t costs

        l(t) = sum_c t_c (log S - log a_c) + s KL(Dir(ã) || Dir(1)),

    and the loss is (1 - γ) sum_m λ_m l(onehot(argmax p_m)) + γ l(ŷ), ŷ the student's own hard label, λ_m = 1.

    Predictions are softmax(z), as for every method. The released form multiplies by sum_c p_{m,c} = 1, so soft labels
    enter by their argmax only; so they do here.

    Source: Cui, Zhang, Sun, Wu and Zhang (2024), "Bayesian WeakS-to-Strong from Text Classification to Generation",
    arXiv:2406.03199; evidential loss: Sensoy, Kaplan and Kandemir (2018), arXiv:1806.01768.

    Args:
        gamma: weight of the student's own hard label.
    """

    name = "bayesian"
    version = 1
    title = "Bayesian"
    citation = "Cui et al. 2024, arXiv:2406.03199"
    family = "self-reinforcing"  # the student's own label is part of the target, as in `confidence`; evidential or not
    grid = product_grid(gamma=(0.0, 0.25, 0.75), epochs_times=(0.3,))

    gamma: float = 0.5

    def start(self, supervision: Supervision) -> None:
        expect(self, gamma="[0, 1]")
        super().start(supervision)

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        return hard(soft_labels).sum(2)  # number of votes

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        # l depends on t only through its class, so it is computed once for each class and weighted by votes
        weights = (1 - self.gamma) * self.target(batch) + self.gamma * hard(logits)
        return (weights * evidential_losses(logits, batch.progress)).sum(-1)


def evidential_losses(logits: Tensor, kl_weight: float) -> Tensor:
    """l(onehot(c)) for every class c: (..., K) -> (..., K)."""
    K = logits.shape[-1]
    a = logits.relu() + 1
    total = a.sum(-1, keepdim=True)
    rest = total - a + 1  # sum of ã when the label is c: a_c becomes 1
    own = _log_gamma_term(a, 1)
    # KL = log Γ(Σã) - log Γ(K) - Σ log Γ(ã) + Σ (ã - 1)(ψ(ã) - ψ(Σã)); the label's own ã = 1 contributes nothing
    kl = _log_gamma_term(rest, K) - math.lgamma(K) - (own.sum(-1, keepdim=True) - own)
    return total.log() - a.log() + kl_weight * kl


def _log_gamma_term(x: Tensor, k: int) -> Tensor:
    """log Γ(x) - (x - k) ψ(x)."""
    return x.lgamma() - (x - k) * x.digamma()
