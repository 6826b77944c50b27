"""Classifiers of scikit-learn as weak models: a probability for every class of the task, also those that the training
data lack."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.supervisors.fitted import Fitted


def fit_logistic(
    read: Callable[[Any], Any], features: Any, labels: NDArray[np.int64], num_classes: int, C: float, balanced: bool
) -> Fitted:
    """Logistic regression.

    Args:
        C: inverse strength of the L2 penalty.
        balanced: weigh examples inversely to their class's frequency, for metrics that count classes alike.
        read, features, labels, num_classes: as in `fit_classifier`.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, class_weight="balanced" if balanced else None, max_iter=1000)
    return fit_classifier(model, read, features, labels, num_classes)


def fit_classifier(
    model: Any, read: Callable[[Any], Any], features: Any, labels: NDArray[np.int64], num_classes: int
) -> Fitted:
    """Fit on features (n, D), dense or sparse, and class ids (n,). Classes that training lacks have probability 0.

    Args:
        model: one of scikit-learn's classifiers.
        read: makes features of new inputs.
    """
    classes = np.unique(labels)
    if len(classes) > 1:
        model.fit(features, labels)

    def predict_proba(inputs: Any) -> NDArray[np.float64]:
        given = read(inputs)
        probabilities = np.zeros((given.shape[0], num_classes))
        probabilities[:, classes] = model.predict_proba(given) if len(classes) > 1 else 1
        return probabilities

    return Fitted(predict_proba)
