"""The tasks of the default suite, as far as they can be known without their data."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import benchmark.assets.packages
from benchmark.core.names import CANARIES
from benchmark.core.problems import data_fingerprint
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import load_suite
from benchmark.results.store import ResultStore
from tasks._shared import connected_groups

VADER = ("tweets", "amazon", "movies", "nyt")
BASES = {"solar-mono-to-poly": 4, "digits-to-mnist": 4, "sentiment-to-amazon": 3, "preference-to-tweets": 3}
BROKEN = {f"{base}-broken-{number}" for base, M in BASES.items() for number in range(1, M + 1)}
NAMES = {
    "solar-mono-to-poly",
    "solar-poly-to-mono",
    *(f"digits-to-{target}" for target in ("mnist", "uci", "fonts")),
    *(f"sentiment-to-{target}" for target in VADER),
    *(f"preference-to-{target}" for target in VADER),
    *BROKEN,
}
METRICS = {
    "solar": "balanced_accuracy",
    "digits": "accuracy",
    "sentiment": "balanced_accuracy",
    "preference": "accuracy",
}


FINGERPRINTS = {"sentiment-to-amazon": "cb7efbbff1e5", "preference-to-tweets": "212e8e014bb7"}


def test_names():
    assert len(NAMES) == 27
    assert set(TASKS.select(list(load_suite("default").tasks))) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_task_is_described_without_its_data(name, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark.assets.packages, "find_spec", lambda module: None)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "none"))
    task = TASKS[name]
    card = task.card
    for field in dataclasses.fields(card):
        assert field.name in ("tags", "redistribution") or getattr(card, field.name), f"{field.name} is empty"
    family = name.split("-")[0]
    assert card.metric == METRICS[family]
    assert card.target not in card.sources
    assert len(card.classes) == (10 if family == "digits" else 2)
    assert "\n" not in card.shift
    assert ("broken" in card.tags) == (name in BROKEN)
    assert task.encoder.fingerprint
    assert task.supervisors(0)
    line = task.missing()
    assert line is not None
    assert "\n" not in line
    assert "pip install -c constraints.txt " in line
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_nothing_is_missing_here(name):
    assert TASKS[name].missing() is None


def test_listing_tasks_imports_no_data_package():
    heavy = {"transformers", "sklearn", "matplotlib", "mlxtend", "elpv_dataset", "PIL", "efficientnet_lite_pytorch"}
    heavy |= {"wilds", "torchvision", "pandas"}
    imports = "import sys; from benchmark.core.registry import TASKS; TASKS.names()"
    code = f"{imports}; print(sorted({heavy!r} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cards_name_the_licences():
    assert "CC BY-NC-SA 4.0" in TASKS["solar-mono-to-poly"].card.licence
    for words in ("MNIST CC BY-SA 3.0", "UCI digits CC BY 4.0", "DejaVu", "Open Font Licence", "BaKoMa"):
        assert words in TASKS["digits-to-mnist"].card.licence
    for name in ("sentiment-to-nyt", "preference-to-nyt"):
        assert "MIT" in TASKS[name].card.licence
        assert "Hutto & Gilbert 2014" in TASKS[name].card.citation


@pytest.mark.parametrize("name", sorted(NAMES))
def test_supervisors_keep_number_and_order(name):
    task = TASKS[name]
    first = task.supervisors(0)
    assert len(first) == (3 if name.startswith(("sentiment", "preference")) else 4)
    for seed in range(10):
        supervisors = task.supervisors(seed)
        assert [s.domains for s in supervisors] == [s.domains for s in first]
        assert [s.model for s in supervisors] == [s.model for s in first]
        assert list(task.supervisors(seed)) == list(supervisors)
    assert {domain for s in first for domain in s.domains} == set(task.card.sources)


def test_digits_supervisors_differ_in_source_and_size():
    supervisors = TASKS["digits-to-uci"].supervisors(3)
    assert [(s.domains, s.size) for s in supervisors] == [
        (("mnist",), 100),
        (("mnist",), 1000),
        (("fonts",), 100),
        (("fonts",), 1000),
    ]


@pytest.mark.parametrize("family", ["sentiment", "preference"])
def test_sizes_are_dealt_by_seed(family):
    task = TASKS[f"{family}-to-nyt"]
    deals = [tuple(s.size for s in task.supervisors(seed)) for seed in range(30)]
    assert all(Counter(deal) == Counter((150, 1000, None)) for deal in deals)
    assert len(set(deals)) == 6


@pytest.mark.parametrize("base", sorted(BASES))
def test_every_supervisor_is_broken_once_in_each_seed(base):
    sound = TASKS[base]
    sisters = [TASKS[f"{base}-broken-{number}"] for number in range(1, len(sound.supervisors(0)) + 1)]
    for seed in range(30):
        for position, broken in enumerate(sisters):
            found, expected = broken.supervisors(seed), list(sound.supervisors(seed))
            # otherwise they are the sound task's, so that the two can be compared seed by seed
            expected[position] = dataclasses.replace(expected[position], adversarial=True)
            assert list(found) == expected
        assert not any(s.adversarial for s in sound.supervisors(seed))
    for broken in sisters:
        assert broken.card.tags == ("broken", f"base={base}")
        assert broken.card.sources == sound.card.sources


def test_connected_groups():
    groups = connected_groups(["a", "a", "b", "c", "d", "d"], [1, 2, 2, 3, 4, 5])
    assert groups.tolist() == [0, 0, 0, 1, 2, 2]
    assert connected_groups([5, 6, 7], [1, 2, 1]).tolist() == [0, 1, 0]
    chain = connected_groups(list(range(1000)), [i // 2 for i in range(1000)], [(i + 1) // 2 for i in range(1000)])
    assert np.unique(chain).tolist() == [0]


def test_the_stress_suite_takes_one_task_of_each_modality():
    """And none of the stress variants of other families, which are for development."""
    stressed = TASKS.select(list(load_suite("stress").tasks))
    assert len(stressed) == 132
    assert set(stressed) < set(TASKS.select(["stress-*"]))
    methods = set(METHODS.select([glob for glob in load_suite("stress").methods if glob not in CANARIES]))
    assert methods == {m.name for m in METHODS if not m.ablation_of}
    plain = [TASKS[name] for name in stressed if TASKS[name].corruption is None]
    assert [task.card.modality for task in plain] == ["image", "preference", "text"]
    assert {task.name.removeprefix("stress-") for task in plain} < NAMES
    assert not set(stressed) & set(TASKS.select(list(load_suite("default").tasks)))
    for name in stressed:
        assert TASKS[name].card.tags[:2] == (
            "stress",
            f"base={next(p.name[7:] for p in plain if name.startswith(p.name))}",
        )


def test_fingerprints_stay(vader):
    """What was run must not be run again for a change of the harness that leaves problems as they are."""
    for name, start in FINGERPRINTS.items():
        assert data_fingerprint(TASKS[name]).startswith(start), name


def test_published_records_of_this_version_are_of_these_data(vader):
    """Those of older versions say so, and are run again."""
    store = ResultStore(Path(__file__).parents[2] / "results/default")
    for record in store.load().records.values():
        if record.task in FINGERPRINTS and record.task_version == TASKS[record.task].version:
            assert record.data_fingerprint == data_fingerprint(TASKS[record.task])
