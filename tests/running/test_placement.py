"""What `--device auto` sends to a GPU, and what to the processors beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.api import register_task
from benchmark.core.data import Recipe
from benchmark.core.problems import build_problem
from benchmark.core.registry import TASKS
from benchmark.core.suite import Recipes
from benchmark.running import placement, runner
from benchmark.running.executors.processes import Team
from benchmark.running.placement import placed
from benchmark.running.plan import Unit
from benchmark.running.runner import Workforce
from benchmark.running.setup import Setup
from support.made_up import Blobs, Columns
from support.units import setup_of, unit_of

RECIPES = Recipes(Recipe(epochs=2, batch_size=32), (("large*", Recipe(epochs=2, batch_size=2**24)),))


def unit(task: str) -> Unit:
    return unit_of(task, "ood", ((("naive", "raven", "ground_truth"), (0, 1)),), RECIPES.of(task))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """As on a machine with a GPU; features of all tasks but one are there."""
    found = setup_of(tmp_path / "cache", RECIPES, device="cuda", movable=True)
    for name in ("plain", "large", *(f"alike-{i}" for i in range(8))):
        register_task(Blobs((150, 120, 140 if "alike" in name else 130), name=name))
        build_problem(TASKS[name], "ood", 0, found.cache)
    register_task(Blobs(name="unread", encoder=Columns(fingerprint="another-1")))
    return found


def test_what_gains_from_a_gpu_goes_there(setup: Setup) -> None:
    alike = [unit(f"alike-{i}") for i in range(8)]
    broken = unit("nowhere")
    plan = [unit("plain"), unit("large"), *alike, unit("unread"), broken]
    found = placed(plan, setup)
    assert found.gpu == [unit("large"), *alike, unit("unread")]
    assert found.cpu == [unit("plain"), broken]
    why = "1 with large steps, 8 of one shape, 1 with features to make"
    assert found.line == f"10 units on the GPU ({why}), 2 on processors (--device auto)"
    assert placed([unit("plain"), *alike[:7]], setup).gpu == []


def test_a_step_is_large_by_its_operations(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 S H K D B: two seeds, four heads (three of `naive`, one of RAVEN; the canary is apart), three classes, four
    columns."""
    operations = 4 * 2 * 4 * 3 * 4 * 32
    monkeypatch.setattr(placement, "_LARGE", operations - 1)
    assert placed([unit("plain")], setup).gpu == [unit("plain")]
    monkeypatch.setattr(placement, "_LARGE", operations)
    assert placed([unit("plain")], setup).gpu == []


def teams_of(plan: list[Unit], setup: Setup, monkeypatch: pytest.MonkeyPatch) -> list[Team]:
    given: list[Any] = []
    monkeypatch.setattr(runner, "in_processes", lambda teams, *others: given.extend(teams))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    monkeypatch.setattr(runner, "cores", lambda: 3)
    Workforce().outcomes(plan, setup, lambda job, text, share: None)
    return given


def test_both_kinds_of_workers_run_side_by_side(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Processors' workers see no GPU, and their units are done, and recorded, as on processors."""
    gpu, cpu = teams_of([unit("large"), unit("plain"), unit("plain")], setup, monkeypatch)
    assert (gpu.plan, gpu.setup.device, gpu.gpus) == ([unit("large")], "cuda", ["5"])
    assert (cpu.plan, cpu.setup.device, cpu.gpus) == ([unit("plain")] * 2, "cpu", ["", ""])
    assert capsys.readouterr().err.count("\n") == 1


def test_a_device_that_was_asked_for_is_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (team,) = teams_of([unit("plain")] * 9, replace(setup, movable=False), monkeypatch)
    assert (team.setup.device, team.gpus) == ("cuda", ["5", "5"])
    assert capsys.readouterr().err == ""
