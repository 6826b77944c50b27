"""Logistic regression with a probability for every class of the task, also those that the training data lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier of features that `read` makes of inputs; classes that training lacked have probability 0."""

    read: Callable[[Any], Any]
    classifier: Any  # None when training saw one class only
    classes: NDArray[np.int64]
    num_classes: int

    def predict_proba(self, inputs: Any) -> NDArray[np.float64]:
        """(n, num_classes) probabilities of n inputs."""
        features = self.read(inputs)
        probabilities = np.zeros((features.shape[0], self.num_classes))
        probabilities[:, self.classes] = 1 if self.classifier is None else self.classifier.predict_proba(features)
        return probabilities


def fit_logistic(
    read: Callable[[Any], Any], features: Any, labels: NDArray[np.int64], num_classes: int, C: float, balanced: bool
) -> Logistic:
    """Fit on features (n, D), dense or sparse, and class ids (n,).

    Args:
        read: makes features of new inputs.
        C: inverse strength of the L2 penalty.
        balanced: weigh examples inversely to their class's frequency, for metrics that count classes alike.
    """
    from sklearn.linear_model import LogisticRegression

    classes, classifier = np.unique(labels), None
    if len(classes) > 1:
        model = LogisticRegression(C=C, class_weight="balanced" if balanced else None, max_iter=1000)
        classifier = model.fit(features, labels)
    return Logistic(read, classifier, classes, num_classes)
