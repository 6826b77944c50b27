"""Icons: names and choice by laws on made-up ones, facts of the sets, no name on two sides of a task."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from benchmark.api import NotAvailable
from benchmark.core.pools import source_parts
from benchmark.core.registry import TASKS
from tasks import icons

IMAGES = {"mdi": 1020, "material": 696, "phosphor": 1020, "fontawesome": 550, "lucide": 486, "heroicons": 432}
NAMES = {"mdi": 652, "material": 253, "phosphor": 340, "fontawesome": 448, "lucide": 459, "heroicons": 144}
WORDS = sorted(icons._CLASS)
OTHERS = st.sampled_from(["plus", "off", "check", "heart", "left", "2", "outline", "seven"])


@pytest.fixture(scope="module")
def task_domains():
    """Target -> domain -> `Domain`; the sets are fetched once into the user's cache."""
    try:
        return {
            target: {name: TASKS[f"icons-to-{target}"].domain(name) for name in (*sources, target)}
            for target, sources in icons.TASKS.items()
        }
    except NotAvailable as error:
        pytest.skip(f"needs a package index once: {error}")


@given(first=st.sampled_from(WORDS), others=st.lists(OTHERS, max_size=4), mixed=st.randoms())
def test_styles_numbers_and_order_make_no_other_name(first, others, mixed):
    label, key = icons.named("-".join([first, *others]), anywhere=False)
    assert first in icons.WORDS[list(icons.WORDS)[label]].split()
    plain = [word for word in others if word not in icons._STYLES and not word.isdigit()]
    assert set(key.split()) == {first, *plain}
    words = [first, *others, "outline", "12"]
    mixed.shuffle(words)
    assert icons.named("-".join(words), anywhere=True) == (label, key)


@pytest.mark.parametrize(
    ("name", "anywhere", "expected"),
    [
        ("calendar-plus", False, "time"),
        ("cloud-arrow-up", False, "weather"),  # the first word is the thing
        ("cloud-arrow-up", True, None),  # in Material, where any may be, two are none
        ("add-alarm", True, "time"),
        ("add-alarm", False, None),
        ("circle-user", False, "person"),
        ("circle", False, None),
        ("carpet", True, None),
    ],
)
def test_what_a_name_says(name, anywhere, expected):
    found = icons.named(name, anywhere)
    assert (found and list(icons.WORDS)[found[0]]) == expected


ICON = st.builds(icons.Icon, st.sampled_from("abcdefgh"), st.just(0), st.sampled_from("uvwxyz"))


@given(made_up=st.lists(ICON, max_size=60), most=st.integers(0, 20), mixed=st.randoms())
def test_whole_names_are_chosen_with_few_styles_each(made_up, most, mixed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(icons, "MOST", most)
        kept = icons.chosen(made_up)
        mixed.shuffle(made_up)
        assert icons.chosen(made_up) == kept
    assert len(kept) == len(set(kept)) <= most
    there = Counter(icon.key for icon in set(made_up))
    for key, count in Counter(icon.key for icon in kept).items():
        assert count == min(there[key], icons.STYLES)
    if len(kept) < most - icons.STYLES:
        assert {icon.key for icon in kept} == set(there)


def test_facts(task_domains):
    whole = {target: domains[target] for target, domains in task_domains.items()}
    for name, domain in {**whole, "heroicons": task_domains["mdi"]["heroicons"]}.items():
        assert len(domain.labels) == IMAGES[name]
        assert len(np.unique(domain.groups)) == NAMES[name]
    for name, domain in whole.items():
        assert np.bincount(domain.labels, minlength=10).min() >= 10, name
        assert len({d[name].fingerprint for d in task_domains.values() if name in d}) == 1  # features are shared


def test_no_name_is_on_two_sides_of_a_task(task_domains):
    for target, domains in task_domains.items():
        keys = {
            name: {icon.key for icon, label in zip(icons._icons(name), domain.labels, strict=True) if label >= 0}
            for name, domain in domains.items()
        }
        assert all(not keys[a] & keys[b] for a, b in combinations(keys, 2)), target
        assert set.union(*keys.values()) == set.union(*(set(icons._keys(name)) for name in keys))  # none is lost
        assert (domains[target].labels >= 0).all()
        assert not {"mdi", "material"} <= set(domains)  # many drawings are the same


def test_a_name_is_a_group(task_domains):
    for name in icons.SETS:
        domain = next(d[name] for d in task_domains.values() if name in d)
        keys = [icon.key for icon in icons._icons(name)]
        assert len(set(zip(keys, domain.groups.tolist(), strict=True))) == len(set(keys)) == len(set(domain.groups))


def test_images(task_domains):
    domain = task_domains["mdi"]["heroicons"]
    images = domain.load()
    assert images.shape == (IMAGES["heroicons"], icons.CANVAS, icons.CANVAS)
    assert images.dtype == np.uint8
    assert images is domain.load()
    assert (images[:, : icons.MARGIN] == 255).all()
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 0.97 * len(images)


def test_describing_a_domain_draws_no_icon(monkeypatch, task_domains):
    monkeypatch.setattr(icons._svg, "drawn", lambda *_: pytest.fail("an icon was drawn"))
    icons._described.__wrapped__("lucide")


def test_fingerprints_depend_on_the_renderer(monkeypatch, task_domains):
    before = icons._described("lucide")[2]
    assert icons._described.__wrapped__("lucide")[2] == before
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0")
    assert icons._described.__wrapped__("lucide")[2] != before


def test_a_supervisor_beats_chance_on_its_own_source(task_domains):
    task, domain = TASKS["icons-to-mdi"], task_domains["mdi"]["lucide"]
    supervisor = task.supervisors(0)[1]
    assert supervisor.domains == ("lucide",)
    first, second = source_parts(domain, task.source_share, seed=0)
    images = domain.load()
    rows = np.random.default_rng(0).permutation(first)[: supervisor.size]
    model = supervisor.model.fit(images[rows], domain.labels[rows], 10, seed=0)
    predicted = model.predict_proba(images[second]).argmax(1)
    assert balanced_accuracy_score(domain.labels[second], predicted) > 0.3


def test_supervisors_keep_number_and_order_and_one_is_underconfident():
    for target, sources in icons.TASKS.items():
        supervisors = [TASKS[f"icons-to-{target}"].supervisors(seed) for seed in range(3)]
        assert supervisors[0] == supervisors[1] == supervisors[2]
        assert {name for supervisor in supervisors[0] for name in supervisor.domains} == set(sources)
        temperatures = [getattr(supervisor.model, "temperature", 1.0) for supervisor in supervisors[0]]
        assert sorted(temperatures) == [1.0] * 4 + [5.0 if target == "lucide" else 1.0]
