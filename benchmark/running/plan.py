"""What a run has to do: the suite's units less what the results folder already holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.base.errors import W2SError
from benchmark.core.data import Recipe
from benchmark.core.method import method_options
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import RecordKey, Versions, setting_hash
from benchmark.core.registry import METHODS
from benchmark.core.suite import Recipes
from benchmark.core.task import Task
from benchmark.results.store import ResultStore
from benchmark.results.trials import TRIALS
from benchmark.running.tuning import trials_of

NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Unit:
    """One task x condition (and seed, where students are costly): what is still to be trained. The unit of work, of
    writing, and of what a kill can lose.

    `jobs` pairs methods (canaries included) with the seeds that lack them. `split` says whether it is of one seed only.
    """

    task: str
    condition: str
    jobs: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
    split: bool = False

    @property
    def label(self) -> str:
        """For progress bars and messages."""
        return f"{self.task} ({self.condition}{f', seed {self.jobs[0][1][0]}' if self.split else ''})"


def hyperparameters(
    name: str, recipe: Recipe, student: Mapping[str, Any] = NOTHING, tune: bool = False
) -> dict[str, Any]:
    """Everything that was chosen for a run of this method: its options, the student's recipe and own parameters.

    With `tune`, all that of every trial.
    """
    tried = [
        {"method": method_options(trial.instance()), "student": {**trial.recipe.chosen(), **student}}
        for trial in trials_of(name, recipe, tune)
    ]
    return {TRIALS: tried} if tune else tried[0]


def make_plan(
    tasks: Sequence[tuple[Task, str]],
    methods: Sequence[str],
    wanted_conditions: Sequence[str],
    seeds: Sequence[int],
    student: Recipes,
    store: ResultStore,
    force: bool = False,
    enough: Callable[[RecordKey], bool] = lambda key: True,
    tune: bool = False,
    among: Callable[[RecordKey], bool] = lambda key: True,
) -> list[Unit]:
    """The units with anything missing in `store`, or all of them with `force`.

    Args:
        tasks: those that can be run, and the fingerprints of their data.
        enough: whether a record that is complete also has what else was asked for.
        tune: whether every method's whole grid is wanted.
        among: whether a record may be planned at all.

    Raises:
        W2SError: no task has any of the wanted conditions.
    """
    units = []
    for condition in wanted_conditions:
        for task, data in tasks:
            if condition not in task.conditions:
                continue
            writes = task.student.writes
            recipe, own = student.of(task.name), task.student.parameters
            settings = {name: setting_hash(hyperparameters(name, recipe, own, tune)) for name in methods}
            versions = {name: Versions(ENGINE_VERSION, task.version, METHODS[name].version) for name in methods}
            jobs: dict[tuple[str, ...], list[int]] = {}
            for seed in seeds:
                keys = {name: RecordKey(task.name, condition, name, settings[name], seed) for name in methods}
                lacking = tuple(
                    name
                    for name, key in keys.items()
                    if among(key)
                    if force or not (store.complete(key, versions[name], data) and (enough(key) or not writes))
                )
                if lacking:
                    jobs.setdefault(lacking, []).append(seed)
            if task.student.costly:
                apart = sorted((seed, names) for names, seeds_lacking in jobs.items() for seed in seeds_lacking)
                units += [Unit(task.name, condition, ((names, (seed,)),), split=True) for seed, names in apart]
            elif jobs:
                units.append(Unit(task.name, condition, tuple((names, tuple(s)) for names, s in jobs.items())))
    has = sorted({c for task, _ in tasks for c in task.conditions})
    if tasks and not set(has) & set(wanted_conditions):
        raise W2SError(f"no task here has the condition '{', '.join(wanted_conditions)}', only {', '.join(has)}")
    return units
