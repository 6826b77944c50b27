"""Training on the supervisors' votes."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import Family, hard, register_method
from methods.ensemble import Ensemble


@register_method
@dataclass(eq=False)
class MajorityVote(Ensemble):
    """CE(q, mean_m onehot(argmax p_m)): each supervisor votes for one class, the target is the share of votes.

    A tie between classes therefore stays in the target; a tie within a supervisor goes to the class of the lowest id.

    Source: classical; a baseline of this benchmark.
    """

    name = "majority_vote"
    version = 1
    title = "Majority vote"
    citation = "classical baseline"
    family: ClassVar[Family] = "averaging"

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        return hard(soft_labels).mean(2)
