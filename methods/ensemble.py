"""Training on the mean of all supervisors, and the frame of every method whose target is fixed before training."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from benchmark.api import Batch, Family, Method, Supervision, cross_entropy, register_method, rows_at


@register_method
@dataclass(eq=False)
class Ensemble(Method):
    """The student imitates the supervisors' mean: CE(q, p̄) with p̄ = mean_m p_m.

    A subclass that overrides `aggregate` is a method with another fixed target. Targets are made once, before
    training: a minibatch then costs one look-up however dear the aggregation.

    Source: a baseline of Jeon, Sobotka, Choi and Brbić (2025), arXiv:2510.21332.
    """

    name = "ensemble"
    version = 1
    title = "Ensemble mean"
    citation = "Jeon et al. 2025, arXiv:2510.21332 (baseline)"
    kind = "ensemble"
    family: ClassVar[Family] = "averaging"

    def start(self, supervision: Supervision) -> None:
        self.targets = self.aggregate(supervision.soft_labels)

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        """Targets (R, N, K) from the supervisors' soft labels (R, N, M, K)."""
        return soft_labels.mean(2)

    def target(self, batch: Batch) -> Tensor:
        """The minibatch's targets, (R, B, K)."""
        return rows_at(self.targets, batch.index)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, self.target(batch))
