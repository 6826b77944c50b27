"""Reverse KL to the mean of all supervisors."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.reverse_kl import ReverseKl


@register_method
@dataclass(eq=False)
class EnsembleReverseKl(ReverseKl):
    """KL(q || p̄) with p̄ = mean_m p_m: `reverse_kl` with what ensemble methods see, for a fair comparison.

    Source: the loss of Yao et al. (2025), arXiv:2502.11107; the combination is this benchmark's.
    """

    name = "ensemble_reverse_kl"
    version = 1
    title = "Reverse KL on the ensemble"
    citation = "after Yao et al. 2025, arXiv:2502.11107"
    kind = "ensemble"
