"""Weak models as they are found in practice: a learner of scikit-learn on simple features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.encoders.images import resized
from benchmark.supervisors.classifiers import fit_classifier
from benchmark.supervisors.fitted import Fitted
from benchmark.supervisors.terms import Tfidf

Reads = Literal["pixels", "words", "characters", "moments"]
Learner = Literal["logistic", "neighbours", "forest", "boosting"]
_SIDE = 16  # px of the images that "pixels" are taken of
_COMPONENTS = 64  # of TF-IDF, for boosted trees, which want few and dense columns
_LEAST = 1e-12


@dataclass(frozen=True)
class Classical:
    """A learner on what it reads of an input; logistic regression, trees and forests weigh classes alike.

    Attributes:
        reads: `pixels` of uint8 images shrunk to 16 px, in 0..1; TF-IDF of `words` and their pairs, or of `characters`
            (runs of two to four); `moments`, means and standard deviations over time of series (n, time, channels).
        learner: `logistic` regression (L2, C = 10); 15 nearest `neighbours`, weighed by distance; `forest`, 100 trees;
            `boosting`, histogram-based gradient boosting.
        temperature: answers are p^(1/T), normalised: above 1 as accurate, but less confident.
    """

    reads: Reads
    learner: Learner = "logistic"
    temperature: float = 1.0
    name: ClassVar[str] = "benchmark.supervisors.classical.Classical"
    version: ClassVar[int] = 1

    def fit(self, inputs: Any, labels: NDArray[np.int64], num_classes: int, seed: int) -> Fitted:
        """Train on n inputs and class ids (n,); the seed decides what is random in a learner."""
        read, features = _reader(self.reads, inputs)
        if self.learner == "boosting" and self.reads in ("words", "characters"):
            read, features = _components(read, features, seed)
        fitted = fit_classifier(_model(self.learner, len(labels), seed), read, features, labels, num_classes)
        if self.temperature == 1:
            return fitted

        def predict_proba(inputs: Any) -> NDArray[np.float64]:
            tempered = np.maximum(fitted.predict_proba(inputs), _LEAST) ** (1 / self.temperature)
            return np.asarray(tempered / tempered.sum(1, keepdims=True))

        return Fitted(predict_proba)


def _reader(reads: Reads, inputs: Any) -> tuple[Callable[[Any], Any], Any]:
    """How inputs are read, and what is read of those given, which may decide it."""
    if reads == "words" or reads == "characters":
        vectorizer = Tfidf(reads)
        features = vectorizer.fit_transform(inputs)
        return vectorizer.transform, features
    read: Callable[[Any], Any] = _pixels if reads == "pixels" else _moments
    return read, read(inputs)


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return resized(images, _SIDE).numpy().reshape(len(images), -1) / 255


def _moments(series: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([series.mean(1), series.std(1)], axis=1)


def _components(read: Callable[[Any], Any], features: Any, seed: int) -> tuple[Callable[[Any], Any], Any]:
    from sklearn.decomposition import TruncatedSVD

    svd = TruncatedSVD(min(_COMPONENTS, features.shape[1], features.shape[0]), random_state=seed % 2**32)
    dense = svd.fit_transform(features)
    return lambda inputs: svd.transform(read(inputs)), dense


def _model(learner: Learner, n: int, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    if learner == "logistic":
        return LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    if learner == "neighbours":
        return KNeighborsClassifier(min(15, n), weights="distance")
    if learner == "forest":
        return RandomForestClassifier(class_weight="balanced_subsample", random_state=seed % 2**32)
    return HistGradientBoostingClassifier(class_weight="balanced", early_stopping=False, random_state=seed % 2**32)
