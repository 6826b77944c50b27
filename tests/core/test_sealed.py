"""Nothing that a method can reach from its arguments holds the truth, or a test input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.arrays import ArrayTask
from benchmark.core.canaries import canary_data
from benchmark.core.data import Problem, Recipe
from benchmark.core.problems import build_problem, training_data
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.training import train
from benchmark.running.unit import execute
from benchmark.store.cache import Cache
from benchmark.students.frozen import LinearHead
from support.hostile import Given, Hostile, HostileFeatures, HostileReader, HostileStaged
from support.made_up import Blobs
from support.units import setup_of, unit_of


def make_task() -> ArrayTask:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    soft_labels = rng.dirichlet(np.ones(3), size=(200, 2))
    return ArrayTask(rng.normal(size=(200, 4)), soft_labels, labels, rng.integers(9, size=200), name="sealed")


def make_problems() -> list[Problem]:
    return [build_problem(make_task(), "ood", seed, Cache()) for seed in (0, 1)]


@pytest.mark.parametrize("tune", [False, True])
def test_a_hostile_method_finds_no_truth(tune: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through everything that a run of `w2s run` does, canaries included, and `--tune`."""
    hostile: list[Hostile] = [Hostile(), HostileFeatures(), HostileStaged()]
    for method in hostile:
        monkeypatch.setitem(METHODS._items, method.name, Given(method))
    monkeypatch.setitem(TASKS._items, "sealed", make_task())
    if tune:  # eight trials; one that trains in stages sees all that there is
        hostile = hostile[2:]
    names = (*(method.name for method in hostile), *(() if tune else ("ground_truth",)))
    recipe = Recipe(epochs=2, batch_size=32)
    unit = unit_of("sealed", "ood", ((names, (0, 1)),), recipe, tune=tune)
    result = execute(unit, setup_of(tmp_path, recipe, tune=tune))
    assert not result.failures
    assert len(result.entries) == 2 * len(names)
    problems = make_problems()
    for method in hostile:
        loot = method.loot
        assert loot.holds(problems[0].soft_labels["train"].transpose(1, 0, 2)[0]), "the walk finds what it may see"
        for problem in problems:
            for split in ("train", "val", "test"):
                labels = problem.truth.labels[split]
                assert not loot.holds(labels), f"{method.name} found the truth of {split}"
                assert not loot.holds(np.eye(3)[labels]), f"{method.name} found the one-hot truth of {split}"
                assert not loot.holds(problem.truth.groups[split])
            for split in ("val", "test"):
                assert not loot.holds(problem.soft_labels[split])
                assert not loot.holds(problem.soft_labels[split].transpose(1, 0, 2)[0])
                for features in problem.features.values():
                    assert not loot.holds(features[split][:5])
                (as_read,) = training_data(LinearHead(None), [problem], held_out=(split,))[1][split]
                assert not loot.holds(as_read[0][:5].numpy()), f"{method.name} found the inputs of {split}"


@pytest.mark.parametrize("condition", ["ood", "ind"])
def test_source_scores_are_numbers_and_lead_to_no_label(
    condition: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of neither pool: they are made of the in-distribution pool's truth, which is the pool's own in `ind`."""
    task, reader = Blobs((300, 280, 320)), HostileReader()
    monkeypatch.setitem(METHODS._items, reader.name, Given(reader))
    monkeypatch.setitem(TASKS._items, task.name, task)
    recipe = Recipe(epochs=2, batch_size=32)
    unit = unit_of(task.name, condition, (((reader.name, "ground_truth"), (0, 1)),), recipe)
    result = execute(unit, setup_of(tmp_path, recipe))
    assert not result.failures
    (record,) = {record.uses for record, _ in result.entries if record.method == reader.name}
    assert record == reader.uses
    own = [build_problem(task, condition, seed, Cache(tmp_path), scored=True) for seed in (0, 1)]
    scores = [problem.source_scores for problem in own]
    assert reader.loot.holds(np.stack(scores)), "it has what it asked for"  # type: ignore[arg-type]
    features = training_data(LinearHead(None), own)[0].features["all"]
    assert reader.loot.holds(features[1].numpy())
    for problem in (*own, *(build_problem(task, "ind", seed, Cache(tmp_path)) for seed in (0, 1))):
        for split in ("train", "val", "test"):
            labels = problem.truth.labels[split]
            said = problem.soft_labels[split].argmax(-1)
            for secret in (labels, np.eye(3)[labels], *((said == labels[:, None]).T), problem.truth.groups[split]):
                assert not reader.loot.holds(secret), f"the truth of {split} ({problem.condition})"
            assert split == "train" or not reader.loot.holds(problem.features["all"][split][:5])
            assert split == "train" or not reader.loot.holds(problem.soft_labels[split])


def test_the_walk_would_find_a_leak() -> None:
    """The same hostile method beside the truth, as it would be if canaries trained in the methods' own run."""
    problems = make_problems()
    data, _ = training_data(LinearHead(None), problems)
    hostile = HostileStaged()
    train(
        [hostile],
        canary_data(data, [(p, "accuracy") for p in problems], ["ground_truth"]),
        Recipe(epochs=1, batch_size=32),
    )
    assert hostile.loot.holds(np.eye(3)[problems[0].truth.labels["train"]])


def test_soft_labels_are_copies() -> None:
    """A method that writes into its supervision cannot change the problem that is scored."""
    problems = make_problems()
    before = problems[0].soft_labels["train"].copy()
    data, _ = training_data(LinearHead(None), problems)
    data.soft_labels.zero_()
    np.testing.assert_array_equal(problems[0].soft_labels["train"], before)
