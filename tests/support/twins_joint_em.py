"""Both Joint EMs a second time, in NumPy, example by example: likelihoods by SciPy, alignment on probabilities."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import numpy as np
from scipy.stats import multivariate_normal

from support.twins_label_models import beyond_chance
from support.twins_losses import Array, Twin, ce, entropy, softmax


def start_weights(p: Array, nudge: float = 0.0) -> Array:
    """Of soft labels (N, M, K), (M,); `nudge` moves where the search for the direction starts."""
    A, M = beyond_chance(p.argmax(-1).tolist(), p.shape[-1]), p.shape[1]
    u = np.ones(M) + nudge * np.random.default_rng(0).normal(size=M)
    for _ in range(50):
        moved = A @ u + 0.1 * np.abs(A).sum() / M * u
        u = moved / np.linalg.norm(moved) if moved.any() else u
    v = np.array([math.sqrt(max(x, 0.0)) + 1e-3 for x in u])
    return np.asarray(v / v.sum())


def settled(p: Array) -> bool:
    """Rounding does not choose the direction, as it does where the start is at right angles to the best one."""
    return bool(np.abs(start_weights(p) - start_weights(p, 1e-13)).max() < 1e-8)


def aligned(q: Array, shrink: float) -> Array:
    """Probabilities (N, K) with other class shares."""
    wanted = np.maximum((1 - shrink) * q.mean(0) + shrink / q.shape[1], 1e-6)
    for _ in range(10 if shrink else 0):
        q = q * (wanted / np.maximum(q.mean(0), 1e-6))
        q = q / q.sum(1, keepdims=True)
    return q


def log_likelihood(p: Array, gamma: Array, ridge: float = 0.1) -> Array:
    """(N, K), of soft labels (N, M, K); each class also has 1e-3 of an example at the mean of all."""
    N, K = gamma.shape
    u = np.sqrt(p).reshape(N, -1)
    points = np.vstack([u, u.mean(0)])
    weight = np.vstack([gamma, np.full(K, 1e-3)])
    means = np.array([np.average(points, axis=0, weights=weight[:, c]) for c in range(K)])
    V = np.zeros((u.shape[1], u.shape[1]))
    for x, own in zip(points, weight, strict=True):
        for c in range(K):
            V += own[c] * np.outer(x - means[c], x - means[c]) / N
    V += ridge * (np.diag(V).mean() + 1e-6) * np.eye(len(V))
    return np.array([[multivariate_normal.logpdf(x, means[c], V) for c in range(K)] for x in u])


class JointEm(Twin):
    DEFAULTS: ClassVar = {"shrink": 0.25, "likelihood": True, "student": True, "sharpen": True}

    def start(self) -> None:
        v = start_weights(self.p)
        for i, row in enumerate(self.p):
            self.targets[i] = sum(vm * (pm + np.eye(self.K)[pm.argmax()]) / 2 for vm, pm in zip(v, row, strict=True))
        self.said, self.epoch = self.targets.copy(), 0

    def round(self) -> None:
        if self.student:
            prior = aligned(np.array([softmax(np.log(np.maximum(r, 1e-8))) for r in self.said]), self.shrink)
            gamma = prior
        else:
            shares = aligned(self.targets.mean(0, keepdims=True), self.shrink)
            prior, gamma = shares.repeat(self.N, 0), self.targets
        log = log_likelihood(self.p, gamma) if self.likelihood else np.zeros_like(prior)
        self.targets = aligned(
            np.array([softmax(np.log(own) + by) for own, by in zip(prior, log, strict=True)]), self.shrink
        )

    def hear(self, z: Array, index: list[int], epoch: int, burn_in: float) -> None:
        if epoch > self.epoch and epoch >= burn_in * self.epochs:
            self.round()
        self.epoch = epoch
        for own, i in zip(z, index, strict=True):
            self.said[i] = 0.7 * self.said[i] + 0.3 * softmax(own) if epoch else softmax(own)

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        self.hear(z, index, epoch, 0.2)
        self.c = min(1.0, progress / 0.2) / 2 if self.sharpen else 0.0
        targets = self.targets[index]
        self.w = [t.max() * float(t @ softmax(own)) for own, t in zip(z, targets, strict=True)]

    def losses(self, z: Array, index: list[int]) -> Array:
        found = []
        for own, i, w in zip(z, index, self.w, strict=True):
            t = self.targets[i]
            found.append(w * ((1 - self.c) * ce(own, t) + self.c * ce(own, np.eye(self.K)[t.argmax()])))
        return np.array(found) / np.mean(self.w)


class JointEm2(JointEm):
    DEFAULTS: ClassVar = {"information": 1.0, "shrink": 0.1}

    def round(self) -> None:
        said = np.maximum(self.said, 1e-8)
        prior = aligned(said / said.sum(1, keepdims=True), self.shrink)
        log = log_likelihood(self.p, prior, ridge=1.0)
        joint = prior * np.sqrt(np.exp(log - log.max(1, keepdims=True)))
        self.targets = aligned(joint / joint.sum(1, keepdims=True), self.shrink)

    def see(self, z: Array, index: list[int], epoch: int, progress: float) -> None:
        self.hear(z, index, epoch, 0.3)

    def losses(self, z: Array, index: list[int]) -> Array:
        fit = np.array([ce(own, self.targets[i]) for own, i in zip(z, index, strict=True)])
        if self.epoch < 0.3 * self.epochs:
            return fit
        q = np.array([softmax(own) for own in z])
        sure = np.array([entropy(own) for own in q]) - entropy(q.mean(0))
        return fit + self.information * sure / math.log(self.K)


# method, options, twin
STEPS: list[tuple[str, dict[str, Any], Any]] = [
    ("joint_em", {}, JointEm),
    ("joint_em", {"shrink": 0.0}, JointEm),
    ("joint_em", {"shrink": 1.0}, JointEm),
    ("joint_em_no_likelihood", {}, partial(JointEm, likelihood=False)),
    ("joint_em_no_student", {}, partial(JointEm, student=False)),
    ("joint_em_no_sharpening", {}, partial(JointEm, sharpen=False)),
    ("joint_em2", {}, JointEm2),
    ("joint_em2", {"information": 3.0, "shrink": 0.0}, JointEm2),
    ("joint_em2", {"information": 0.0, "shrink": 1.0}, JointEm2),
]
TWINS = {name: ("test_every_step_is_the_twins",) for name, _, _ in STEPS}
