"""Sentiment of short texts; the shift is genre. Supervisors differ in their domain and in how much they have seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmark.api import Domain, Supervisor, Task, TaskCard, missing_packages, numpy_rng, register_task
from benchmark.encoders.minilm import MiniLM
from benchmark.supervisors.tfidf import TfidfClassifier
from tasks import _vader
from tasks._shared import BROKEN, break_one

SIZES = (150, 1000, None)
LEAST_RATING = 0.5  # texts rated nearer to 0 are left out


class Sentiment(Task):
    """Three genres to the fourth; a text is positive if its mean human rating is."""

    encoder = MiniLM()

    def __init__(self, target: str, broken: bool = False) -> None:
        self.name = f"sentiment-to-{target}{'-broken' * broken}"
        sources = tuple(domain for domain in _vader.DOMAINS if domain != target)
        self.card = TaskCard(
            modality="text",
            shift=f"genre: {', '.join(sources)} to {target}{f'; {BROKEN}' * broken}",
            sources=sources,
            target=target,
            classes=("negative", "positive"),
            metric="balanced_accuracy",
            licence=_vader.LICENCE,
            citation=_vader.CITATION,
            requires=_vader.REQUIRES,
            size=f"{sum(_vader.COUNTS.values()):,} texts of four genres, of which about 19,500 are rated clearly",
            tags=("broken",) * broken,
        )
        self._broken = broken

    def domain(self, name: str) -> Domain:
        data = _vader.rated_texts(name)
        labels = np.where(np.abs(data.ratings) >= LEAST_RATING, data.ratings > 0, -1).astype(np.int64)
        return Domain(lambda: data.texts, labels, data.groups, data.fingerprint)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        dealt = numpy_rng("sizes", "sentiment", self.card.target, seed).permutation(len(SIZES))
        supervisors = [
            Supervisor(TfidfClassifier(), (source,), SIZES[i])
            for source, i in zip(self.card.sources, dealt, strict=True)
        ]
        return break_one(supervisors, self.name, seed) if self._broken else supervisors

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})


for _target in _vader.DOMAINS:
    register_task(Sentiment(_target))
register_task(Sentiment("amazon", broken=True))
