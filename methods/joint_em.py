"""Joint EM: the student and the supervisors as annotators of one hidden class."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.api import (
    Batch,
    Family,
    Method,
    Supervision,
    W2SError,
    cross_entropy,
    hard,
    log_softmax,
    product_grid,
    register_method,
    rows_at,
    safe_log,
)
from methods._memory import remember
from methods.spectral import agreement_beyond_chance, leading_eigenvector

BURN_IN = 0.2  # share of all epochs that learn from the first targets
_ALIGN_STEPS = 10


@register_method
@dataclass(eq=False)
class JointEm(Method):
    """w CE(q, (1 - c) t + c onehot(argmax t)), c = min(1, s / 0.2) / 2, s in (0, 1] the share of steps done, and w =
    max_k t_k <t, q>, without gradient and divided by its mean over the replica's minibatch: learned is what is clear
    and what the student can agree with.

    The targets t (R, N, K) start as sum_m v_m (p_m + onehot(argmax p_m)) / 2, v the supervisors' weights by what their
    votes have in common beyond chance (`start_weights`). Before each epoch from 0.2 * epochs on comes a round of EM, r_i
    a running mean of what the student said of example i (momentum 0.7, in the first epoch 0; at first t):

    M step: the prior is align(log r, shrink) and responsibilities are its softmax; of the supervisors' answers
    (√p_1, .., √p_M), as if Gaussian given the class, the classes' means and common covariance;
    E step: t = softmax(align(prior + log likelihood of the answers, shrink)).

    The covariance sees copies; a supervisor whose answers tell nothing drops out, one who contradicts is reversed, and
    its confidence cancels. `align` moves the classes' shares towards equal ones.

    Fails where supervisors say next to nothing or share one bias (alignment then makes classes out of noise: on
    solar-mono-to-poly it fell below the supervisors), with two of three supervisors random, and with an adversarial
    majority. On clean clusters `dine` is ahead.

    Source: this project. EM for annotators with a classifier as prior: Raykar et al. (2010), JMLR 11, 1297-1322; start:
    Parisi et al. (2014), PNAS 111(4), 1253-1258; aligned shares: Berthelot et al. (2020), arXiv:1911.09785; learning
    one's own hard labels: Burns et al. (2023), arXiv:2312.09390.

    Args:
        shrink: how far classes' shares move to 1/K, ρ.
        likelihood, student, sharpen: False leaves out the supervisors' answers after the start, the student's own
            posterior (the prior is then t's class shares), and the hard labels: the ablations.
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
        if not 0 <= self.shrink <= 1:
            raise W2SError(f"{self.name}: expected shrink in [0, 1], found {self.shrink}")
        p = supervision.soft_labels
        self.epochs, self.soft_labels = supervision.epochs, p
        self.targets = (start_weights(p)[:, None, :, None] * (p + hard(p)) / 2).sum(2)
        self.answers = self.targets.clone()

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        q, t = log_softmax(logits.detach()).exp(), rows_at(self.targets, batch.index)
        remember(self.answers, batch.index, q, 0.7 if batch.epoch else 0.0)
        w = t.amax(-1) * (t * q).sum(-1)
        c = min(1.0, batch.progress / 0.2) / 2 if self.sharpen else 0.0
        return cross_entropy(logits, torch.lerp(t, hard(t), c)) * w / w.mean(1, keepdim=True)

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        if BURN_IN * self.epochs <= epoch + 1 < self.epochs:
            known = safe_log(self.answers if self.student else self.targets.mean(1, keepdim=True))
            prior = align(known, self.shrink).expand_as(self.targets)
            posterior = prior
            if self.likelihood:
                responsibilities = prior.softmax(-1) if self.student else self.targets
                posterior = prior + answers_log_likelihood(self.soft_labels, responsibilities)
            self.targets = align(posterior, self.shrink).softmax(-1)


def start_weights(soft_labels: Tensor) -> Tensor:
    """v (R, M), with sum 1: the root of the leading eigenvector of the votes' agreement beyond chance, from 0, + 1e-3.

    Nobody gains by being confident, (R, N, M, K) soft labels count by their argmax.
    """
    common = agreement_beyond_chance(hard(soft_labels))
    v = leading_eigenvector(common).clamp_min(0).sqrt() + 1e-3
    return (v / v.sum(-1, keepdim=True)).to(soft_labels)


def align(scores: Tensor, shrink: float) -> Tensor:
    """Scores z (R, N, K) + a, a (R, 1, K), such that the classes' shares, the mean over examples of softmax(z + a), are
    (1 - shrink) of those of z + shrink / K, by 10 multiplicative steps; wanted shares are at least 1e-6.

    The distribution alignment of Berthelot et al. (2020), arXiv:1911.09785, until it holds.
    """
    if not shrink:
        return scores
    shares = scores.softmax(-1).mean(1, keepdim=True)
    wanted = ((1 - shrink) * shares + shrink / scores.shape[-1]).clamp_min(1e-6)
    for _ in range(_ALIGN_STEPS):
        scores = scores + (wanted / scores.softmax(-1).mean(1, keepdim=True).clamp_min(1e-6)).log()
    return scores


def answers_log_likelihood(soft_labels: Tensor, responsibilities: Tensor) -> Tensor:
    """log N(u_i; m_c, V), up to a constant for each example, (R, N, K): the supervisors' answers u_i = (√p_1, .., √p_M)
    are Gaussian given the class, with the classes' means and common covariance by responsibilities (R, N, K).

    The covariance is ridged by a tenth of its mean variance. Linear discriminant analysis of what supervisors say.
    """
    u = soft_labels.clamp_min(0).sqrt().flatten(2)
    u = u - u.mean(1, keepdim=True)  # (R, N, MK)
    counts = responsibilities.sum(1) + 1e-3
    means = responsibilities.mT @ u / counts[..., None]  # (R, K, MK)
    N, D = u.shape[1:]
    within = (u.mT @ u - means.mT @ (counts[..., None] * means)) / N
    ridge = 0.1 * (within.diagonal(dim1=-2, dim2=-1).mean(-1) + 1e-6)
    V = within + ridge[:, None, None] * torch.eye(D, device=u.device)
    slopes: Tensor = torch.linalg.solve(V, means.mT)  # (R, MK, K)
    return u @ slopes - (means.mT * slopes).sum(1, keepdim=True) / 2
