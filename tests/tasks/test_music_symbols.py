"""Symbols of music: names and parts by laws, facts of the fonts, no symbol on two sides of a task."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from benchmark.api import NotAvailable
from benchmark.core.registry import TASKS
from tasks import music_symbols as music

# symbols of the kinds, with ink
GLYPHS = {"bravura": 261, "leipzig": 261, "leland": 204, "gootville": 158, "petaluma": 256}


@pytest.fixture(scope="module")
def task_domains():
    """Target -> domain -> `Domain`; the fonts are fetched once into the user's cache."""
    try:
        tasks = {target: TASKS[f"music-symbols-to-{target}"] for target in music.TARGETS}
        return {
            target: {name: task.domain(name) for name in (*task.card.sources, target, music.HELD_OUT)}
            for target, task in tasks.items()
        }
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


@pytest.mark.parametrize(
    ("names", "symbol"),
    [
        (("articAccentAbove", "articAccentBelow"), "articAccent"),
        (("fClef", "fClefChange", "fClefReversed", "fClefTurned"), "fClef"),
        (("noteheadSlashedBlack1", "noteheadSlashedBlack2"), "noteheadSlashedBlack"),
        (("timeSig2",), "timeSig2"),
        (("accidentalParensLeft", "timeSigParensRightSmall", "noteheadParenthesisLeft"), None),
    ],
)
def test_forms_of_a_symbol(names, symbol):
    assert {music.symbol_of(name) for name in names} == {symbol}


@given(kinds=st.dictionaries(st.text("abc", max_size=4), st.integers(0, 2)))
def test_every_part_gets_its_share_of_every_kind(kinds):
    part_of = music.dealt(kinds)
    assert set(part_of) == set(kinds)
    for kind in set(kinds.values()):
        symbols = [symbol for symbol in kinds if kinds[symbol] == kind]
        for part, (share, _) in music.PARTS.items():
            assert abs(sum(part_of[symbol] == part for symbol in symbols) - share * len(symbols)) <= 1
        alone = music.dealt(dict.fromkeys(symbols, kind))
        assert all(part_of[symbol] == alone[symbol] for symbol in symbols)


@given(
    width=st.floats(60, 4000),
    height=st.floats(60, 4000),
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    seed=st.integers(0, 99),
)
def test_a_symbol_is_whole_and_near_the_middle(width, height, x, y, seed):
    outline = f'<rect x="{x}" y="{-(y + height)}" width="{width}" height="{height}"/>'
    symbol = music.Symbol("", 0, outline, (x, y, width, height))
    draws = np.random.default_rng(seed)
    image = music.engraved(symbol, draws)
    assert image.shape == (music.CANVAS, music.CANVAS)
    assert image.dtype == np.uint8
    assert image[38:58, 38:58].min() < 255
    assert (music.engraved(symbol, np.random.default_rng(seed)) == image).all()


def test_facts(task_domains):
    assert {font: len(music._symbols(font)) for font in music.FONTS} == GLYPHS
    for target, domains in task_domains.items():
        for name in (target, music.HELD_OUT):
            assert len(domains[name].labels) > 1000
            assert np.bincount(domains[name].labels, minlength=10).min() >= 40
        for name, domain in domains.items():
            kinds = np.bincount(domain.labels, minlength=10)
            assert kinds.min() >= 8, name
            assert len(np.unique(np.stack([domain.groups, domain.labels]), axis=1).T) == len(np.unique(domain.groups))


def test_no_symbol_is_on_two_sides_of_a_task(task_domains):
    parts = music._parts()
    sides = {part: {symbol for symbol in parts if parts[symbol] == part} for part in music.PARTS}
    assert not any(sides[a] & sides[b] for a, b in combinations(sides, 2))
    for target, domains in task_domains.items():
        for name, domain in domains.items():
            part = {target: "target", music.HELD_OUT: music.HELD_OUT}.get(name, "source")
            fonts = TASKS[f"music-symbols-to-{target}"].card.sources if name == music.HELD_OUT else (name,)
            there = {music.symbol_of(s.name) for font in fonts for s in music._symbols(font)}
            assert len(np.unique(domain.groups)) == len(there & sides[part])


def test_images(task_domains):
    domain = task_domains["petaluma"]["gootville"]
    images = domain.load()
    assert images.shape == (len(domain.labels), music.CANVAS, music.CANVAS)
    assert images is domain.load()
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_describing_a_domain_draws_nothing_and_depends_on_the_renderer(monkeypatch, task_domains):
    monkeypatch.setattr(music._svg, "drawn", lambda *_: pytest.fail("a symbol was drawn"))
    made = [music._domain.__wrapped__(("leland",), "source").fingerprint]
    made.append(music._domain.__wrapped__(("leland",), "source").fingerprint)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert made[0] == made[1] != music._domain.__wrapped__(("leland",), "source").fingerprint


def test_supervisors_keep_number_and_order():
    for target in music.TARGETS:
        task = TASKS[f"music-symbols-to-{target}"]
        assert task.supervisors(0) == task.supervisors(1)
        assert {name for supervisor in task.supervisors(0) for name in supervisor.domains} == set(task.card.sources)


def test_a_supervisor_of_one_source_beats_chance_on_symbols_it_has_not_seen(task_domains):
    task, domains = TASKS["music-symbols-to-petaluma"], task_domains["petaluma"]
    supervisor = task.supervisors(0)[-1]
    seen, others = domains[supervisor.domains[0]], domains[music.HELD_OUT]
    rows = np.random.default_rng(0).permutation(len(seen.labels))[: supervisor.size]
    model = supervisor.model.fit(seen.load()[rows], seen.labels[rows], 10, seed=0)
    assert balanced_accuracy_score(others.labels, model.predict_proba(others.load()).argmax(1)) > 0.15
