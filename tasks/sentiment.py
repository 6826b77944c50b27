"""Sentiment of short texts; the shift is genre."""

from __future__ import annotations

import numpy as np

from benchmark.api import Domain, register_task
from benchmark.supervisors.tfidf import TfidfClassifier
from tasks import _vader
from tasks._genre import GenreTask

LEAST_RATING = 0.5  # texts rated nearer to 0 are left out


class Sentiment(GenreTask):
    """A text is positive if its mean human rating is."""

    family = "sentiment"
    modality = "text"
    classes = ("negative", "positive")
    metric = "balanced_accuracy"
    selection = "of which about 19,500 are rated clearly"
    weak_model = TfidfClassifier()

    def domain(self, name: str) -> Domain:
        data = _vader.rated_texts(name)
        labels = np.where(np.abs(data.ratings) >= LEAST_RATING, data.ratings > 0, -1).astype(np.int64)
        return Domain(lambda: data.texts, labels, data.groups, data.fingerprint)


for _target in _vader.DOMAINS:
    register_task(Sentiment(_target))
register_task(Sentiment("amazon", broken=True))
