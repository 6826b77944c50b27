"""An ablation of joint EM: without sharpening."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.joint_em import JointEm


@register_method
@dataclass(eq=False)
class JointEmNoSharpening(JointEm):
    """`joint_em` with `sharpen=False`: without sharpening.

    Source: an ablation of this benchmark.
    """

    name = "joint_em_no_sharpening"
    version = 1
    title = "Joint EM, without sharpening"
    citation = "ablation of this benchmark"
    ablation_of = "joint_em"

    sharpen: bool = False
