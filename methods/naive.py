"""Naive weak-to-strong training on one supervisor."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import Batch, Family, Method, cross_entropy, register_method


@register_method
@dataclass(eq=False)
class Naive(Method):
    """The student imitates one supervisor: CE(q, p_m), q (R, B, K) the student, p_m (R, B, K) its soft labels.

    Source: Burns, Izmailov, Kirchner, Baker, et al. (2023), "Weak-to-Strong Generalization", arXiv:2312.09390.
    """

    name = "naive"
    version = 1
    title = "Naive"
    citation = "Burns et al. 2023, arXiv:2312.09390"
    kind = "single"
    family: ClassVar[Family] = "averaging"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels.squeeze(2))
