"""Which of two texts is more positive, as pairs; the shift is genre. The ratings are those of `sentiment`."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from benchmark.api import Domain, Prompted, WeakModel, register_task
from benchmark.students.language.student import LanguageModel
from benchmark.supervisors.language import FineTuned
from benchmark.supervisors.tfidf import TfidfBradleyTerry
from tasks import _vader
from tasks._genre import GenreTask
from tasks._language import POLICY_OPTIONS, LanguageTask
from tasks._shared import broken_sisters

PROMPT = "\n\nHuman: Write a short text.\n\nAssistant:"


class Preference(GenreTask):
    """Of two texts of one genre whose mean ratings differ by 1 or more, the more positive is preferred."""

    prefix = "preference"
    modality = "preference"
    classes = ("first preferred", "second preferred")
    metric = "accuracy"
    selection = "paired within a genre"
    weak_model: WeakModel = TfidfBradleyTerry()
    pair_gap = 1.0

    def domain(self, name: str) -> Domain:
        data = self.rated_texts(name)
        return Domain(lambda: data.texts, data.ratings, data.groups, data.fingerprint)


class PolicyPreference(LanguageTask, Preference):
    """The same with language models: a policy learns by DPO from smaller reward models, trained on the sources.

    Every text is taken as the reply to one and the same request.
    """

    prefix = "dpo-preference"
    rated_texts = staticmethod(_vader.rated_texts)
    texts = f"{sum(_vader.COUNTS.values()):,} texts"
    options = POLICY_OPTIONS
    language_model = LanguageModel("policy")
    weak_model = FineTuned(objective="reward")
    sizes = (32, 64, 128)

    def domain(self, name: str) -> Domain:
        data = super().domain(name)
        fingerprint = hashlib.sha256(f"{data.fingerprint}|{PROMPT}".encode()).hexdigest()
        return replace(
            data, load=lambda: [Prompted(PROMPT, f" {text}") for text in data.load()], fingerprint=fingerprint
        )


for _target in _vader.DOMAINS:
    register_task(Preference(_target))
    register_task(PolicyPreference(_target))
for _sister in broken_sisters(Preference("tweets")):
    register_task(_sister)
