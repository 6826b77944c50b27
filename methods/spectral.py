"""Weights of supervisors from what their votes have in common beyond chance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import hard, product_grid, register_method
from methods.agreement_selection import agreement
from methods.ensemble import Ensemble

_POWER_STEPS = 50
_FILLS = 20


def agreement_beyond_chance(votes: Tensor) -> Tensor:
    """A_mn = share of examples on which m and n vote alike - sum_c share_m(c) share_n(c), the covariance of their votes
    for a class summed over classes; A_mm = 0. One-hot votes (R, N, M, K) -> (R, M, M) float64."""
    shares = votes.double().mean(1)  # (R, M, K)
    found = agreement(votes) - shares @ shares.mT
    return torch.where(torch.eye(len(found[0]), device=found.device) > 0, 0.0, found)


def leading_eigenvector(matrix: Tensor) -> Tensor:
    """Of symmetric matrices (R, M, M): unit vectors (R, M), (1, .., 1) / sqrt(M) for a matrix of zeros.

    50 power steps from ones. What is added to the diagonal, a tenth of the entries' mean absolute row sum, favours the
    largest eigenvalue over the largest in size.
    """
    vector = torch.ones_like(matrix[..., :1]) / matrix.shape[-1] ** 0.5
    shift = 0.1 * matrix.abs().sum((-2, -1)).view(-1, 1, 1) / matrix.shape[-1]
    for _ in range(_POWER_STEPS):
        moved = matrix @ vector + shift * vector
        length = moved.norm(dim=-2, keepdim=True)
        vector = torch.where(length > 0, moved / length, vector)
    return vector.squeeze(-1)


def rank_one_factor(matrix: Tensor) -> Tensor:
    """v (R, M) with v vᵀ near symmetric matrices (R, M, M) whose diagonal is 0, but for the diagonal: the leading
    eigenvector, times the root of its value, of the matrix with v_m² in its diagonal, 20 times over."""
    factor = torch.zeros_like(matrix[..., 0])
    for _ in range(_FILLS):
        filled = matrix + torch.diag_embed(factor**2)
        vector = leading_eigenvector(filled)
        value = torch.einsum("rm,rmn,rn->r", vector, filled, vector).clamp_min(0)
        factor = vector * value.sqrt()[:, None]
    return factor


@register_method
@dataclass(eq=False)
class Spectral(Ensemble):
    """CE(q, sum_m w_m v_m), v_m the one-hot votes, w proportional to max(u, 0), where off the diagonal u uᵀ is near the
    votes' agreement beyond chance: sum_c Cov(votes of m for c, votes of n for c) for m != n.

    With errors independent given the class and two classes, u_m is proportional to m's balanced accuracy less one half,
    and the weighted vote a linear approximation of the most likely class.

    Source: the spectral meta-learner of Parisi, Strino, Nadler and Kluger (2014), PNAS 111(4), 1253-1258,
    arXiv:1303.3257 (abstract, and code of the authors' laboratory, which finds the diagonal by least squares on
    logarithms). This project's: more than two classes, by the sum; the diagonal from u in turns; no vote counts
    negatively, as with more than two classes its opposite is no class; the target is the share, not its sign.

    Args:
        sharpen: the target is the class of the largest share, as in the paper.
    """

    name = "spectral"
    version = 1
    title = "Spectral meta-learner"
    citation = "Parisi et al. 2014, PNAS; arXiv:1303.3257"
    family = "label model"
    grid = product_grid(sharpen=(True,), learning_rate_times=(3,), epochs_times=(0.3,))

    sharpen: bool = False

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        votes = hard(soft_labels)
        w = rank_one_factor(agreement_beyond_chance(votes)).clamp_min(1e-8)
        self.weights = (w / w.sum(-1, keepdim=True)).to(soft_labels)
        target = (self.weights[:, None, :, None] * votes).sum(2)
        return hard(target) if self.sharpen else target

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights}
