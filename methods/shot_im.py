"""SHOT's information maximisation beside distillation: sure of each example, undecided about the minibatch."""

import math
from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Batch, Supervision, cross_entropy, log_softmax, product_grid, register_method
from methods._options import expect
from methods.ensemble import Ensemble


def information_maximisation(logits: Tensor) -> Tensor:
    """H(q) - H(mean of q over the replica's minibatch), (R, B), from logits (R, B, K).

    Its mean over the minibatch is minus the mutual information of example and class, so at most 0. Both entropies are
    exact, where the releases of SHOT and DINE have 1e-5 in their logarithms.
    """
    log_q = log_softmax(logits)
    log_mean = log_q.logsumexp(1) - math.log(logits.shape[1])
    batch = (log_mean.exp() * log_mean).sum(-1, keepdim=True)  # - H(mean of q), (R, 1)
    return batch - (log_q.exp() * log_q).sum(-1)


@register_method
@dataclass(eq=False)
class ShotIm(Ensemble):
    """CE(q, p̄) + weight * [H(q) - H(mean of q over the minibatch)] with p̄ = mean_m p_m, H the entropy.

    The second term asks for sure answers that are spread over the classes: it suits classes that are about equally
    frequent and form clusters, and minibatches much larger than K.

    Deviations: SHOT adapts the source's own network by the second term alone; here a student must learn from the
    supervisors first, so both are minimised together. Its pseudo-labels by nearest class centre in feature space
    (weight 0.3) need features and are left out.

    Source: Liang, Hu and Feng (ICML 2020), arXiv:2002.08546, and its code, github.com/tim-learn/SHOT, which has weight
    1 (`ent_par`).

    Args:
        weight: of the second term; 0 is `ensemble`.
    """

    name = "shot_im"
    version = 1
    title = "SHOT-IM"
    citation = "Liang et al. 2020, arXiv:2002.08546"
    family = "source-free adaptation"
    grid = product_grid(weight=(0.3, 3.0, 10.0), epochs_times=(0.3,))

    weight: float = 1.0

    def start(self, supervision: Supervision) -> None:
        expect(self, weight="[0, inf)")
        super().start(supervision)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, self.target(batch)) + self.weight * information_maximisation(logits)
