"""The adaptive confidence loss on the mean of all supervisors."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.adaptive_confidence import AdaptiveConfidence


@register_method
@dataclass(eq=False)
class EnsembleAdaptiveConfidence(AdaptiveConfidence):
    """CE(q, (1 - α) p̄ + α ŷ), α from argmax p̄, p̄ = mean_m p_m: `adaptive_confidence` with what ensemble methods see.

    Source: the loss of Guo et al. (2024), arXiv:2402.03749; the combination is this benchmark's.
    """

    name = "ensemble_adaptive_confidence"
    version = 1
    title = "Adaptive confidence on the ensemble"
    citation = "after Guo et al. 2024, arXiv:2402.03749"
    kind = "ensemble"
