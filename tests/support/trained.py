"""Methods and data for the training loop: one of each kind, and one of two stages with targets of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.core.losses import cross_entropy, hard
from benchmark.core.method import Batch, Method, Supervision, Trainer
from benchmark.core.training import TrainingData
from benchmark.students.linear import LinearStudent

SEEDS = (3, 11)


class Single(Method):
    name = "single"
    title = citation = "test"
    kind = "single"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels[:, :, 0])


class Ensemble(Method):
    name = "ensemble_of_all"
    title = citation = "test"
    kind = "ensemble"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        target = (1 - 0.3 * batch.progress) * batch.soft_labels.mean(2) + 0.3 * batch.progress * hard(logits)
        return cross_entropy(logits, target)


class Staged(Method):
    name = "staged"
    title = citation = "test"
    kind = "single"

    def start(self, supervision: Supervision) -> None:
        self.supervision = supervision

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels.mean(2))

    def fit(self, trainer: Trainer) -> None:
        trainer.fit(encoder="weak")
        self.first = trainer.predict()
        self.keep = self.first[..., 0] > 0.2
        trainer.fit(targets=self.first, keep=self.keep)


def make_data(K: int = 4, M: int = 3, N: int = 90, D: int = 6, pairs: bool = False) -> TrainingData:
    rng = torch.Generator().manual_seed(5)
    shape = (len(SEEDS), N, 2, D) if pairs else (len(SEEDS), N, D)
    features = {"weak": torch.randn(*shape[:-1], D - 2, generator=rng), "full": torch.randn(*shape, generator=rng)}
    soft_labels = torch.randn(len(SEEDS), M, N, K, generator=rng).mul(2).softmax(-1)
    return TrainingData(features, soft_labels, SEEDS, LinearStudent)
