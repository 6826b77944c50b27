"""Units that train together: which they are, what they give, and what becomes of them when one fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmark.api import register_method, register_task
from benchmark.core.data import Recipe
from benchmark.core.losses import CrossEntropy
from benchmark.core.method import Batch
from benchmark.core.problems import train_sizes
from benchmark.core.registry import TASKS
from benchmark.core.suite import Recipes
from benchmark.running import joining
from benchmark.running import memory as memory_module
from benchmark.running import unit as unit_module
from benchmark.running.executors import contract
from benchmark.running.executors.contract import Queue, do, in_this_process, outcomes_of, units_of
from benchmark.running.joining import Joined, joined, training_runs
from benchmark.running.plan import Unit
from benchmark.running.request import Request
from benchmark.running.result import UnitResult
from benchmark.running.session import foresee
from benchmark.running.setup import Setup
from benchmark.running.unit import execute
from support.made_up import Blobs, Columns
from support.scribbler import Scribbler
from support.units import setup_of, unit_of

RECIPES = Recipes(Recipe(epochs=3, batch_size=16), (("odd", Recipe(epochs=2, batch_size=16)),))
ALL = ("naive", "raven", "confidence", "bootstrapping", "co_supervised", "ground_truth", "random_supervision")


def unit(task: str, methods: Sequence[str] = ALL, seeds: Sequence[int] = (0, 1), condition: str = "ood") -> Unit:
    return unit_of(task, condition, ((methods, seeds),), RECIPES.of(task))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Tasks a, b and c are of one shape; the others differ in one thing each."""
    for name in ("a", "b", "c", "odd"):
        register_task(Blobs(name=name, edition=name))
    register_task(Blobs(name="pairs", ratings=True))
    register_task(Blobs((150, 120, 190), name="larger"))
    register_task(Blobs(name="wider", encoder=Columns(fingerprint="wide-1")))
    return setup_of(tmp_path / "cache", RECIPES)


def test_units_of_one_shape_join(setup: Setup) -> None:
    others = [unit(name) for name in ("odd", "pairs", "larger", "wider")]
    few, late = unit("a", ("naive",)), unit("a", seeds=(1,))
    plan = [unit("a"), *others, unit("b"), few, late, unit("c"), unit("nowhere"), unit("nowhere")]
    assert joined(plan, setup, 1) == [Joined((unit("a"), unit("b"), late, unit("c"))), *others, few, *plan[-2:]]
    assert training_runs(plan[:-2], setup) == 6


