"""A minibatch of random soft labels and logits, on which a method's loss is taken."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.api import Batch, Method
from benchmark.testing import make_supervision
from support.plain_losses import Vector

R, N, B = 2, 9, 6


class Case:
    """Random logits (R, B, K), soft labels (R, N, M, K) and a minibatch, in float64."""

    def __init__(self, K: int, M: int, seed: int, progress: float = 0.1) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.labels = (2 * torch.randn(R, N, M, K, generator=rng, dtype=torch.float64)).softmax(-1)
        z = 2 * torch.randn(R, K, B, generator=rng, dtype=torch.float64)
        self.logits = z.transpose(1, 2).requires_grad_()  # classes strided, as the engine gives them
        self.index = torch.stack([torch.randperm(N, generator=rng)[:B] for _ in range(R)])
        self.progress = progress

    def loss(self, method: Method) -> Tensor:
        method.start(make_supervision(self.labels))
        rows = self.labels[torch.arange(R)[:, None], self.index]
        return method.loss(self.logits, Batch(rows, self.index, epoch=0, progress=self.progress))

    def examples(self) -> list[tuple[int, int, Vector, list[Vector]]]:
        """(replica, position in the minibatch, logits, soft labels) of every example."""
        z, p = self.logits.tolist(), self.labels.tolist()
        return [(r, b, z[r][b], p[r][self.index[r, b]]) for r in range(R) for b in range(B)]
