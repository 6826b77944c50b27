"""Training on the posterior of a label model that has a closed form in triplets of supervisors."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from benchmark.api import Supervision, W2SError, hard, product_grid, register_method
from methods.ensemble import Ensemble


@register_method
@dataclass(eq=False)
class FlyingSquid(Ensemble):
    """CE(q, posterior): each class against the rest, votes l_i and truth Y in {-1, 1}, S_ij = E[l_i l_j].

    Votes are independent given Y, so that accuracies a_i = E[l_i Y] solve S_ij = a_i a_j: a_i is the mean over pairs
    j < k of others of sqrt |S_ij S_ik / S_jk| (zeros left out), at most 1. With E[Y] this gives P(l_i, Y) =
    |1 + l_i E[l_i] + Y E[Y] + l_i Y a_i| / 4 and P(Y | l_1 .. l_M), proportional to P(Y) prod_i P(l_i | Y). The
    classes' posteriors are divided by their sum.

    Roots have no sign: all supervisors are taken for better than chance, one that is worse for a good one.

    Source: Fu, Chen, Sala, Hooper, Fatahalian and Re, ICML 2020, arXiv:2002.11955; released code (`triplet_mean`,
    `all_positive`, `flip_negative`). Of this project: class against rest is put together by dividing by the sum (the
    WRENCH wrapper's softmax of probabilities makes targets of ten classes almost uniform); a_i at most 1; E[Y] from the
    votes where the release has a uniform one, or is told.

    Args:
        centred: triplets of covariances, Cov(l_i, l_j) = c_i c_j, a_i = c_i sd(Y) + E[l_i] E[Y], which classes of
            unequal size do not bias (Jaffe, Nadler and Kluger, AISTATS 2015, from memory).
        balance: P(Y): `votes`, the classes' shares of all votes, or `uniform`, 1 / K.
    """

    name = "flyingsquid"
    version = 1
    title = "FlyingSquid"
    citation = "Fu et al. 2020, arXiv:2002.11955"
    family = "label model"
    min_supervisors = 3
    grid = product_grid(centred=(True,), balance=("uniform",), epochs_times=(0.3,))

    centred: bool = False
    balance: str = "votes"

    def start(self, supervision: Supervision) -> None:
        check_balance(self.name, self.balance)
        super().start(supervision)

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        votes = hard(soft_labels).double()
        signs = (2 * votes - 1).transpose(2, 3)  # (R, N, K, M)
        N, total = signs.shape[1], signs.sum(1)
        mean, truth = total / N, 2 * class_shares(votes, self.balance)[..., None] - 1  # (R, K, M), (R, K, 1)
        moments = N * torch.einsum("rnki,rnkj->rkij", signs, signs)
        if self.centred:
            moments = moments - total[..., :, None] * total[..., None, :]  # of whole numbers, so that a zero is one
        accuracy = triplet_means(moments / N**2)
        if self.centred:
            accuracy = accuracy * (1 - truth**2).sqrt() + mean * truth
        accuracy = accuracy.clamp(-1, 1)

        def log_joint(y: int) -> Tensor:
            """log P(Y = y, all votes), (R, N, K)."""
            marginal = (1 + y * truth) / 2
            joint = (1 + y * truth)[:, None] + signs * (mean + y * accuracy)[:, None]
            given = joint.abs() / 4 / marginal.clamp_min(_LEAST)[:, None]
            return given.clamp_min(_LEAST).log().sum(-1) + marginal.clamp_min(_LEAST).log()[:, None, :, 0]

        return logsigmoid(log_joint(1) - log_joint(-1)).softmax(-1).to(soft_labels)


_LEAST = 1e-10  # of a probability before its logarithm


def triplet_means(moments: Tensor) -> Tensor:
    """Mean over j < k of sqrt |S_ij S_ik / S_jk| that is not 0, for each i: (..., M, M) -> (..., M); 0 if none is."""
    M = moments.shape[-1]
    i, j, k = torch.ones(M, M, M, device=moments.device).nonzero().T
    i, j, k = (x[(i != j) & (i != k) & (j < k)] for x in (i, j, k))
    below = moments[..., j, k]
    ratio = moments[..., i, j] * moments[..., i, k] / torch.where(below == 0, torch.inf, below)
    root = ratio.abs().sqrt().unflatten(-1, (M, -1))
    mean: Tensor = root.sum(-1) / (root > 0).sum(-1).clamp_min(1)
    return mean


def check_balance(name: str, balance: str) -> None:
    """
    Raises:
        W2SError: `class_shares` knows no such balance.
    """
    if balance not in ("votes", "uniform"):
        raise W2SError(f"{name}: expected balance 'votes' or 'uniform', found {balance!r}")


def class_shares(votes: Tensor, balance: str) -> Tensor:
    """P(class), (R, K): each class's share of one-hot votes (R, N, M, K), or 1 / K."""
    return votes.mean((1, 2)) if balance == "votes" else torch.full_like(votes[:, 0, 0], 1 / votes.shape[-1])
