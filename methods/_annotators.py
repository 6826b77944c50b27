"""Supervisors as annotators of one hidden class: their first weights, the likelihood of what they say, class shares.

Shapes: R replicas, N examples of the train split, M supervisors, K classes.
"""

import torch
from torch import Tensor

from benchmark.api import hard, safe_log
from methods._agreement import agreement_beyond_chance, leading_eigenvector

_ALIGN_STEPS = 10


def start_weights(soft_labels: Tensor) -> Tensor:
    """v (R, M), with sum 1, of soft labels (R, N, M, K): proportional to sqrt(max(u, 0)) + 1e-3, u the leading
    eigenvector of the votes' agreement beyond chance. Votes are argmax p_m: nobody gains by being confident.

    Source: the eigenvector by Parisi et al. (2014), PNAS 111(4), 1253-1258; its root is this project's.
    """
    common = agreement_beyond_chance(hard(soft_labels))
    v = leading_eigenvector(common).clamp_min(0).sqrt() + 1e-3
    return (v / v.sum(-1, keepdim=True)).to(soft_labels)


def first_targets(soft_labels: Tensor) -> Tensor:
    """sum_m v_m (p_m + onehot(argmax p_m)) / 2, (R, N, K), v the `start_weights`, of soft labels (R, N, M, K)."""
    v = start_weights(soft_labels)[:, None, :, None]
    return (v * (soft_labels + hard(soft_labels)) / 2).sum(2)


def align(scores: Tensor, shrink: float) -> Tensor:
    """Scores z (R, N, K) + a, with a (R, 1, K) such that class c's share, the mean over examples of softmax(z + a)_c,
    moves to (1 - shrink) times that of z, plus shrink / K (at least 1e-6).

    Ten multiplicative steps, which come near for answers that are unsure and stop short of it where all are sure: a
    share that would need sure answers to be turned round stays.

    Source: the step by Berthelot et al. (2020), arXiv:1911.09785, there one, on each prediction.

    Args:
        scores: unnormalised log probabilities.
        shrink: in [0, 1]; 0 does nothing, 1 asks for equal shares.
    """
    if not shrink:
        return scores
    z = scores.mT.contiguous()  # (R, K, N): sums over classes and means over examples are fast
    shares = z.softmax(-2).mean(-1, keepdim=True)
    wanted = ((1 - shrink) * shares + shrink / z.shape[1]).clamp_min(1e-6)
    added = torch.zeros_like(wanted)
    for _ in range(_ALIGN_STEPS):
        added = added + (wanted / (z + added).softmax(-2).mean(-1, keepdim=True).clamp_min(1e-6)).log()
    return scores + added.mT


def em_round(
    said: Tensor,
    soft_labels: Tensor,
    shrink: float,
    ridge: float = 0.1,
    power: float = 1.0,
    responsibilities: Tensor | None = None,
) -> Tensor:
    """Targets (R, N, K) of a round of EM, softmax(align(prior + power log N(u; m, V))) with prior = align(log said).

    Args:
        said: (R, N, K) what the student says of each example.
        soft_labels: (R, N, M, K).
        shrink: as of `align`.
        ridge: as of `answers_log_likelihood`.
        power: of the likelihood; 0 leaves the supervisors out.
        responsibilities: (R, N, K) for the means and the covariance; the prior's softmax by default.
    """
    prior = align(safe_log(said), shrink)
    by = prior.softmax(-1) if responsibilities is None else responsibilities
    return align(prior + power * answers_log_likelihood(soft_labels, by, ridge), shrink).softmax(-1)


def answers_log_likelihood(soft_labels: Tensor, responsibilities: Tensor, ridge: float = 0.1) -> Tensor:
    """log N(u_i; m_c, V) but for a constant of each example, (R, N, K): what supervisors say of an example, u_i =
    (√p_1, .., √p_M) of length MK, is Gaussian given its class c, with a covariance common to all classes.

    m_c and V are the estimates by responsibilities γ; each class has, beside the examples, 1e-3 of one at their mean.
    `ridge` times V's mean variance (+ 1e-6) is added to its diagonal. V sees copies; a supervisor whose answers tell
    nothing drops out, one who contradicts is reversed, and the scale of answers cancels. (Linear discriminant analysis
    with soft classes.)

    Source: this project.

    Args:
        soft_labels: (R, N, M, K).
        responsibilities: γ (R, N, K), with sum 1 over classes.
        ridge: what is added, in mean variances.
    """
    u = soft_labels.clamp_min(0).sqrt().flatten(2)
    u = u - u.mean(1, keepdim=True)  # (R, N, MK)
    counts = responsibilities.sum(1) + 1e-3
    means = responsibilities.mT @ u / counts[..., None]  # (R, K, MK)
    N, D = u.shape[1:]
    within = (u.mT @ u - means.mT @ (counts[..., None] * means)) / N
    added = ridge * (within.diagonal(dim1=-2, dim2=-1).mean(-1) + 1e-6)
    V = within + added[:, None, None] * torch.eye(D, device=u.device)
    slopes: Tensor = torch.linalg.solve(V, means.mT)  # (R, MK, K)
    return u @ slopes - (means.mT * slopes).sum(1, keepdim=True) / 2
