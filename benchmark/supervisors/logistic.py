"""Logistic regression with a probability for every class of the task, also those that the training data lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier; `predict_proba` gives (n, num_classes), 0 for classes not seen in training."""

    classifier: Any  # None when training saw one class only
    classes: NDArray[np.int64]
    num_classes: int

    def predict_proba(self, features: Any) -> NDArray[np.float64]:
        """(n, num_classes) probabilities of n rows of features."""
        probabilities = np.zeros((features.shape[0], self.num_classes))
        probabilities[:, self.classes] = 1 if self.classifier is None else self.classifier.predict_proba(features)
        return probabilities


def fit_logistic(features: Any, labels: NDArray[np.int64], num_classes: int, C: float, balanced: bool) -> Logistic:
    """Fit on features (n, D), dense or sparse, and class ids (n,).

    Args:
        C: inverse strength of the L2 penalty.
        balanced: weigh examples inversely to their class's frequency, for metrics that count classes alike.
    """
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(labels)
    if len(classes) == 1:
        return Logistic(None, classes, num_classes)
    classifier = LogisticRegression(C=C, class_weight="balanced" if balanced else None, max_iter=1000)
    return Logistic(classifier.fit(features, labels), classes, num_classes)
