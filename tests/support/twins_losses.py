"""The formulas of losses for noisy labels and of self-reinforcing methods a second time, in NumPy, step by step.

A `Twin` is one replica of a method. In every step it sees the minibatch (what it keeps without a gradient), says the
losses as a function of the logits, and takes its own step.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def ce(z: Array, t: Array) -> float:
    return -float(t @ np.log(softmax(z)))


def entropy(p: Array) -> float:
    return -math.fsum(v * math.log(v) for v in p.tolist() if v > 0)


class Twin:
    """p (N, M, K) soft labels; options by name beside the defaults. By itself it learns `targets`."""

    DEFAULTS: ClassVar[dict[str, Any]] = {}

    def __init__(self, p: Array, epochs: int, **options: Any) -> None:
        self.p, self.epochs, self.options = p, epochs, {**self.DEFAULTS, **options}
        self.N, self.M, self.K = p.shape
        self.votes = p.argmax(-1)
        self.mean = p.mean(1)
        self.targets = self.mean.copy()
        self.start()

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["options"][name]

    def start(self) -> None:
        """State."""

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        """What is kept of a minibatch, before its losses."""

    def loss(self, z: Array, i: int) -> float:
        return ce(z, self.targets[i])

    def losses(self, z: Array, index: list[int]) -> Array:
        return np.array([self.loss(own, i) for own, i in zip(z, index, strict=True)])

    def step(self, z: Array, index: list[int]) -> None:
        """After the backward pass."""


class Elr(Twin):
    DEFAULTS: ClassVar = {"strength": 3.0, "momentum": 0.7}

    def start(self) -> None:
        self.said = np.zeros((self.N, self.K))

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        for own, i in zip(z, index, strict=True):
            q = np.clip(softmax(own), 1e-4, 1 - 1e-4)
            self.said[i] = self.momentum * self.said[i] + (1 - self.momentum) * q / q.sum()

    def loss(self, z: Array, i: int) -> float:
        return ce(z, self.mean[i]) + self.strength * math.log(1 - self.said[i] @ np.clip(softmax(z), 1e-4, 1 - 1e-4))


class Gce(Twin):
    DEFAULTS: ClassVar = {"power": 0.7}

    def loss(self, z: Array, i: int) -> float:
        return float(self.mean[i] @ (1 - softmax(z) ** self.power)) / self.power


class ReverseKl(Twin):
    DEFAULTS: ClassVar = {"entropy": 1.0, "floor": 1e-8}

    def loss(self, z: Array, i: int) -> float:
        q = softmax(z)
        return float(q @ (self.entropy * np.log(q) - np.log(np.maximum(self.mean[i], self.floor))))


class Selc(Twin):
    DEFAULTS: ClassVar = {"momentum": 0.9, "turn": 0.2}

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        if epoch >= self.turn * self.epochs:
            for own, i in zip(z, index, strict=True):
                self.targets[i] = self.momentum * self.targets[i] + (1 - self.momentum) * softmax(own)


class ShotIm(Twin):
    DEFAULTS: ClassVar = {"weight": 1.0}

    def losses(self, z: Array, index: list[int]) -> Array:
        together = entropy(np.mean([softmax(own) for own in z], 0))
        own = [ce(own, self.mean[i]) + self.weight * entropy(softmax(own)) for own, i in zip(z, index, strict=True)]
        return np.array(own) - self.weight * together


class SmallLoss(Twin):
    DEFAULTS: ClassVar = {"forget": None}

    def start(self) -> None:
        against = [1 - max(Counter(row).values()) / self.M for row in self.votes.tolist()]
        self.noise = math.fsum(against) / self.N if self.forget is None else self.forget

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        costs = [ce(own, self.mean[i]) for own, i in zip(z, index, strict=True)]
        keep = (1 - self.noise * min(1.0, progress / 0.05)) * len(index)
        count = max(1, math.floor(keep + 1e-3))
        self.kept = [index[b] for b in sorted(range(len(index)), key=costs.__getitem__)[:count]]
        self.scale = len(index) / count

    def loss(self, z: Array, i: int) -> float:
        return ce(z, self.mean[i]) * self.scale if i in self.kept else 0.0


class Reliability(Twin):
    DEFAULTS: ClassVar = {"temperature": 0.2, "keep": 1.0}

    def start(self) -> None:
        shares = [{a: n / self.M for a, n in Counter(row).items()} for row in self.votes.tolist()]
        unsure = [entropy(np.array(sorted(own.values()))) for own in shares]
        most = np.percentile(unsure, 100 * self.keep)
        self.targets = np.zeros((self.N, self.K))
        for target, own, h in zip(self.targets, shares, unsure, strict=True):
            power = {a: 1.0 if self.temperature is None else math.exp(s / self.temperature) for a, s in own.items()}
            total = 1.0 if self.temperature is None else math.fsum(power.values())
            for answer, share in own.items():
                target[answer] = share * power[answer] / total * (h <= most)


class KnowledgeVote(Twin):
    DEFAULTS: ClassVar = {"gate": 0.9, "final_gate": 0.95}

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        gate = (1 - progress) * self.gate + progress * self.final_gate
        best = sorted((max(map(max, row)) for row in self.p.tolist()), reverse=True)
        for i in index:
            sure = [m for m in range(self.M) if self.p[i, m].max() > gate]
            votes = [math.fsum(self.p[i, m].max() for m in sure or range(self.M) if self.votes[i, m] == c)
                     for c in range(self.K)]  # fmt: skip
            counted = bool(sure) or self.p[i].max() >= best[math.ceil(self.N / 4) - 1]
            self.targets[i] = counted * np.eye(self.K)[votes.index(max(votes))]


class AnnotatorConfusion(Twin):
    DEFAULTS: ClassVar = {"trace": 0.01, "rate": 0.01}

    def start(self) -> None:
        self.w = np.stack([6 * np.eye(self.K) - 5] * self.M)
        self.first, self.second, self.steps = np.zeros_like(self.w), np.zeros_like(self.w), 0

    def confusion(self) -> Array:
        positive = np.log1p(np.exp(self.w))
        return np.asarray(positive / positive.sum(-1, keepdims=True))

    def losses(self, z: Array, index: list[int]) -> Array:
        said = np.einsum("bk,mkc->bmc", softmax(z), self.confusion())
        fit = -(self.p[index] * np.log(np.maximum(said, 1e-8))).sum((1, 2))
        return np.asarray(fit + self.trace * np.trace(self.confusion(), axis1=1, axis2=2).sum())

    def step(self, z: Array, index: list[int]) -> None:
        """Adam, with gradients by finite differences."""
        slope = np.zeros_like(self.w)
        for at in np.ndindex(self.w.shape):
            value = self.w[at]
            self.w[at] = value + 1e-5
            up = self.losses(z, index).mean()
            self.w[at] = value - 1e-5
            slope[at] = (up - self.losses(z, index).mean()) / 2e-5
            self.w[at] = value
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope**2
        means = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        self.w -= self.rate * means[0] / (np.sqrt(means[1]) + 1e-8)


class Raykar(Twin):
    DEFAULTS: ClassVar = {"burn_in": 0.2}

    def start(self) -> None:
        self.targets = np.stack([[np.mean(row == c) for c in range(self.K)] for row in self.votes])
        self.said, self.epoch = self.targets.copy(), 0

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        if epoch > self.epoch and epoch >= self.burn_in * self.epochs:
            table = np.ones((self.M, self.K, self.K))  # supervisor, class, vote
            for row, target in zip(self.votes, self.targets, strict=True):
                for m, vote in enumerate(row):
                    table[m, :, vote] += target
            table /= table.sum(-1, keepdims=True)
            for i, row in enumerate(self.votes):
                weight = np.maximum(self.said[i], 1e-8)
                for m, vote in enumerate(row):
                    weight = weight * table[m, :, vote]
                self.targets[i] = weight / weight.sum()
        self.epoch = epoch
        for own, i in zip(z, index, strict=True):
            self.said[i] = softmax(own)


# method, options, twin
STEPS: list[tuple[str, dict[str, Any], type[Twin]]] = [
    ("elr", {}, Elr),
    ("elr", {"strength": 7.0, "momentum": 0.0}, Elr),
    ("single_elr", {}, Elr),
    ("gce", {}, Gce),
    ("gce", {"power": 1.0}, Gce),
    ("single_gce", {}, Gce),
    ("reverse_kl", {}, ReverseKl),
    ("ensemble_reverse_kl", {}, ReverseKl),
    ("ensemble_reverse_kl", {"entropy": 0.0, "floor": 0.05}, ReverseKl),
    ("selc", {}, Selc),
    ("selc", {"momentum": 0.0, "turn": 0.5}, Selc),
    ("shot_im", {}, ShotIm),
    ("shot_im", {"weight": 10.0}, ShotIm),
    ("small_loss", {}, SmallLoss),
    ("small_loss", {"forget": 0.5}, SmallLoss),
    ("reliability", {}, Reliability),
    ("reliability", {"temperature": None, "keep": 0.5}, Reliability),
    ("reliability", {"temperature": 1.0, "keep": 0.25}, Reliability),
    ("knowledge_vote", {}, KnowledgeVote),
    ("knowledge_vote", {"gate": 0.4, "final_gate": 0.8}, KnowledgeVote),
    ("annotator_confusion", {}, AnnotatorConfusion),
    ("annotator_confusion", {"trace": 1.0, "rate": 0.3}, AnnotatorConfusion),
    ("raykar", {}, Raykar),
    ("raykar", {"burn_in": 0.0}, Raykar),
]
TWINS = {name: ("test_every_step_is_the_twins",) for name, _, _ in STEPS}
