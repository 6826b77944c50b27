"""The confidence loss on the mean of all supervisors."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.confidence import Confidence


@register_method
@dataclass(eq=False)
class EnsembleConfidence(Confidence):
    """CE(q, (1 - c) p̄ + c ŷ) with p̄ = mean_m p_m: `confidence` with what ensemble methods see, for a fair comparison.

    Source: the loss of Burns et al. (2023), arXiv:2312.09390; the combination is this benchmark's.
    """

    name = "ensemble_confidence"
    version = 1
    title = "Confidence on the ensemble"
    citation = "after Burns et al. 2023, arXiv:2312.09390"
    kind = "ensemble"
