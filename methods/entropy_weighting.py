"""Weights by certainty: supervisors count the more, the lower the entropy of their soft label."""

from dataclasses import dataclass

from torch import Tensor

from benchmark.api import register_method, safe_log
from methods.ensemble import Ensemble


def entropy(probabilities: Tensor) -> Tensor:
    """H(p) = -sum_c p_c log p_c, (..., K) -> (...); a row that sums to a rounding error above 1 has 0, not less."""
    return (-probabilities * safe_log(probabilities)).sum(-1).clamp_min(0)


def inverse_entropy_weights(entropies: Tensor) -> Tensor:
    """Weights over supervisors, w_m proportional to 1 / (H_m + 1e-8), that sum to 1: (..., M) -> (..., M)."""
    inverse = 1 / (entropies + 1e-8)
    return inverse / inverse.sum(-1, keepdim=True)


@register_method
@dataclass(eq=False)
class EntropyWeighting(Ensemble):
    """CE(q, sum_m w_m(x) p_m(x)) with w_m(x) proportional to 1 / (H(p_m(x)) + 1e-8), for each example x anew.

    Source: inverse-entropy weighting, a baseline of this benchmark.
    """

    name = "entropy_weighting"
    version = 1
    title = "Entropy weighting"
    citation = "inverse-entropy baseline"
    family = "averaging"

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        weights = inverse_entropy_weights(entropy(soft_labels))
        return (weights[..., None] * soft_labels).sum(2)
