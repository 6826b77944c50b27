"""Emoji: how they are dealt and drawn, facts of the sets, none on two sides of a task."""

from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from benchmark.api import NotAvailable
from benchmark.core.registry import TASKS
from tasks import _svg, emoji

COUNTS = [160, 156, 148, 133, 218, 85, 261, 210]  # of each group


@pytest.fixture(scope="module")
def task_domains():
    """Target -> domain -> `Domain`; the sets are fetched once into the user's cache."""
    try:
        tasks = {target: TASKS[f"emoji-to-{target}"] for target in emoji.TARGETS}
        return {
            target: {name: task.domain(name) for name in (*task.card.sources, target, emoji.HELD_OUT)}
            for target, task in tasks.items()
        }
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


@given(labels=st.dictionaries(st.integers(0, 2000), st.integers(0, 2)))
def test_every_part_gets_its_share_of_every_group(labels):
    part_of = emoji.dealt(labels)
    assert set(part_of) == set(labels)
    for label in set(labels.values()):
        codes = [code for code in labels if labels[code] == label]
        for part, share in emoji.PARTS.items():
            assert abs(sum(part_of[code] == part for code in codes) - share * len(codes)) <= 1
        alone = emoji.dealt(dict.fromkeys(codes, label))
        assert all(part_of[code] == alone[code] for code in codes)  # whatever other groups hold


def test_lines_only():
    layers = "".join(f'<g id="{layer}"><path d="M0 0h9"/></g>' for layer in ("color", "skin-shadow", "hair", "line"))
    image = ElementTree.fromstring(emoji.lines_only(f'<svg xmlns="http://www.w3.org/2000/svg">{layers}</svg>'))
    assert [layer.get("id") for layer in image] == ["line"]


def test_what_an_element_uses():
    svg = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    drawing = f'<g {svg} id="own" fill="#606265"><use xlink:href="#a.1"/><path fill="url(#b)" stroke="url(#c)"/></g>'
    assert emoji._references(ElementTree.fromstring(drawing)) == {"a.1", "b", "c"}


def test_facts(task_domains):
    assert np.bincount(list(emoji._labels().values())).tolist() == COUNTS
    for target, domains in task_domains.items():
        sizes = {name: len(domain.labels) for name, domain in domains.items()}
        assert sizes[target] == pytest.approx(0.55 * sum(COUNTS), abs=4)
        assert sizes[emoji.HELD_OUT] == pytest.approx(3 * 0.2 * sum(COUNTS), abs=12)
        for domain in domains.values():
            shares = np.bincount(domain.labels) / len(domain.labels)
            assert shares == pytest.approx(np.array(COUNTS) / sum(COUNTS), abs=0.01)


def test_no_emoji_is_on_two_sides_of_a_task(task_domains):
    sides = {part: set(emoji.members(part)) for part in emoji.PARTS}
    assert not any(sides[a] & sides[b] for a, b in combinations(sides, 2))
    assert set.union(*sides.values()) == set(emoji._labels())
    for target, domains in task_domains.items():
        for name, domain in domains.items():
            part = {target: "target", emoji.HELD_OUT: emoji.HELD_OUT}.get(name, "source")
            copies = len(TASKS[f"emoji-to-{target}"].card.sources) if name == emoji.HELD_OUT else 1
            assert np.bincount(domain.groups).tolist() == [copies] * len(sides[part])  # one emoji is one group
            assert domain.labels.tolist() == [emoji._labels()[code] for code in emoji.members(part)] * copies


def test_images_are_those_of_the_emoji(task_domains):
    domain = task_domains["openmoji"]["openmoji-lines"]
    images, codes = domain.load(), emoji.members("source")
    assert images.shape == (len(codes), emoji.CANVAS, emoji.CANVAS)
    assert images is domain.load()
    assert (images[7] == _svg.drawn(emoji._drawings("openmoji-lines")[codes[7]], emoji.CANVAS, emoji.MARGIN)).all()
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 0.97 * len(images)


@pytest.mark.parametrize("name", emoji.SETS)
def test_every_set_can_draw_an_emoji_and_two_differ(name, task_domains):
    cat, boat = (_svg.drawn(emoji._drawings(name)[code], 32, 2).astype(float) for code in (0x1F431, 0x26F5))
    assert np.abs(cat - boat).mean() > 10


def test_describing_a_domain_draws_nothing_and_depends_on_the_renderer(monkeypatch, task_domains):
    monkeypatch.setattr(emoji._svg, "drawn", lambda *_: pytest.fail("an emoji was drawn"))
    made = [emoji._domain.__wrapped__(("openmoji",), "source").fingerprint for _ in range(2)]
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert made[0] == made[1] != emoji._domain.__wrapped__(("openmoji",), "source").fingerprint


def test_supervisors_keep_number_and_order():
    for target in emoji.TARGETS:
        task = TASKS[f"emoji-to-{target}"]
        assert task.supervisors(0) == task.supervisors(1)
        assert {name for supervisor in task.supervisors(0) for name in supervisor.domains} == set(task.card.sources)


def test_a_supervisor_beats_chance_on_emoji_it_has_not_seen(task_domains):
    task, domains = TASKS["emoji-to-openmoji"], task_domains["openmoji"]
    supervisor = task.supervisors(0)[-1]
    seen, others = domains[supervisor.domains[0]], domains[emoji.HELD_OUT]
    model = supervisor.model.fit(seen.load(), seen.labels, 8, seed=0)
    assert balanced_accuracy_score(others.labels, model.predict_proba(others.load()).argmax(1)) > 0.18
