"""Every metric written a second time, for one row of predictions, by loops; and random splits for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmark.core.metrics import Split

Ints = NDArray[np.int64]


def recalls(predictions: Ints, labels: Ints, groups: Ints) -> list[float]:
    return [float((predictions[labels == k] == k).mean()) for k in np.unique(labels)]


def f1_scores(predictions: Ints, labels: Ints, groups: Ints) -> list[float]:
    scores = []
    for k in np.unique(labels):
        right = ((predictions == k) & (labels == k)).sum()
        scores.append(2 * right / ((predictions == k).sum() + (labels == k).sum()))
    return scores


def worst_identity(predictions: Ints, labels: Ints, groups: Ints) -> float:
    """Masks are read as text, so that nothing is shared with the bit operations under test."""
    masks = [f"{group:08b}"[::-1] for group in groups]
    accuracies = []
    for identity in range(8):
        for label in (0, 1, 2):
            at = [mask[identity] == "1" and y == label for y, mask in zip(labels, masks, strict=True)]
            accuracies += [float((predictions == labels)[at].mean())] if any(at) else []
    return min(accuracies) if accuracies else np.nan


def group_accuracies(predictions: Ints, labels: Ints, groups: Ints) -> list[float]:
    return [float((predictions == labels)[groups == g].mean()) for g in np.unique(groups)]


PLAIN: dict[str, Callable[[Ints, Ints, Ints], float]] = {
    "accuracy": lambda p, y, g: float((p == y).mean()),
    "balanced_accuracy": lambda p, y, g: float(np.mean(recalls(p, y, g))),
    "macro_f1": lambda p, y, g: float(np.mean(f1_scores(p, y, g))),
    "tenth_percentile_accuracy": lambda p, y, g: float(np.percentile(group_accuracies(p, y, g), 10)),
    "worst_group_accuracy": lambda p, y, g: min(group_accuracies(p[g >= 0], y[g >= 0], g[g >= 0]), default=np.nan),
    "worst_identity_accuracy": worst_identity,
}


def random_groups(metric: str, rng: np.random.Generator, n: int, groups: int) -> Ints:
    """Group ids (n,) such as the metric takes: a few without a group, masks in which most mention nothing."""
    if metric == "worst_group_accuracy":
        return rng.integers(-1, groups, size=n)
    if metric == "worst_identity_accuracy":
        return np.where(rng.random(n) < 0.5, 0, (1 << rng.integers(8, size=n)) | (1 << rng.integers(8, size=n)))
    return rng.integers(groups, size=n) * 7 - 20


def random_split(
    metric: str, rng: np.random.Generator, rows: int = 3, n: int = 40, groups: int = 15, classes: int = 3
) -> Split:
    """Rows that are right in half of the examples and more; with many classes some are never the label."""
    labels = rng.integers(min(classes, 3) if metric == "worst_identity_accuracy" else classes, size=n)
    predictions = np.where(rng.random((rows, n)) < 0.5, labels, rng.integers(classes, size=(rows, n)))
    return Split(predictions, labels, random_groups(metric, rng, n, groups))
