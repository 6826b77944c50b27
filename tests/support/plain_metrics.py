"""Every metric written a second time, for one row of predictions: loops, scikit-learn and NumPy."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score

Ints = NDArray[np.int64]


def worst_identity(predictions: Ints, labels: Ints, groups: Ints) -> float:
    """Masks are read as text, so that nothing is shared with the bit operations under test."""
    masks = [f"{group:08b}"[::-1] for group in groups]
    accuracies = []
    for identity in range(8):
        for label in (0, 1, 2):
            hits = [
                p == y
                for p, y, mask in zip(predictions, labels, masks, strict=True)
                if mask[identity] == "1"
                if y == label
            ]
            accuracies += [sum(hits) / len(hits)] if hits else []
    return min(accuracies) if accuracies else np.nan


def group_accuracies(predictions: Ints, labels: Ints, groups: Ints) -> list[float]:
    return [float((predictions == labels)[groups == g].mean()) for g in sorted(set(groups.tolist()))]


PLAIN: dict[str, Callable[[Ints, Ints, Ints], float]] = {
    "accuracy": lambda p, y, g: float((p == y).mean()),
    "balanced_accuracy": lambda p, y, g: recall_score(y, p, labels=np.unique(y), average="macro"),
    "macro_f1": lambda p, y, g: f1_score(y, p, labels=np.unique(y), average="macro"),
    "tenth_percentile_accuracy": lambda p, y, g: float(np.percentile(group_accuracies(p, y, g), 10)),
    "worst_group_accuracy": lambda p, y, g: min(group_accuracies(p[g >= 0], y[g >= 0], g[g >= 0])),
    "worst_identity_accuracy": worst_identity,
}


def random_groups(metric: str, rng: np.random.Generator, n: int, groups: int) -> Ints:
    """Group ids (n,) such as the metric takes: a few without a group, masks in which most mention nothing."""
    if metric == "worst_group_accuracy":
        return rng.integers(-1, groups, size=n)
    if metric == "worst_identity_accuracy":
        return np.where(rng.random(n) < 0.5, 0, (1 << rng.integers(8, size=n)) | (1 << rng.integers(8, size=n)))
    return rng.integers(groups, size=n) * 7 - 20
