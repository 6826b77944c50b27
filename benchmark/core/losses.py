"""What losses are made of, and the plainest of them.

Shapes: R replicas, N examples of the train split, B of a minibatch, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.core.method import Batch, Method

LOG_FLOOR = 1e-8  # given probabilities are clamped here before a logarithm


def rows_at(table: Tensor, index: Tensor) -> Tensor:
    """Rows (R, B, K) of each replica's own table (R, N, K) at the positions (R, B)."""
    R, N, K = table.shape
    rows = index + torch.arange(0, R * N, N, device=table.device)[:, None]
    return table.reshape(R * N, K).index_select(0, rows.flatten()).view(R, -1, K)


def log_softmax(logits: Tensor) -> Tensor:
    """log q of the logits (B, K) or (R, B, K), same shape; finite without a clamp.

    Taken along the first of the last two dimensions of the transposed logits: in the layout that the engine gives them,
    with examples contiguous, that is one fast kernel.
    """
    return logits.mT.log_softmax(-2).mT


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """CE(q, t) = -sum_c t_c log q_c with q = softmax(logits): (R, B, K), (R, B, K) -> (R, B)."""
    return -(logits.mT.log_softmax(-2) * targets.mT).sum(-2)


def safe_log(probabilities: Tensor) -> Tensor:
    """log of given probabilities, clamped at 1e-8."""
    return probabilities.clamp_min(LOG_FLOOR).log()


def hard(scores: Tensor) -> Tensor:
    """One-hot argmax (the first of a tie) over the last dimension, without a gradient: (..., K) -> (..., K)."""
    scores = scores.detach()
    # `max` is several times as fast as `argmax` on a CPU when classes are strided
    return torch.zeros_like(scores).scatter_(-1, scores.max(-1, keepdim=True).indices, 1)


@dataclass(eq=False)
class CrossEntropy(Method):
    """CE(q, p) on one supervision: how whatever is not compared learns (canaries, fine-tuned supervisors)."""

    name = "cross_entropy"
    title = "cross-entropy"
    citation = "this benchmark"
    kind = "single"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels[:, :, 0])
