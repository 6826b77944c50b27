"""How alike supervisors vote, and what follows for their weights.

Shapes: R replicas, N examples of the train split, M supervisors, K classes; votes are one-hot.
"""

import torch
from torch import Tensor

_POWER_STEPS = 50


def agreement_with_others(votes: Tensor) -> Tensor:
    """Mean share of the others who vote as a supervisor does, 0 without others: one-hot (R, N, M, K) -> (R, M)."""
    _, N, M, _ = votes.shape
    alike = (votes * votes.sum(2, keepdim=True)).sum((1, 3)) - N  # whole numbers, so that ties stay ties
    return alike / (N * max(1, M - 1))


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
