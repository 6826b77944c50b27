"""A plug-in with small tasks for tiny language models; W2S_TEST_MODELS is the folder of the models.

`tiny-said`: texts that say good or bad, classified. `tiny-chosen`: given pairs of replies to prompts, for a policy.
`tiny-rated`: rated texts, of which pairs are made by seed, for a policy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.api import Domain, Supervisor, TaskCard, register_task
from benchmark.core.inputs import Prompted
from benchmark.students.language.student import LanguageModel
from benchmark.supervisors.language import FineTuned
from support.tiny import opinions, random_texts
from tasks._language import POLICY_OPTIONS, LanguageTask

MODELS = Path(os.environ["W2S_TEST_MODELS"])
SIZES = {"near": 60, "far": 50}


class Tiny(LanguageTask):
    """Two supervisors, from `near`; the target is `far`."""

    def __init__(self, name: str, modality: str) -> None:
        self.name = name
        preference = modality == "preference"
        objective: Any = "policy" if preference else "classifier"
        self.language_model = LanguageModel(objective, 2, str(MODELS / "llama"), 2, rank=2, max_tokens=24)
        self.weak_model = FineTuned(
            str(MODELS / "bert"), "reward" if preference else "classifier", rank=2, max_tokens=24, epochs=1
        )
        self.card = TaskCard(
            modality=modality,  # type: ignore[arg-type]
            shift="none",
            sources=("near",),
            target="far",
            classes=("bad", "good"),
            metric="accuracy",
            licence="none",
            citation="none",
            requires="nothing",
            size="small",
        )

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        return [Supervisor(self.weak_model, ("near",), self.most(size)) for size in (10, 30)]


class Said(Tiny):
    """Texts."""

    def domain(self, name: str) -> Domain:
        texts, labels = opinions(SIZES[name], len(name))
        return Domain(lambda: texts, labels, np.arange(len(texts)), f"said-{name}")


class Chosen(Tiny):
    """Given pairs; the chosen reply is the one that says good."""

    options = POLICY_OPTIONS

    def domain(self, name: str) -> Domain:
        n = SIZES[name]
        rng = np.random.default_rng(len(name))
        labels, replies = rng.integers(2, size=n), []
        for prompt, label in zip(random_texts(n, rng), labels, strict=True):
            pair = [f"{text} {word}" for text, word in zip(random_texts(2, rng, 4), ("good", "bad"), strict=True)]
            replies += [Prompted(f"Human {prompt} Assistant", reply) for reply in pair[:: -1 if label else 1]]
        return Domain(lambda: replies, labels, np.arange(n), f"chosen-{name}", paired=True)


class Rated(Tiny):
    """Ratings: how often a text says good rather than bad."""

    options = POLICY_OPTIONS

    def domain(self, name: str) -> Domain:
        texts, labels = opinions(2 * SIZES[name], len(name))
        rng = np.random.default_rng(len(name))
        ratings = 3.0 * labels + rng.random(len(labels))
        inputs = [Prompted("Human Assistant", text) for text in texts]
        return Domain(lambda: inputs, ratings, np.arange(len(texts)), f"rated-{name}")


register_task(Said("tiny-said", "text"))
register_task(Chosen("tiny-chosen", "preference"))
register_task(Rated("tiny-rated", "preference"))
