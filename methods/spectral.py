"""Weights of supervisors from what their votes have in common beyond chance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import hard, product_grid, register_method
from methods.ensemble import Ensemble

_POWER_STEPS = 50


def agreement_beyond_chance(votes: Tensor) -> Tensor:
    """A_mn = share of examples on which m and n vote alike - sum_c share_m(c) share_n(c), the covariance of their votes
    for a class summed over classes; A_mm = 0. One-hot votes (R, N, M, K) -> (R, M, M) float64."""
    _, N, M, _ = votes.shape
    votes = votes.double()
    by_supervisor, counts = votes.transpose(1, 2).flatten(2), votes.sum(1)  # (R, M, N * K), (R, M, K)
    found = N * by_supervisor @ by_supervisor.mT - counts @ counts.mT  # of whole numbers, so that a zero is one
    return torch.where(torch.eye(M, device=votes.device) > 0, 0.0, found / N**2)


def leading_eigenvector(matrix: Tensor) -> Tensor:
    """Of symmetric matrices (R, M, M): unit vectors (R, M), (1, .., 1) / sqrt(M) for a matrix of zeros.

    50 power steps from ones. What is added to the diagonal, a tenth of the entries' mean absolute row sum, favours the
    largest eigenvalue over the largest in size.
    """
    vector: Tensor = torch.ones_like(matrix[..., :1]) / matrix.shape[-1] ** 0.5
    shift = 0.1 * matrix.abs().sum((-2, -1)).view(-1, 1, 1) / matrix.shape[-1]
    for _ in range(_POWER_STEPS):
        moved = matrix @ vector + shift * vector
        length = moved.norm(dim=-2, keepdim=True)
        vector = torch.where(length > 0, moved / length, vector)
    return vector.squeeze(-1)


def rank_one_diagonal(matrix: Tensor, variances: Tensor) -> Tensor:
    """The diagonal v_m², (R, M), of v vᵀ near matrices (R, M, M) off their diagonal; at most the votes' own variances.

    log |A_mn| = b_m + b_n by least squares, each pair weighed by A_mn² / (variance of m · that of n + A_mn²); v_m² =
    exp(2 b_m). A pair with A_mn = 0 does not count, and a row without others gives 0; of solutions, the shortest.
    """
    squares = matrix.square()
    weights = torch.where(squares > 0, squares / (variances[:, :, None] * variances[:, None] + squares), 0.0)
    known = (weights * torch.where(squares > 0, squares.log() / 2, 0.0)).sum(-1, keepdim=True)
    total = weights.sum(-1)
    b = torch.linalg.pinv(weights + torch.diag_embed(total), rtol=1e-10, hermitian=True) @ known
    return torch.where(total > 0, (2 * b[..., 0]).exp(), 0.0).minimum(variances)


@register_method
@dataclass(eq=False)
class Spectral(Ensemble):
    """CE(q, sum_m w_m v_m), v_m the one-hot votes, w proportional to max(u, 0), u the leading eigenvector of the votes'
    agreement beyond chance, sum_c Cov(votes of m for c, votes of n for c), with the diagonal that makes its rank one.

    With errors independent given the class and two classes, u_m is proportional to m's balanced accuracy less one half,
    and the weighted vote a linear approximation of the most likely class.

    Source: the spectral meta-learner of Parisi, Strino, Nadler and Kluger (2014), PNAS 111(4), 1253-1258,
    arXiv:1303.3257 (abstract, and code of the authors' laboratory, whose diagonal this is but for its bound). This
    project's: more than two classes, by the sum; no vote counts negatively, as with more than two classes its opposite
    is no class; the target is the share, not its sign.

    Args:
        sharpen: the target is the class of the largest share, as in the paper.
    """

    name = "spectral"
    version = 1
    title = "Spectral meta-learner"
    citation = "Parisi et al. 2014, PNAS; arXiv:1303.3257"
    family = "label model"
    min_supervisors = 3  # two who contradict one another leave no direction
    grid = product_grid(sharpen=(True,), learning_rate_times=(3,), epochs_times=(0.3,))

    sharpen: bool = False

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        votes = hard(soft_labels)
        common = agreement_beyond_chance(votes)
        diagonal = rank_one_diagonal(common, 1 - votes.double().mean(1).square().sum(-1))
        w = leading_eigenvector(common + torch.diag_embed(diagonal)).clamp_min(1e-8)
        self.weights = (w / w.sum(-1, keepdim=True)).to(soft_labels)
        target = (self.weights[:, None, :, None] * votes).sum(2)
        return hard((1e4 * target).round()) if self.sharpen else target  # equal but for rounding is a tie

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights}
