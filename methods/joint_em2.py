"""Joint EM 2: annotators of one hidden class, and a student that looks for classes its features tell apart."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Batch, Method, Supervision, cross_entropy, log_softmax, product_grid, register_method, rows_at
from methods._annotators import em_round, first_targets
from methods._memory import remember
from methods._options import expect
from methods.shot_im import information_maximisation

BURN_IN = 0.3  # share of all epochs that learn from the first targets alone


@register_method
@dataclass(eq=False)
class JointEm2(Method):
    """CE(q, t) + information / log K * [H(q) - H(q̄)], H the entropy, q̄ the mean of q over the replica's minibatch. The
    second term comes with the first round of EM; its mean is minus the mutual information of example and class, as a
    share of the most there can be.

    The targets t (R, N, K) start as sum_m v_m (p_m + onehot(argmax p_m)) / 2, weights v as in `joint_em`. r_i is a
    running mean of what the student said of example i: t at first, q in the first epoch, then r_i <- 0.7 r_i + 0.3 q.
    Before each epoch from 0.3 * epochs on comes a round of EM:

    1. The prior is align(log r, shrink), responsibilities γ are its softmax. What supervisors say, u_i = (√p_1, ..,
       √p_M), is taken to be Gaussian given the class; means m_k and the common covariance V come of γ, and V's mean
       variance is added to its diagonal.
    2. t_i = softmax(align(prior_i + log N(u_i; m, V) / 2, shrink)).

    Half the likelihood, as answers are no Gaussians and should not make t too sure. `joint_em` has hard labels of its
    own and weights of examples in place of the second term, and a tenth of the ridge. That has a price: a supervisor
    who is there twice counts up to a third more, and one who alone is less sure than the others counts less.

    Fails where classes of the pool are very unequal, as q̄ tends to equal shares (80:20 on development problems: less
    than half the PGR of `elr`, which has 62); with an adversarial majority, which it follows further than others; where
    the student has learned little by the first round, as in short training with many classes, for it is the prior; and
    with minibatches not much larger than K. In a single epoch only the first targets are learned.

    Source: this project. Mutual information: Bridle, Heading and MacKay (NIPS 1991); beside some labels, Krause, Perona
    and Gomes (NIPS 2010; abstract); beside soft labels, `dine`, Liang et al. (2022), arXiv:2104.01539. A power of a
    likelihood that is wrong: Grünwald and van Ommen (2017), Bayesian Analysis 12(4), 1069-1103 (abstract; they learn
    it). EM, weights and `align`: see `joint_em`.

    Args:
        information: weight of the second term; 0 leaves it out.
        shrink: how far `align` moves the classes' shares to 1/K; 0 leaves them.
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
        expect(self, information="[0, inf)", shrink="[0, 1]")
        self.epochs, self.supervision = supervision.epochs, supervision
        self.weight = self.information / math.log(supervision.num_classes)
        self.targets = first_targets(supervision.soft_labels)
        self.memory = self.targets.clone()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        remember(self.memory, batch.index, log_softmax(logits.detach()).exp(), 0.7 if batch.epoch else 0.0)
        loss = cross_entropy(logits, rows_at(self.targets, batch.index))
        if batch.epoch >= BURN_IN * self.epochs:
            loss = loss + self.weight * information_maximisation(logits)
        return loss

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        if BURN_IN * self.epochs <= epoch + 1 < self.epochs:
            given = self.supervision.soft_labels
            self.targets = em_round(self.memory, given, self.shrink, ridge=1.0, power=0.5)
