"""Joint EM: the student and the supervisors as annotators of one hidden class."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, lerp

from benchmark.api import (
    Batch,
    Family,
    Method,
    Supervision,
    cross_entropy,
    hard,
    log_softmax,
    product_grid,
    register_method,
    rows_at,
)
from methods._annotators import em_round, first_targets
from methods._memory import remember
from methods._options import expect

BURN_IN = 0.2  # share of all epochs that learn from the first targets


@register_method
@dataclass(eq=False)
class JointEm(Method):
    """w CE(q, (1 - c) t + c onehot(argmax t)), c = min(1, s / 0.2) / 2, s in (0, 1] the share of steps done, and w =
    max_k t_k <t, q>, without gradient and divided by its mean over the replica's minibatch: learned is what is clear
    and what the student can agree with.

    The targets t (R, N, K) start as sum_m v_m (p_m + onehot(argmax p_m)) / 2, weights v_m by what votes have in common
    beyond chance: √max(u_m, 0) + 1e-3, with sum 1, u the leading eigenvector of `spectral`'s matrix, its diagonal 0.
    r_i is a running mean of what the student said of example i when it came by: t at first, q in the first epoch, then
    r_i <- 0.7 r_i + 0.3 q. Before each epoch from 0.2 * epochs on comes a round of EM:

    M step: the prior is align(log r, shrink), responsibilities γ are its softmax. What supervisors say of an example,
    u_i = (√p_1, .., √p_M), is taken to be Gaussian given its class; means m_k and the common covariance V come of γ.
    E step: t_i = softmax(align(prior_i + log N(u_i; m, V), shrink)).

    `align` shifts scores so that classes' shares move towards equal ones. V sees copies; a supervisor whose answers
    tell nothing drops out, one who contradicts is reversed, and over- and underconfidence cancel.

    Fails where supervisors say next to nothing or share one bias (alignment then makes classes out of noise: on the
    first version of the solar tasks it fell below the supervisors), with two of three supervisors random and with an
    adversarial majority (on the suites as they were before), and where classes are very unequal. On clean clusters of
    strong features `dine` is ahead. With a single epoch there is no round of EM.

    Source: this project. EM for annotators with a classifier as prior: Raykar et al. (2010), JMLR 11, 1297-1322; the
    eigenvector: Parisi et al. (2014), PNAS 111(4), 1253-1258; alignment: Berthelot et al. (2020), arXiv:1911.09785;
    sharpening by own labels: Burns et al. (2023), arXiv:2312.09390.

    Args:
        shrink: how far the classes' shares move to 1/K; 0 leaves them.
        likelihood: False leaves out what supervisors say after the start: an ablation, as the others are.
        student: False leaves out what the student says: the prior is t's class shares, and γ the t before.
        sharpen: False is c = 0.
    """

    name = "joint_em"
    version = 1
    title = "Joint EM"
    citation = "this benchmark"
    kind = "ensemble"
    family: ClassVar[Family] = "self-reinforcing"
    grid = product_grid(shrink=(0.0, 0.5, 1.0), epochs_times=(0.3,))

    shrink: float = 0.25
    likelihood: bool = True
    student: bool = True
    sharpen: bool = True

    def start(self, supervision: Supervision) -> None:
        expect(self, shrink="[0, 1]")
        self.epochs, self.supervision = supervision.epochs, supervision
        self.targets = first_targets(supervision.soft_labels)
        self.memory = self.targets.clone()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        q, t = log_softmax(logits.detach()).exp(), rows_at(self.targets, batch.index)
        remember(self.memory, batch.index, q, 0.7 if batch.epoch else 0.0)
        w = t.amax(-1) * (t * q).sum(-1)
        c = min(1.0, batch.progress / 0.2) / 2 if self.sharpen else 0.0
        # a student that is sure of what nobody says has w = 0 throughout, and learns nothing
        return cross_entropy(logits, lerp(t, hard(t), c)) * w / w.mean(1, keepdim=True).clamp_min(1e-30)

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        if BURN_IN * self.epochs <= epoch + 1 < self.epochs:
            t = self.targets
            said, by = (self.memory, None) if self.student else (t.mean(1, keepdim=True).expand_as(t), t)
            given, power = self.supervision.soft_labels, float(self.likelihood)
            self.targets = em_round(said, given, self.shrink, power=power, responsibilities=by)
