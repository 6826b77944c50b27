"""An ablation of joint EM: without the answers' likelihood."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.joint_em import JointEm


@register_method
@dataclass(eq=False)
class JointEmNoLikelihood(JointEm):
    """`joint_em` with `likelihood=False`: without the answers' likelihood.

    Source: an ablation of this benchmark.
    """

    name = "joint_em_no_likelihood"
    version = 1
    title = "Joint EM, without the answers' likelihood"
    citation = "ablation of this benchmark"
    ablation_of = "joint_em"

    likelihood: bool = False
