"""Canaries: supervisions with a known outcome, trained like `naive`. They catch leaks and faults of the harness.

They are trained in a run of their own, because their soft labels hold the truth and methods must not reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.base.seeding import numpy_rng
from benchmark.core.data import Problem
from benchmark.core.method import Batch, Method, cross_entropy
from benchmark.core.scoring import score
from benchmark.core.training import TrainingData

VERSION = 1  # raise when a canary's results change


@dataclass(eq=False)
class Canary(Method):
    """CE(q, p) on a supervision that the harness made; as `naive`."""

    name = "canary"
    title = "canary"
    citation = "this benchmark"
    kind = "single"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels[:, :, 0])


def canary_data(data: TrainingData, problems: Sequence[Problem], metric: str, wanted: Sequence[str]) -> TrainingData:
    """The same features and seeds, soft labels (S, m, N, K): one "supervisor" for each of the m wanted canaries."""
    soft_labels = np.stack([_supervision(problem, metric, wanted) for problem in problems])
    return replace(data, soft_labels=torch.from_numpy(soft_labels).to(data.soft_labels.device))


def best_supervisor(problem: Problem, metric: str) -> int:
    """The supervisor with the highest score on pool-train's truth."""
    labels, groups = problem.truth.labels["train"], problem.truth.groups["train"]
    soft_labels = problem.soft_labels["train"]
    predictions = soft_labels.argmax(-1).T
    return int(score(metric, predictions, labels, groups, soft_labels.shape[-1]).argmax())


def _supervision(problem: Problem, metric: str, wanted: Sequence[str]) -> NDArray[np.float32]:
    labels, soft_labels = problem.truth.labels["train"], problem.soft_labels["train"]
    N, _, K = soft_labels.shape
    one_hot = np.eye(K, dtype=np.float32)
    truth = one_hot[labels.clip(0)] * (labels >= 0)[:, None]  # an unknown label's row is zero: its loss is zero
    best = soft_labels[:, best_supervisor(problem, metric)]
    random = one_hot[
        numpy_rng("random supervision", problem.fingerprint, problem.condition, problem.seed).integers(K, size=N)
    ]
    made = {"ground_truth": truth.astype(np.float32), "best_supervisor": best, "random_supervision": random}
    return np.stack([made[name] for name in wanted])
