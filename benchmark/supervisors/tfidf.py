"""Weak models of texts: TF-IDF of words or characters, with a classifier or a Bradley–Terry reward model on top."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.supervisors.classifiers import fit_logistic
from benchmark.supervisors.fitted import Fitted
from benchmark.supervisors.terms import Tfidf, Unit


@dataclass(frozen=True)
class TfidfClassifier:
    """TF-IDF and class-balanced logistic regression; the vocabulary is that of the training texts."""

    C: float = 10.0
    name: ClassVar[str] = "benchmark.supervisors.tfidf.TfidfClassifier"
    version: ClassVar[int] = 1

    def fit(self, inputs: Sequence[str], labels: NDArray[np.int64], num_classes: int, seed: int) -> Fitted:
        """Train on n texts and class ids (n,); nothing in it is random."""
        vectorizer = Tfidf()
        features = vectorizer.fit_transform(inputs)
        return fit_logistic(vectorizer.transform, features, labels, num_classes, self.C, balanced=True)


@dataclass(frozen=True)
class TfidfBradleyTerry:
    """A linear reward on TF-IDF, r(x) = w · tfidf(x), fitted to preferences by the Bradley–Terry likelihood."""

    C: float = 10.0
    unit: ClassVar[Unit] = "words"
    name: ClassVar[str] = "benchmark.supervisors.tfidf.TfidfBradleyTerry"
    version: ClassVar[int] = 1

    def fit(
        self, inputs: tuple[Sequence[str], Sequence[str]], labels: NDArray[np.int64], num_classes: int, seed: int
    ) -> Fitted:
        """Train on n pairs, label 0 = the first response is preferred; nothing in it is random."""
        from scipy.sparse import vstack
        from scipy.special import expit
        from sklearn.linear_model import LogisticRegression

        first, second = (list(texts) for texts in inputs)
        vectorizer = Tfidf(self.unit)
        vectorizer.fit_transform(first + second)
        difference = vectorizer.transform(first) - vectorizer.transform(second)
        # each pair also the other way round: the likelihood is the same, and both classes are there for any labels
        both, wins = vstack([difference, -difference]), np.concatenate([labels == 0, labels != 0])
        model = LogisticRegression(C=self.C / 2, fit_intercept=False, max_iter=1000).fit(both, wins)

        def predict_proba(pairs: tuple[Sequence[str], Sequence[str]]) -> NDArray[np.float64]:
            """Softmax of the rewards of the first and the second responses."""
            first, second = (vectorizer.transform(texts) @ model.coef_[0] for texts in pairs)
            margin = first - second
            return np.asarray(expit(np.stack([margin, -margin], axis=1)))

        return Fitted(predict_proba)


@dataclass(frozen=True)
class CharacterBradleyTerry(TfidfBradleyTerry):
    """The same on characters, for texts of a word or two."""

    unit: ClassVar[Unit] = "characters"
    name: ClassVar[str] = "benchmark.supervisors.tfidf.CharacterBradleyTerry"
