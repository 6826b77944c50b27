"""A run from request to last line: resolves names, makes the plan, runs it, says what is done and what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.cache import Cache, cache_root
from benchmark.errors import NotAvailable, W2SError
from benchmark.execute import Setup
from benchmark.plan import Suite, Unit, load_suite, make_plan
from benchmark.problem import CONDITIONS, build_problem, data_fingerprint
from benchmark.registry import CANARIES, METHODS, TASKS
from benchmark.results import ResultStore
from benchmark.runner import choose_device, run
from benchmark.task import Task


@dataclass(frozen=True)
class Request:
    """What `w2s run` was asked for; empty lists and None stand for the suite's own choice."""

    suite: str
    tasks: list[str]
    methods: list[str]
    conditions: list[str]
    seeds: int | None
    device: str
    results: Path | None
    cache: Path | None
    plugins: tuple[Path, ...]
    arrays: Path | None
    split_by_group: bool
    force: bool
    download: bool = False  # get large data that are missing
    mirror: str | None = None


def start(request: Request, dry_run: bool, say: Callable[[str], None]) -> int:
    """Do what was asked; returns the exit status: 0, or 1 when something could not be run.

    Raises:
        W2SError: bad input; nothing was run.
    """
    suite = load_suite(request.suite)
    setup = _setup(request, suite)
    setup.load()
    tasks, results = _tasks(request, suite)
    conditions = request.conditions or (list(suite.conditions) if request.arrays is None else ["ood"])
    if unknown := [c for c in conditions if c not in CONDITIONS]:
        raise W2SError(f"unknown condition '{unknown[0]}': expected ind, ood or both")
    for registry in (METHODS, TASKS):
        for line in registry.warnings():
            say(line)
    methods = METHODS.select(request.methods or list(suite.methods), extra=tuple(CANARIES))
    seeds = range(request.seeds or suite.seeds)
    if request.arrays is not None:  # cheap, so that bad arrays are found before anything runs
        for seed in seeds:
            for condition in conditions:
                build_problem(tasks[0], condition, seed, Cache(setup.cache))

    available = []
    failures = []
    for task in tasks:
        try:
            lack = task.missing()
            if lack and request.download and not dry_run:
                task.download(request.mirror, say)
                lack = task.missing()
            if lack:
                raise NotAvailable(lack)
            available.append((task, data_fingerprint(task)))
        except NotAvailable as error:
            failures.append(f"not run: {task.name}: {error}")
        except Exception as error:  # a plug-in's fault must not stop the others
            what = error if isinstance(error, W2SError) else f"{type(error).__name__}: {error}"
            failures.append(f"not run: {task.name}: {what}")
    store = ResultStore(results)
    if dry_run:
        plan = make_plan(available, methods, conditions, seeds, suite.student, store, request.force)
        for unit in plan:
            say(_describe(unit))
        say(f"{len(plan)} units to run, results in {results}")
    else:
        with store.lock():
            plan = make_plan(available, methods, conditions, seeds, suite.student, store, request.force)
            try:
                failures += run(plan, setup, store)
            except KeyboardInterrupt:
                say(f"stopped: finished units are in {results}; the same command goes on from there")
                return 130
        say(f"{len(plan)} units run, results in {results}" if plan else f"nothing to do: all is in {results}")
    for line in failures:
        say(" ".join(line.split()))
    return 1 if failures else 0


def download(globs: list[str], mirror: str | None, say: Callable[[str], None]) -> int:
    """Get the data of tasks that never fetch them by themselves; the exit status is 1 when a task can't be run then."""
    ready = True
    for name in TASKS.select(globs):
        task = TASKS[name]
        try:
            task.download(mirror, say)
            lack = task.missing()
        except W2SError as error:
            lack = str(error)
        say(f"{name}: {' '.join(lack.split()) if lack else 'all is here'}")
        ready = ready and not lack
    return 0 if ready else 1


def _setup(request: Request, suite: Suite) -> Setup:
    if request.device not in ("auto", "cpu", "cuda"):
        raise W2SError(f"--device {request.device}: expected auto, cpu or cuda")
    if request.split_by_group and request.arrays is None:
        raise W2SError("--split-by-group: only with --arrays (tasks say themselves how they are split)")
    return Setup(
        device=choose_device(request.device),
        cache=(request.cache or cache_root()).absolute(),
        student=suite.student,
        plugins=tuple(plugin.absolute() for plugin in request.plugins),
        arrays=None if request.arrays is None else request.arrays.absolute(),
        split_by_group=request.split_by_group,
    )


def _tasks(request: Request, suite: Suite) -> tuple[list[Task], Path]:
    """The tasks to run on and where results go."""
    if request.arrays is not None:
        if request.tasks:
            raise W2SError("--tasks: not with --arrays, which is a task of its own")
        task = TASKS.by_origin(str(request.arrays.absolute()))
        return [task], request.results or Path("runs") / f"arrays-{task.name}"
    names = TASKS.select(request.tasks) if request.tasks else TASKS.select(list(suite.tasks))
    return [TASKS[name] for name in names], request.results or Path("runs") / suite.name


def _describe(unit: Unit) -> str:
    jobs = (f"{', '.join(names)} (seeds {', '.join(map(str, seeds))})" for names, seeds in unit.jobs)
    return f"{unit.label}: {'; '.join(jobs)}"
