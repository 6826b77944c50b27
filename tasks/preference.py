"""Which of two texts is more positive, as pairs; the shift is genre. The ratings are those of `sentiment`."""

from __future__ import annotations

from benchmark.api import Domain, register_task
from benchmark.supervisors.tfidf import TfidfBradleyTerry
from tasks import _vader
from tasks._genre import GenreTask


class Preference(GenreTask):
    """Of two texts of one genre whose mean ratings differ by 1 or more, the more positive is preferred."""

    family = "preference"
    modality = "preference"
    classes = ("first preferred", "second preferred")
    metric = "accuracy"
    selection = "paired within a genre"
    weak_model = TfidfBradleyTerry()
    pair_gap = 1.0

    def domain(self, name: str) -> Domain:
        data = _vader.rated_texts(name)
        return Domain(lambda: data.texts, data.ratings, data.groups, data.fingerprint)


for _target in _vader.DOMAINS:
    register_task(Preference(_target))
register_task(Preference("tweets", broken=True))
