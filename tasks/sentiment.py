"""Sentiment of short texts; the shift is genre."""

from __future__ import annotations

import numpy as np

from benchmark.api import Domain, WeakModel, register_task
from benchmark.students.language.student import LanguageModel
from benchmark.supervisors.language import FineTuned
from benchmark.supervisors.tfidf import TfidfClassifier
from tasks import _vader
from tasks._genre import GenreTask
from tasks._language import LanguageTask
from tasks._shared import broken_sisters

LEAST_RATING = 0.5  # texts rated nearer to 0 are left out


class Sentiment(GenreTask):
    """A text is positive if its mean human rating is."""

    prefix = "sentiment"
    modality = "text"
    classes = ("negative", "positive")
    metric = "balanced_accuracy"
    selection = "of which four in five are rated clearly"
    weak_model: WeakModel = TfidfClassifier()

    def domain(self, name: str) -> Domain:
        data = self.rated_texts(name)
        labels = np.where(np.abs(data.ratings) >= LEAST_RATING, data.ratings > 0, -1).astype(np.int64)
        return Domain(lambda: data.texts, labels, data.groups, data.fingerprint)


class LanguageModelSentiment(LanguageTask, Sentiment):
    """The same with language models: a classifier with LoRA learns from smaller ones, fine-tuned on the sources."""

    prefix = "lm-sentiment"
    rated_texts = staticmethod(_vader.rated_texts)
    texts = f"{sum(_vader.COUNTS.values()):,} texts"
    language_model = LanguageModel("classifier")
    weak_model = FineTuned(objective="classifier")
    sizes = (32, 64, 128)  # weak ones: about .5, .55 and .75 on held-out source texts


for _target in _vader.DOMAINS:
    register_task(Sentiment(_target))
    register_task(LanguageModelSentiment(_target))
for _sister in broken_sisters(Sentiment("amazon")):
    register_task(_sister)
