"""Supervisors as annotators with confusion matrices that are learned together with the student."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmark.api import Batch, Supervision, log_softmax, product_grid, register_method, safe_log
from methods._adam import LearnsByAdam
from methods._options import expect


@register_method
@dataclass(eq=False)
class AnnotatorConfusion(LearnsByAdam):
    """sum_m [CE(q A_m, p_m) + trace * tr A_m]: q is the true class, A_m[k, c] the probability that supervisor m says c
    of class k: rows of softplus(W_m) divided by their sum, W_m (K, K) = 6 I - 5 at first, near to the identity, and
    learned by Adam. A small trace blames supervisors for as much as it can, which leaves q the clean part.

    Predictions are q. Deviations: soft p_m in the place of hard labels; W has an Adam with a step size of its own, as a
    method does not know the student's. (In the paper's listing the trace is a mean over annotators; the sum here is its
    equation, from memory.)

    Source: Tanno, Saeedi, Sankaranarayanan, Alexander and Silberman (CVPR 2019), arXiv:1902.03680, loss and start by
    its listing; trace = 0.01 is from memory, `rate` this project's. As a layer of the network without the trace:
    Rodrigues and Pereira (AAAI 2018), arXiv:1709.01779.

    Args:
        trace: weight of the traces.
        rate: step size of W's Adam.
    """

    name = "annotator_confusion"
    version = 1
    title = "Annotator confusion"
    citation = "Tanno et al. 2019, arXiv:1902.03680"
    kind = "ensemble"
    family = "label model"
    grid = product_grid(trace=(0.0, 0.1, 1.0), epochs_times=(0.3,))

    trace: float = 0.01
    rate: float = 0.01

    def start(self, supervision: Supervision) -> None:
        expect(self, trace="[0, inf)", rate="[0, inf)")
        R, _, M, K = supervision.soft_labels.shape
        start = 6 * torch.eye(K).to(supervision.soft_labels) - 5
        self.scores = self.learned(start.repeat(R, M, 1, 1), self.rate)

    def confusion(self) -> Tensor:
        """A, (R, M, K, K): rows are true classes."""
        positive = softplus(self.scores)
        return positive / positive.sum(-1, keepdim=True)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        A = self.confusion()
        said = torch.einsum("rbk,rmkc->rbmc", log_softmax(logits).exp(), A)
        traces = A.diagonal(dim1=-2, dim2=-1).sum((1, 2))
        return -(batch.soft_labels * safe_log(said)).sum((2, 3)) + self.trace * traces[:, None]

    def diagnostics(self) -> dict[str, Tensor]:
        return {"skill": self.confusion().diagonal(dim1=-2, dim2=-1).mean(-1)}
