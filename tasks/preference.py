"""Which of two texts is more positive, as preference pairs; the shift is genre. Ratings are those of `sentiment`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.api import Domain, Supervisor, Task, TaskCard, missing_packages, numpy_rng, register_task
from benchmark.encoders.minilm import MiniLM
from benchmark.supervisors.tfidf import TfidfBradleyTerry
from tasks import _vader
from tasks._shared import BROKEN, break_one

SIZES = (150, 1000, None)


class Preference(Task):
    """Three genres to the fourth; of two texts whose mean ratings differ by 1 or more, the more positive one wins."""

    encoder = MiniLM()
    pair_gap = 1.0

    def __init__(self, target: str, broken: bool = False) -> None:
        self.name = f"preference-to-{target}{'-broken' * broken}"
        sources = tuple(domain for domain in _vader.DOMAINS if domain != target)
        self.card = TaskCard(
            modality="preference",
            shift=f"genre: {', '.join(sources)} to {target}{f'; {BROKEN}' * broken}",
            sources=sources,
            target=target,
            classes=("first preferred", "second preferred"),
            metric="accuracy",
            licence=_vader.LICENCE,
            citation=_vader.CITATION,
            requires=_vader.REQUIRES,
            size=f"{sum(_vader.COUNTS.values()):,} texts of four genres, paired within a genre",
            tags=("broken",) * broken,
        )
        self._broken = broken

    def domain(self, name: str) -> Domain:
        data = _vader.rated_texts(name)
        return Domain(lambda: data.texts, data.ratings, data.groups, data.fingerprint)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        dealt = numpy_rng("sizes", "preference", self.card.target, seed).permutation(len(SIZES))
        supervisors = [
            Supervisor(TfidfBradleyTerry(), (source,), SIZES[i])
            for source, i in zip(self.card.sources, dealt, strict=True)
        ]
        return break_one(supervisors, self.name, seed) if self._broken else supervisors

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})


for _target in _vader.DOMAINS:
    register_task(Preference(_target))
register_task(Preference("tweets", broken=True))