@given(st.lists(st.sampled_from("aabbbcd"), max_size=20), st.integers(1, 4))
def test_every_unit_is_in_one_job_and_jobs_are_at_least_two_a_worker(shapes: list[str], workers: int) -> None:
    plan = [Unit(f"{shape}{i}", "ood", ()) for i, shape in enumerate(shapes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "shape", lambda unit, setup: (unit.task[0], ()))
        jobs = joined(plan, setup_of(Path("nowhere")), workers)
    units = [job.units if isinstance(job, Joined) else (job,) for job in jobs]
    assert sorted(own.task for group in units for own in group) == sorted(own.task for own in plan)
    assert all(len({own.task[0] for own in group}) == 1 for group in units)
    assert len(jobs) >= min(len(plan), 2 * workers)


def test_joined_units_give_what_they_give_alone(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights to 1e-6, and equal records: predictions, metrics, costs, diagnostics; in fewer runs of the loop."""
    runs: list[int] = []
    weights: dict[tuple[str, ...], list[Tensor]] = {}
    original, add = unit_module.train_trials, unit_module.add_entry

    def counted(*arguments: Any) -> Any:
        runs.append(len(arguments[1].seeds))
        return original(*arguments)

    def kept(result: Any, task: Any, problem: Any, setting: Any, tried: Any, place: Any, *others: Any) -> None:
        weights.setdefault((task.name, setting.method, problem.seed), []).append(tried[0].student.weight[place[0]])
        add(result, task, problem, setting, tried, place, *others)

    monkeypatch.setattr(unit_module, "train_trials", counted)
    monkeypatch.setattr(unit_module, "add_entry", kept)
    plan = [unit("a"), unit("b"), unit("c")]
    first, *_ = in_this_process([*plan, *plan], setup, lambda job, text, share: None)
    together = [own for _, own in outcomes_of(*first)]
    assert runs == [6, 6]
    for own, found in zip(plan, together, strict=True):
        assert isinstance(found, UnitResult)
        assert found.unit == own
        expected = execute(own, setup)
        assert [r.key for r, _ in found.entries] == [r.key for r, _ in expected.entries]
        for (ours, predicted), (theirs, alone) in zip(found.entries, expected.entries, strict=True):
            assert np.array_equal(predicted, alone)
            assert ours.model_dump(exclude={"diagnostics"}) == theirs.model_dump(exclude={"diagnostics"})
            for name, values in ours.diagnostics.items():
                assert np.allclose(values, theirs.diagnostics[name], atol=2e-6)
    for found_weights in weights.values():
        assert len(found_weights) == 3  # twice together, once alone
        assert all(torch.allclose(w, found_weights[0], atol=1e-6, rtol=0) for w in found_weights)


class FailsWhereSure(CrossEntropy):
    """Raises where a supervisor is sure, which only one task's are."""

    name = "fails_where_sure"
    title = citation = "test"

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if (batch.soft_labels == 0).any():
            raise ValueError("so sure")
        return super().loss(logits, batch)


def test_units_are_done_alone_where_one_fails(setup: Setup) -> None:
    """With the same messages, and the others' results."""
    task = Blobs(name="sure", edition="sure")
    for supervisor in task.supervisors(0):
        object.__setattr__(supervisor.model, "temperature", 1e-3)
    register_task(task)
    register_method(FailsWhereSure)
    plan = [unit(name, ("naive", "fails_where_sure")) for name in ("a", "sure", "c", "b")]
    outcomes = do(Joined(tuple(plan)), setup, lambda text, share: None)
    assert isinstance(outcomes, list)
    for own, found in zip(plan, outcomes, strict=True):
        expected = do(own, setup, lambda text, share: None)
        assert isinstance(found, UnitResult)
        assert isinstance(expected, UnitResult)
        assert found.failures == expected.failures
        assert [r for r, _ in found.entries] == [r for r, _ in expected.entries]
        assert bool(found.failures) == (own.task == "sure")


@pytest.mark.parametrize("how", ["operation", "numpy"])
def test_joined_units_stay_joined_without_a_method_that_writes_into_what_they_share(
    setup: Setup, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in each of them, and the others' results are, to the last bit, those of a run without it."""
    monkeypatch.setattr(Scribbler.__init__, "__defaults__", ("soft labels", how, 0.0))
    register_method(Scribbler)
    monkeypatch.setattr(contract, "execute", lambda *job: pytest.fail("a unit alone"))
    names = ("a", "b", "c")
    without, beside = (
        do(Joined(tuple(unit(name, methods) for name in names)), setup, lambda text, share: None)
        for methods in (("naive", "raven"), ("a_scribbler", "naive", "raven"))
    )
    assert isinstance(without, list)
    assert isinstance(beside, list)
    for name, expected, found in zip(names, without, beside, strict=True):
        assert isinstance(expected, UnitResult)
        assert isinstance(found, UnitResult)
        assert [line.split(": writes")[0] for line in found.failures] == [f"{name} (ood): method 'a_scribbler'"]
        assert [r.to_line() for r, _ in found.entries] == [r.to_line() for r, _ in expected.entries]


def test_joined_units_come_again_one_by_one_when_their_worker_dies_or_is_silent() -> None:
    job = Joined((unit("a"), unit("b")))
    for silent in (None, 60.0):
        queue = Queue([job, unit("c")])
        assert queue.take() == job
        assert queue.died(job, "SIGKILL", silent) is None
        assert [queue.take() for _ in range(4)] == [unit("c"), unit("a"), unit("b"), None]


def test_whole_units_train_together_as_far_as_memory_goes(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = unit_module.train_trials

    def counted(*arguments: Any) -> Any:
        sizes.append(len(arguments[1].seeds))
        return original(*arguments)

    monkeypatch.setattr(unit_module, "train_trials", counted)
    plan = tuple(unit(name, ("naive",)) for name in ("a", "b", "c"))
    for share, expected in ((0.25, [6]), (0.0, [2, 2, 2])):
        monkeypatch.setattr(memory_module, "_CPU_SHARE", share)
        sizes.clear()
        assert isinstance(do(Joined(plan), setup, lambda text, share: None), list)
        assert sizes == expected


def test_memory_that_training_has_left_unused_counts_as_free_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator keeps it, and the driver takes it for used."""
    given_back: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100 * len(given_back), 100))
    monkeypatch.setattr(unit_module, "training_bytes", lambda problem: 20)
    seeds: list[Any] = [SimpleNamespace(result=object(), problem=None) for _ in range(4)]
    assert [len(part) for part in unit_module._parts(seeds, "cuda")] == [2, 2]  # of 40%


def test_a_dry_run_says_how_many_runs_its_units_make(setup: Setup, tmp_path: Path) -> None:
    asked = Request("smoke", tasks=["a", "b", "c", "pairs"], methods=["naive"], conditions=["ood"])
    asked = replace(asked, results=str(tmp_path / "results"), cache=str(tmp_path / "cache"), fetch=False)
    said: list[str] = []
    assert foresee(asked, said.append) == 0
    assert said[-2:] == ["4 units in 2 runs of the training loop", f"4 units to run, results in {tmp_path / 'results'}"]


def test_jobs_hold_few_units_on_processors_and_no_more_examples_than_memory_has_room_for(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = [unit(name) for name in "abc"] * 10
    (size,) = {*train_sizes(TASKS["a"], "ood", (0, 1))}

    def sizes(device: str) -> list[int]:
        return [len(units_of(job)) for job in joined(plan, replace(setup, device=device), 1)]

    assert sizes("cpu") == [8, 8, 8, 6]
    assert sizes("cuda") == [15, 15]
    monkeypatch.setattr(joining, "_EXAMPLES", 6 * size)  # two seeds a unit
    assert sizes("cuda") == [3] * 10
