"""What losses are made of, in plain Python floats, one example at a time, without tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = list[float]


def log_softmax(z: Vector) -> Vector:
    top = max(z)
    return [v - top - math.log(math.fsum(math.exp(u - top) for u in z)) for v in z]


def softmax(z: Vector) -> Vector:
    return [math.exp(v) for v in log_softmax(z)]


def ce(z: Vector, t: Vector) -> float:
    return -math.fsum(tc * lc for tc, lc in zip(t, log_softmax(z), strict=True))


def onehot(scores: Vector) -> Vector:
    best = scores.index(max(scores))
    return [1.0 if c == best else 0.0 for c in range(len(scores))]


def normalised(values: Vector) -> Vector:
    return [v / math.fsum(values) for v in values]


def mean(vectors: Sequence[Vector], weights: Sequence[float] | None = None) -> Vector:
    """Weighted by weights that may have any sum; all alike without."""
    w = normalised(list(weights or [1.0] * len(vectors)))
    return [math.fsum(wm * v for wm, v in zip(w, column, strict=True)) for column in zip(*vectors, strict=True)]


def mix(a: float, p: Vector, r: Vector) -> Vector:
    return [(1 - a) * x + a * y for x, y in zip(p, r, strict=True)]


def entropy(p: Vector) -> float:
    return -math.fsum(v * math.log(max(v, 1e-8)) for v in p)
