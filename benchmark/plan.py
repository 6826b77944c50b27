"""What a run has to do: the suite's units less what the results folder already holds."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark import canaries
from benchmark.errors import W2SError, unknown_name
from benchmark.method import method_options
from benchmark.problem import conditions
from benchmark.records import RecordKey, Versions, setting_hash
from benchmark.registry import CANARIES, METHODS
from benchmark.results import ResultStore
from benchmark.task import Task
from benchmark.training import ENGINE_VERSION, Recipe

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Suite:
    """Which tasks, methods, conditions and seeds belong together, and the student's recipe."""

    name: str
    description: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    conditions: tuple[str, ...]
    seeds: int
    student: Recipe


def suite_names() -> list[str]:
    """The suites that ship."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def load_suite(name: str) -> Suite:
    """Read a suite by name."""
    if name not in suite_names():
        raise unknown_name("suite", name, suite_names())
    content = tomllib.loads((SUITES / f"{name}.toml").read_text())
    return Suite(
        name=name,
        description=content["description"],
        tasks=tuple(content["tasks"]),
        methods=tuple(content["methods"]),
        conditions=tuple(content["conditions"]),
        seeds=content["seeds"],
        student=Recipe(**content["student"]),
    )


@dataclass(frozen=True)
class Unit:
    """One task x condition: what is still to be trained. The unit of work, of writing, and of what a kill can lose.

    `jobs` pairs methods (canaries included) with the seeds that lack them.
    """

    task: str
    condition: str
    jobs: tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]

    @property
    def label(self) -> str:
        """For progress bars and messages."""
        return f"{self.task} ({self.condition})"


def method_version(name: str) -> int:
    """Version of a method or canary."""
    return canaries.VERSION if name in CANARIES else METHODS[name].version


def hyperparameters(name: str, student: Recipe) -> dict[str, Any]:
    """Everything that was chosen for a run of this method: its options and the student's recipe."""
    method = {} if name in CANARIES else method_options(METHODS[name]())
    return {"method": method, "student": asdict(student)}


def make_plan(
    tasks: Sequence[tuple[Task, str]],
    methods: Sequence[str],
    wanted_conditions: Sequence[str],
    seeds: Sequence[int],
    student: Recipe,
    store: ResultStore,
    force: bool = False,
) -> list[Unit]:
    """The units with anything missing in `store`, or all of them with `force`.

    Args:
        tasks: those that can be run, and the fingerprints of their data.

    Raises:
        W2SError: no task has any of the wanted conditions.
    """
    settings = {name: setting_hash(hyperparameters(name, student)) for name in methods}
    units = []
    for condition in wanted_conditions:
        for task, data in tasks:
            if condition not in conditions(task):
                continue
            versions = {name: Versions(ENGINE_VERSION, task.version, method_version(name)) for name in methods}
            jobs: dict[tuple[str, ...], list[int]] = {}
            for seed in seeds:
                lacking = tuple(
                    name
                    for name in methods
                    if force
                    or not store.complete(
                        RecordKey(task.name, condition, name, settings[name], seed), versions[name], data
                    )
                )
                if lacking:
                    jobs.setdefault(lacking, []).append(seed)
            if jobs:
                units.append(Unit(task.name, condition, tuple((names, tuple(s)) for names, s in jobs.items())))
    has = sorted({c for task, _ in tasks for c in conditions(task)})
    if tasks and not set(has) & set(wanted_conditions):
        raise W2SError(f"no task here has the condition '{', '.join(wanted_conditions)}', only {', '.join(has)}")
    return units
