"""Joint EM 2: annotators of one hidden class, and a student that looks for classes its features tell apart."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmark.api import (
    Batch,
    Method,
    Supervision,
    W2SError,
    cross_entropy,
    log_softmax,
    product_grid,
    register_method,
    rows_at,
    safe_log,
)
from methods._annotators import align, answers_log_likelihood, first_targets
from methods._memory import remember
from methods.shot_im import information_maximisation

BURN_IN = 0.3  # share of all epochs that learn from the first targets


@register_method
@dataclass(eq=False)
class JointEm2(Method):
    """CE(q, t) + information / log K * [H(q) - H(mean of q over the minibatch)]; the second term, from the first round
    of EM on, is minus the mutual information of example and class, as a share of the most there can be.

    The targets t (R, N, K) start as those of `joint_em`. Before each epoch from 0.3 * epochs on comes a round of EM as
    there, r_i a running mean of what the student said of example i: the prior is align(log r, shrink),
    t = softmax(align(prior + log N(u; m, V) / 2, shrink)), u = (√p_1, .., √p_M) what supervisors say. V has the
    answers' mean variance added to its diagonal, and the likelihood its root: a few supervisors are no Gaussians, and a
    power of a likelihood that is wrong keeps it from being sure of too much.

    So t says which class an example is by all annotators, and the information that there are such classes: a boundary
    between them passes where the student is sure of few examples. `joint_em` learns its own hard labels and weighs
    examples instead; both are left out here.

    Fails where classes of the pool are very unequal (the minibatch's mean then tends to equal shares), and with an
    adversarial majority.

    Source: this project. Mutual information with soft targets: Krause, Perona and Gomes (NeurIPS 2010), "Discriminative
    clustering by regularized information maximization"; Liang et al. (2020), arXiv:2002.08546. A power of the
    likelihood: Grünwald and van Ommen (2017), Bayesian Analysis 12(4), 1069-1103. Else as of `joint_em`.

    Args:
        information: weight of the second term, λ.
        shrink: how far the classes' shares move to 1/K; 0 leaves them.
    """

    name = "joint_em2"
    version = 1
    title = "Joint EM 2"
    citation = "this benchmark"
    kind = "ensemble"
    family = "self-reinforcing"
    grid = product_grid(information=(0.5,), shrink=(0.0,), epochs_times=(0.3,))

    information: float = 1.0
    shrink: float = 0.1

    def start(self, supervision: Supervision) -> None:
        if not (self.information >= 0 and 0 <= self.shrink <= 1):
            raise W2SError(f"{self.name}: expected information >= 0 and shrink in [0, 1], found {self}")
        self.epochs, self.soft_labels = supervision.epochs, supervision.soft_labels
        self.weight = self.information / math.log(supervision.num_classes)
        self.targets = first_targets(self.soft_labels)
        self.memory = self.targets.clone()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        remember(self.memory, batch.index, log_softmax(logits.detach()).exp(), 0.7 if batch.epoch else 0.0)
        loss = cross_entropy(logits, rows_at(self.targets, batch.index))
        if batch.epoch >= BURN_IN * self.epochs:
            loss = loss + self.weight * information_maximisation(logits)
        return loss

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        if BURN_IN * self.epochs <= epoch + 1 < self.epochs:
            prior = align(safe_log(self.memory), self.shrink)
            likelihood = answers_log_likelihood(self.soft_labels, prior.softmax(-1), ridge=1.0)
            self.targets = align(prior + likelihood / 2, self.shrink).softmax(-1)
