"""Worlds of annotators: those who err independently, and those whom features mislead."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.training import TrainingData
from benchmark.students.linear import LinearStudent

SEEDS = (3, 11)


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


def seen(K: int, accuracies: tuple[float, ...], size: int = 1000) -> tuple[Tensor, TrainingData]:
    """The `world` of equal classes with features: clusters that a linear student tells apart nearly always."""
    truth, labels = world(K, accuracies, 1 / K, size)
    rng = torch.Generator().manual_seed(1)
    features = 4 * torch.eye(K)[truth] + torch.randn(len(SEEDS), size, K, generator=rng)
    labels = labels.transpose(1, 2).expand(len(SEEDS), -1, -1, -1)
    return truth.expand(len(SEEDS), -1), _data(features, labels)


def misled(K: int, gains: tuple[float, ...], size: int = 1000) -> tuple[Tensor, TrainingData]:
    """Each supervisor goes by features of the clusters, times its gain, and by as many of its own that say nothing."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.randint(K, (len(SEEDS), size), generator=rng)
    clusters = 4 * torch.eye(K)[truth] + torch.randn(len(SEEDS), size, K, generator=rng)
    own = torch.randn(len(SEEDS), size, len(gains), K, generator=rng)
    labels = (2 * torch.tensor(gains)[:, None] * clusters[:, :, None] + 4 * own).softmax(-1)
    return truth, _data(torch.cat([clusters, own.flatten(2)], 2), labels.transpose(1, 2))


def _data(features: Tensor, labels: Tensor) -> TrainingData:
    """Features (S, N, D), soft labels (S, M, N, K)."""
    features = (features - features.mean(1, keepdim=True)) / features.std(1, keepdim=True)
    return TrainingData({"full": features}, labels.contiguous(), SEEDS, LinearStudent)


def percent_right(targets: Tensor, truth: Tensor) -> float:
    """Of targets (R, N, K) and classes (R, N); a tie is right in part."""
    best = (targets == targets.amax(-1, keepdim=True)).double()
    return 100 * (best / best.sum(-1, keepdim=True)).gather(-1, truth[..., None]).mean().item()
