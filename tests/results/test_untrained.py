"""Where a ceiling tells that students were hardly trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.core.canaries import Taught
from benchmark.core.data import Recipe
from benchmark.core.losses import CrossEntropy
from benchmark.core.training import train
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from benchmark.results.untrained import MOST_LATE_FALL, untrained
from support.synthetic import Task, put
from support.trained import make_data

TASKS = [Task("good"), Task("bad")]  # their supervisors are right in 60 to 70% of cases


def late_fall(recipe: Recipe) -> torch.Tensor:
    (trained,) = train([Taught()], make_data(), recipe)
    return trained.diagnostics["late_fall"]


def test_the_loss_of_a_short_training_falls_to_its_end() -> None:
    """Whole train splits at a time, so that nothing but the training changes the loss."""
    short, long = late_fall(Recipe(1e-4, 20, 10_000)), late_fall(Recipe(0.1, 400, 10_000))
    torch.testing.assert_close(short, torch.full_like(short, 0.45), atol=0.05, rtol=0)  # it follows the learning rate
    assert (long < MOST_LATE_FALL).all()


def test_it_trains_as_cross_entropy_does() -> None:
    ours, plain = (train([kind()], make_data(), Recipe(1e-2, 3, 8))[0] for kind in (Taught, CrossEntropy))
    assert torch.equal(ours.student.weight, plain.student.weight)


@pytest.mark.parametrize(("accuracy", "fall", "words"), [(0.4, 0.0, "below the supervisors' mean"), (0.9, 0.4, "40%")])
def test_a_ceiling_that_was_not_trained_is_named(tmp_path: Path, accuracy: float, fall: float, words: str) -> None:
    store = ResultStore(tmp_path / "suite")
    for task in TASKS:
        bad = task.name == "bad"
        diagnostics = {"late_fall": fall if bad else 0.1}
        put(store, task, "ground_truth", range(3), ("ood",), accuracy=accuracy if bad else 0.9, diagnostics=diagnostics)
        put(store, task, "naive", range(3), ("ood",), accuracy=0.3)
    ((cell, fault),) = untrained(store.load()).items()
    assert cell == ("bad", "ood")
    assert words in fault


def test_the_tables_say_so(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "suite")
    for task, accuracy in zip(TASKS, (0.9, 0.4), strict=True):
        put(store, task, "ground_truth", range(3), ("ood",), accuracy=accuracy)
        put(store, task, "naive", range(3), ("ood",), accuracy=0.3)
    assert "Students were hardly trained, so that methods can't be judged, on bad: the ceiling (" in render(store)
