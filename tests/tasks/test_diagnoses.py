"""Diagnoses: facts of the data, files of both systems as they are read, and supervisors that learn."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from benchmark.api import NotAvailable
from benchmark.core.pools import source_parts
from benchmark.core.registry import TASKS
from tasks import diagnoses
from tasks.diagnoses import CHAPTERS, Diagnosis

SHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


@pytest.fixture(scope="module")
def domains():
    try:
        return diagnoses._domains()
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


def test_facts(domains):
    counts = {system: dict(zip(CHAPTERS, np.bincount(d.labels).tolist(), strict=True)) for system, d in domains.items()}
    full = dict.fromkeys(CHAPTERS, 200)
    assert counts == {"icd9": full | {"respiratory": 198, "skin": 165}, "icd10": full}
    assert {system: d.groups.max() + 1 for system, d in domains.items()} == {"icd9": 589, "icd10": 917}
    texts = domains["icd9"].load()
    labels = domains["icd9"].labels
    assert list(CHAPTERS)[labels[texts.index("Malignant neoplasm of thyroid gland")]] == "neoplasms"


def test_no_diagnosis_is_in_both_systems_or_twice_in_one(domains):
    keys = [diagnoses.key(text) for d in domains.values() for text in d.load()]
    assert len(set(keys)) == len(keys)
    assert diagnoses.key("Ulcer, left eye") == diagnoses.key("Eye ulcer, unspecified") != diagnoses.key("Ulcer of eye")


def test_a_category_has_one_chapter(domains):
    for d in domains.values():
        assert len(set(zip(d.groups.tolist(), d.labels.tolist(), strict=True))) == d.groups.max() + 1


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 99), st.text("ab c&<", min_size=1)), max_size=9))
def test_codes_of_icd9_have_the_chapter_of_their_category(codes):
    rows = [("DIAGNOSIS CODE", "LONG DESCRIPTION"), ("E8000", "train"), ("V10", "history")]
    rows += [(f"{category:03}{rest}", text) for category, rest, text in codes]
    found = diagnoses.icd9(workbook(rows))
    chapters = [next((c for c, (a, b, _) in CHAPTERS.items() if a <= code[0] <= b), None) for code in codes]
    expected = zip(codes, chapters, strict=True)
    assert found == [Diagnosis(f"{code[0]:03}", chapter, code[2].strip()) for code, chapter in expected if chapter]


def workbook(rows):
    """The two files of a workbook that are read; strings are shared, codes of digits alone are values."""
    shared = [text for row in rows for text in row]
    strings = "".join(f"<si><t>{escaped(text[:1])}</t><t>{escaped(text[1:])}</t></si>" for text in shared)
    cells = "".join(
        f"<row>{f'<c><v>{code}</v></c>' if code.isdecimal() else cell(2 * i)}{cell(2 * i + 1)}</row>"
        for i, (code, _) in enumerate(rows)
    )
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst {SHEET}>{strings}</sst>")
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {SHEET}><sheetData>{cells}</sheetData></worksheet>")
    return file.getvalue()


def cell(number):
    return f'<c t="s"><v>{number}</v></c>'


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def test_codes_of_icd10_are_those_without_finer_ones():
    eye = "<diag><name>H00</name><desc>Stye</desc><diag><name>H00.1</name><desc>Left stye </desc></diag></diag>"
    blood = "<diag><name>D50</name><desc>Anemia</desc></diag>"
    skin = "<diag><name>L4A</name><desc>Itch</desc></diag>"
    chapters = "".join(
        f"<chapter><name>{number}</name><desc>of it</desc><section id='x'><desc>y</desc>{code}</section></chapter>"
        for number, code in ((7, eye), (3, blood), (12, skin))
    )
    found = diagnoses.icd10(f"<ICD10CM.tabular><version>2026</version>{chapters}</ICD10CM.tabular>".encode())
    assert found == [Diagnosis("H00", "eye and ear", "Left stye"), Diagnosis("L4A", "skin", "Itch")]


@pytest.mark.parametrize("target", ["icd9", "icd10"])
def test_supervisors_beat_chance_on_their_own_system(domains, target):
    task = TASKS[f"diagnoses-to-{target}"]
    domain = domains[task.card.sources[0]]
    first, second = source_parts(domain, task.source_share, seed=0)
    texts, held_out = domain.load(), [domain.load()[i] for i in second]
    for supervisor in task.supervisors(0):
        rows = np.random.default_rng(0).permutation(first)[: supervisor.size]
        model = supervisor.model.fit([texts[i] for i in rows], domain.labels[rows], 15, seed=0)
        answers = model.predict_proba(held_out).argmax(1)
        assert balanced_accuracy_score(domain.labels[second], answers) > 0.2, supervisor  # chance is 0.067
    deals = [[s.size for s in task.supervisors(seed)] for seed in range(60)]
    assert all(sorted(sizes[:3]) == [200, 500, 1000] and sizes[3] == 150 for sizes in deals)
    assert len({tuple(sizes) for sizes in deals}) == 6
