"""Canaries: supervisions with a known outcome, trained by cross-entropy. They catch leaks and faults of the harness.

They are trained in a run of their own, because their soft labels hold the truth and methods must not reach it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.base.seeding import numpy_rng
from benchmark.core import names
from benchmark.core.data import Problem
from benchmark.core.losses import CrossEntropy
from benchmark.core.method import Batch, Setting, Supervision
from benchmark.core.scoring import score
from benchmark.core.training import TrainingData

_EM_STEPS, _EM_CHANGE = 1_000, 1e-7


class Taught(CrossEntropy):
    """How all canaries are trained; it also notes whether the loss still fell in the end.

    `late_fall` is (L2 - L4) / (L1 - L4), L1 to L4 the loss's mean over each quarter of the steps: nearly 0 for students
    that are trained early on, 0.45 where the loss just follows the learning rate of the cosine schedule down.
    """

    def start(self, supervision: Supervision) -> None:
        self.quarters = supervision.soft_labels.new_zeros(len(supervision.soft_labels), 4)
        steps = torch.arange(1, supervision.total_steps + 1, device=supervision.device)
        self.steps = torch.bincount((4 * steps - 1) // supervision.total_steps, minlength=4).clamp_min(1)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        loss = super().loss(logits, batch)
        for quarter in range(4):
            if quarter / 4 < batch.progress <= (quarter + 1) / 4:
                self.quarters[:, quarter] += loss.detach().mean(1)
        return loss

    def diagnostics(self) -> dict[str, Tensor]:
        first, second, _, last = (self.quarters / self.steps).unbind(1)
        fallen = first - last
        return {"late_fall": torch.where(fallen > 1e-6, (second - last) / fallen, torch.zeros_like(fallen))}


@dataclass(eq=False)
class Canary(CrossEntropy):
    """A method that makes its own supervision, and has nothing to tune."""

    grid: ClassVar[tuple[Setting, ...]] = ({},)

    @staticmethod
    def supervise(problem: Problem, metric: str) -> NDArray[np.float32]:
        """(N, K) soft labels of the train split."""
        raise NotImplementedError

    @staticmethod
    def remarks(problem: Problem, metric: str) -> dict[str, Any]:
        """What its record says about the supervision."""
        return {}


class GroundTruth(Canary):
    """One-hot truth; the row of an unknown label is zero, and so is its loss."""

    name = "ground_truth"
    title = names.CANARIES[name]

    @staticmethod
    def supervise(problem: Problem, metric: str) -> NDArray[np.float32]:
        labels, K = problem.truth.labels["train"], problem.soft_labels["train"].shape[-1]
        return np.asarray(np.eye(K, dtype=np.float32)[labels.clip(0)] * (labels >= 0)[:, None].astype(np.float32))


class BestSupervisor(Canary):
    """The soft labels of the supervisor with the highest score on pool-train's truth."""

    name = "best_supervisor"
    title = names.CANARIES[name]

    @staticmethod
    def supervise(problem: Problem, metric: str) -> NDArray[np.float32]:
        return problem.soft_labels["train"][:, _best(problem, metric)]

    @staticmethod
    def remarks(problem: Problem, metric: str) -> dict[str, Any]:
        return {"supervisor": _best(problem, metric)}


class OracleWeights(Canary):
    """The mixture of all supervisors with the weights, one for each, that fit pool-train's truth best: what a method
    that weights supervisors could gain at most."""

    name = "oracle_weights"
    title = names.CANARIES[name]

    @staticmethod
    def supervise(problem: Problem, metric: str) -> NDArray[np.float32]:
        p = problem.soft_labels["train"]
        return np.asarray(np.tensordot(mixture_weights(_likelihoods(problem)), p, (0, 1)), np.float32)

    @staticmethod
    def remarks(problem: Problem, metric: str) -> dict[str, Any]:
        return {"weights": mixture_weights(_likelihoods(problem)).round(6).tolist()}


class RandomSupervision(Canary):
    """Uniform one-hot draws."""

    name = "random_supervision"
    title = names.CANARIES[name]

    @staticmethod
    def supervise(problem: Problem, metric: str) -> NDArray[np.float32]:
        N, _, K = problem.soft_labels["train"].shape
        rng = numpy_rng("random supervision", problem.fingerprint, problem.condition, problem.seed)
        return np.asarray(np.eye(K, dtype=np.float32)[rng.integers(K, size=N)])


CANARY_METHODS: dict[str, type[Canary]] = {
    cls.name: cls for cls in (GroundTruth, BestSupervisor, OracleWeights, RandomSupervision)
}


def canary_data(data: TrainingData, problems: Sequence[tuple[Problem, str]], wanted: Sequence[str]) -> TrainingData:
    """The same features and seeds, soft labels (S, m, N, K): one "supervisor" for each of the m wanted canaries.

    Args:
        problems: of the S seeds, each with its task's metric.
    """
    made = np.stack([np.stack([CANARY_METHODS[name].supervise(*own) for name in wanted]) for own in problems])
    return replace(data, soft_labels=torch.from_numpy(made).to(data.soft_labels.device))


def mixture_weights(likelihoods: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) on the simplex, that maximise the sum over examples of log sum_m w_m likelihoods[n, m].

    By EM for the proportions of a mixture whose components are known (Dempster, Laird and Rubin 1977, J. R. Stat. Soc.
    B 39, 1-38, 4.3): no step lowers the sum, which is concave, so from uniform weights it ends at the maximum.

    Args:
        likelihoods: (N, M), what supervisor m says of example n's true class; rows of zeros tell nothing.
    """
    told = likelihoods[likelihoods.any(1)]
    weights = np.full(likelihoods.shape[1], 1 / likelihoods.shape[1])
    for _ in range(_EM_STEPS if len(told) else 0):
        joint = told * weights
        before, weights = weights, (joint / joint.sum(1, keepdims=True)).mean(0)
        if np.abs(weights - before).max() < _EM_CHANGE:
            break
    return weights


def _likelihoods(problem: Problem) -> NDArray[np.float64]:
    """(N, M) of pool-train's known labels."""
    labels = problem.truth.labels["train"]
    known = np.flatnonzero(labels >= 0)
    return problem.soft_labels["train"][known, :, labels[known]].astype(np.float64)


def _best(problem: Problem, metric: str) -> int:
    labels, groups = problem.truth.labels["train"], problem.truth.groups["train"]
    soft_labels = problem.soft_labels["train"]
    return int(score(metric, soft_labels.argmax(-1).T, labels, groups, soft_labels.shape[-1]).argmax())
