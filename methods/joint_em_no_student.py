"""An ablation of joint EM: without the student's posterior."""

from dataclasses import dataclass

from benchmark.api import register_method
from methods.joint_em import JointEm


@register_method
@dataclass(eq=False)
class JointEmNoStudent(JointEm):
    """`joint_em` with `student=False`: without the student's posterior.

    Source: an ablation of this benchmark.
    """

    name = "joint_em_no_student"
    version = 1
    title = "Joint EM, without the student's posterior"
    citation = "ablation of this benchmark"
    ablation_of = "joint_em"

    student: bool = False
