"""What a method can reach through a language model that is the student holds no truth, and nothing that tells it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import SUPPORT

pytest.importorskip("peft")
from benchmark.core.data import Recipe
from benchmark.core.pools import draw_pool
from benchmark.core.problems import build_problem
from benchmark.core.registry import METHODS, TASKS, load_plugin
from benchmark.running.unit import execute
from benchmark.store.cache import Cache
from support.hostile import Given, Hostile, HostileStaged
from support.tiny import Models
from support.units import setup_of, unit_of

RECIPE = Recipe(1e-2, 1, 8)


@pytest.mark.parametrize(("name", "tune"), [("tiny-said", False), ("tiny-chosen", False), ("tiny-said", True)])
def test_a_hostile_method_finds_no_truth(
    name: str, tune: bool, models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("W2S_TEST_MODELS", str(models.root))
    for registered in ("tiny-said", "tiny-chosen", "tiny-rated"):
        TASKS._items.pop(registered, None)
    load_plugin(SUPPORT / "tiny_tasks.py")
    hostile = [Hostile(), HostileStaged()]
    for method in hostile:
        monkeypatch.setitem(METHODS._items, method.name, Given(method))
    # the canary's unit comes first: its weights must not stay in the network that is shared
    if tune:  # eight trials; one that trains in stages sees all that there is
        hostile = hostile[1:]
    jobs = ((("ground_truth",), (0,)), (tuple(method.name for method in hostile), (0,)))[tune:]
    unit = unit_of(name, "ood", jobs, RECIPE, tune=tune, split=True)
    result = execute(unit, setup_of(tmp_path, RECIPE, tune=tune))
    assert not result.failures
    task = TASKS[name]
    problem = build_problem(task, "ood", 0, Cache(tmp_path), held_out=("test", "val"))
    pool = draw_pool(task, {d: task.domain(d) for d in (*task.card.sources, task.card.target)}, "ood", 0)
    tokens = problem.features["tokens"]
    for method in hostile:
        assert method.loot.holds(problem.soft_labels["train"].transpose(1, 0, 2)[0]), "the walk finds what it may see"
        for split in ("train", "val", "test"):
            labels = problem.truth.labels[split]
            assert not method.loot.holds(labels)
            assert not method.loot.holds(np.eye(2)[labels])
            assert not method.loot.holds(problem.truth.groups[split])
            positions = pool.examples[split]
            for secret in (positions, positions[..., 0] if positions.ndim == 2 else positions):
                assert not method.loot.holds(secret), f"where the {split} examples stand in their file"
        assert not method.loot.holds(tokens["test"].ids[:20].numpy())
        assert not method.loot.holds(tokens["val"].ids[:20].numpy())
    assert hostile[-1].loot.holds(tokens["train"].ids[:20].numpy()), "a staged method may see the train split's inputs"


def test_the_canarys_weights_are_gone_when_a_method_trains(
    models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `test_a_hostile_method_finds_no_truth`, in the shared network, which holds no adapters between passes."""
    from benchmark.students.language.student import LanguageStudent

    monkeypatch.setenv("W2S_TEST_MODELS", str(models.root))
    for registered in ("tiny-said", "tiny-chosen", "tiny-rated"):
        TASKS._items.pop(registered, None)
    load_plugin(SUPPORT / "tiny_tasks.py")
    found: list[bool] = []
    begin = LanguageStudent.__init__

    def looked_at(self: LanguageStudent, *given: object) -> None:
        begin(self, *given)  # type: ignore[arg-type]
        found.append(list(self._network._active) == [] and not any(place.weights for place in self._network._places))

    monkeypatch.setattr(LanguageStudent, "__init__", looked_at)
    jobs = ((("ground_truth",), (0,)), (("naive",), (0,)))
    execute(unit_of("tiny-said", "ood", jobs, RECIPE, split=True), setup_of(tmp_path, RECIPE))
    assert len(found) > 2
    assert all(found)
