"""Units and resolved runs, without a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.base.paths import Settings
from benchmark.core.data import Recipe
from benchmark.core.suite import Recipes
from benchmark.core.task import Task
from benchmark.results.store import ResultStore
from benchmark.running.method_settings import NOTHING, MethodSetting
from benchmark.running.plan import Training, Unit
from benchmark.running.request import Run
from benchmark.running.setup import Setup

RECIPE = Recipe(epochs=1, batch_size=32)
Jobs = Sequence[tuple[Sequence[str], Sequence[int]]]  # methods, and the seeds that lack them


def unit_of(
    task: str,
    condition: str,
    jobs: Jobs,
    recipe: Recipe = RECIPE,
    *,
    student: Mapping[str, Any] = NOTHING,
    tune: bool = False,
    split: bool = False,
) -> Unit:
    """A unit whose methods have their defaults."""
    trainings = [
        Training(tuple(MethodSetting.of(name, recipe, student, tune=tune) for name in names), tuple(seeds))
        for names, seeds in jobs
    ]
    return Unit(task, condition, tuple(trainings), split)


def setup_of(cache: Path, recipe: Recipe | Recipes = RECIPE, **others: Any) -> Setup:
    """The setup of a run on the CPU."""
    recipes = recipe if isinstance(recipe, Recipes) else Recipes(recipe)
    return Setup(**{"device": "cpu", "student": recipes, "settings": Settings(cache=cache), **others})


def run_of(
    available: Sequence[tuple[Task, str]],
    methods: Sequence[str],
    store: ResultStore,
    *,
    conditions: Sequence[str] = ("ood",),
    seeds: Sequence[int] = (0,),
    setup: Setup | None = None,
    **others: Any,
) -> Run:
    """A resolved run on tasks that are there, with the fingerprints of their data."""
    setup = setup or setup_of(store.root / "cache")
    own: dict[str, Any] = {"lacking": {}, "method_options": {}, **others}
    tasks = tuple(task for task, _ in available)
    return Run(
        tasks, tuple(available), own.pop("lacking"), tuple(methods), tuple(conditions), tuple(seeds),
        own.pop("method_options"), setup, store, **own,
    )  # fmt: skip
