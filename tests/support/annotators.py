"""A world of annotators who err independently."""

from __future__ import annotations

import torch
from torch import Tensor


def world(K: int, accuracies: tuple[float, ...], first: float, size: int = 40_000) -> tuple[Tensor, Tensor]:
    """True classes (1, N) and soft labels (1, N, M, K): class 0 has this share, a wrong answer is any other class."""
    rng = torch.Generator().manual_seed(0)
    frequency = torch.tensor([first, *[(1 - first) / (K - 1)] * (K - 1)])
    truth = torch.multinomial(frequency, size, True, generator=rng)[None]
    votes = []
    for accuracy in accuracies:
        wrong = (truth + torch.randint(1, K, truth.shape, generator=rng)) % K
        votes.append(torch.where(torch.rand(truth.shape, generator=rng) < accuracy, truth, wrong))
    return truth, 0.9 * torch.eye(K)[torch.stack(votes, 2)] + 0.1 / K


def percent_right(targets: Tensor, truth: Tensor) -> float:
    """Of targets (R, N, K) and classes (R, N); a tie is right in part."""
    best = (targets == targets.amax(-1, keepdim=True)).double()
    return 100 * (best / best.sum(-1, keepdim=True)).gather(-1, truth[..., None]).mean().item()
