"""What benchmarks of the engine share: made-up pools, the ordinary way, and rates that a machine reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 128


def timed(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds, with the device idle before and after."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def matrix_rate(device: str, size: int = 2048) -> float:
    """Measured float32 matrix-product rate in FLOP/s: the median of products of two square matrices."""
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    return 2 * size**3 / median(timed(lambda: a @ b, device) for _ in range(12))


def copy_rate(device: str, size: int = 2**26) -> float:
    """Measured memory bandwidth in bytes/s, read and written: the median of copies of `size` float32 numbers."""
    a, b = torch.randn(size, device=device), torch.empty(size, device=device)
    return 2 * 4 * size / median(timed(lambda: b.copy_(a), device) for _ in range(12))


def ordinary_epoch(features: Tensor, targets: Tensor, device: str) -> None:
    """One head, one epoch."""
    head = nn.Linear(features.shape[1], targets.shape[1], device=device)
    loader = DataLoader(TensorDataset(features, targets), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(loader))
    for x, t in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(x.to(device)), t.to(device)).backward()
        optimizer.step()
        schedule.step()


@dataclass(frozen=True)
class Cost:
    """What one epoch of S seeds x H heads takes at least.

    Attributes:
        arithmetic: operations of the two products.
        traffic: bytes to and from memory: rows gathered and read twice, logits and their gradient written and read, and
            of the weights the two products' share and Adam's seven passes.
    """

    arithmetic: float
    traffic: float

    @classmethod
    def of_epoch(cls, N: int, D: int, K: int, seeds: int, heads: int) -> Cost:
        """For N train examples in minibatches of 128."""
        steps, weights = N // BATCH, seeds * heads * K * D
        rows, logits = seeds * BATCH * D, seeds * heads * K * BATCH
        return cls(steps * 2 * 2 * BATCH * weights, steps * 4 * (4 * rows + 4 * logits + 9 * weights))


def made_up(N: int, D: int, K: int, M: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (N, D) of K overlapping classes, and soft labels (M, N, K) of supervisors who are right in 6 of 10."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (N,), generator=rng)
    features = torch.randn(N, D, generator=rng) + 2 * torch.randn(K, D, generator=rng)[labels] / D**0.5
    guess = torch.randint(K, (M, N), generator=rng)
    says = torch.where(torch.rand(M, N, generator=rng) < 0.6, labels, guess)
    return features, (nn.functional.one_hot(says, K) * 2 + torch.randn(M, N, K, generator=rng)).softmax(-1)
