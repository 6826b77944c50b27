"""A run from request to last line: resolves names, makes the plan, runs it, says what is done and what is not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from benchmark.assets.hub import DOWNLOAD
from benchmark.assets.packages import nothing_fetched
from benchmark.base.errors import NotAvailable, Vanished, W2SError, unknown_name
from benchmark.base.paths import cache_root
from benchmark.core.data import Recipe
from benchmark.core.names import CANARIES, CONDITIONS, GRID_SIZE
from benchmark.core.precision import check_precision
from benchmark.core.problems import build_problem, data_fingerprint
from benchmark.core.records import RecordKey
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Suite, load_suite, read_options
from benchmark.core.task import Task
from benchmark.packs.hub import find_pack
from benchmark.packs.read import PackTask
from benchmark.results.layout import TUNED
from benchmark.results.replies import read_replies
from benchmark.results.store import ResultStore, results_folder
from benchmark.results.trials import is_tuned
from benchmark.running.needs import needs
from benchmark.running.plan import Unit, make_plan
from benchmark.running.runner import USUAL, Report, Workforce, choose_device, run
from benchmark.running.stale import StaleRun, stale_run
from benchmark.running.unit import Setup
from benchmark.store.mirror import split_address


@dataclass(frozen=True)
class Request:
    """What `w2s run` was asked for; empty lists and None stand for the suite's own choice."""

    suite: str
    full: bool = False
    tasks: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    seeds: int | None = None
    device: str = "auto"
    results: str | None = None
    cache: str | None = None
    plugins: tuple[Path, ...] = ()
    arrays: Path | None = None
    split_by_group: bool = False
    pack: str | None = None
    options: list[str] = field(default_factory=list)
    tune: bool = False
    replies: int = 0
    download: bool = False
    mirror: str | None = None
    force: bool = False
    stale: bool = False
    workforce: Workforce = USUAL


def start(request: Request, dry_run: bool, say: Callable[[str], None]) -> int:
    """Do what was asked; returns the exit status: 0, 1 when something could not be run, 130 when it was stopped.

    Raises:
        W2SError: bad input; nothing was run. Or the run can't go on: then what has failed is said, but for this.
    """
    report = Report()
    try:
        return _start(request, dry_run, say, report)
    except KeyboardInterrupt:
        left = f"{report.planned - report.units} left, results in {report.results}"
        done = f"{report}, {left}" if report.planned else "no unit was begun"
        status, what = 130, f"{done}; the same command goes on from there"
    except Vanished as error:
        status, what = 1, f"{error}; the same command does again what is lost with them"
    except W2SError as error:
        if report.units:  # it was in the middle: a node of a cluster that can't take part, an address that fails
            _say_failures([line for line in report.failures if line not in str(error)], say)
        raise
    _say_failures(report.failures, say)
    say(f"stopped: {what}")
    return status


def _start(request: Request, dry_run: bool, say: Callable[[str], None], report: Report) -> int:
    """See `start`; the report tells how far it has come."""
    suite = load_suite(request.suite, request.full)
    if request.download and not dry_run:
        os.environ[DOWNLOAD] = "1"
    setup = _setup(request, suite)
    setup.load()
    stale: StaleRun | None = None
    if request.stale:
        request, stale = _only_stale(request, suite)
        for line in stale.left_out:
            say(line)
        if not stale.places:
            say(f"nothing to redo in {request.results}")
            return 1 if stale.left_out else 0
    tasks, results = _tasks(request, suite, setup)
    report.results = results
    check_options(read_options(request.options), tasks, also=[f.name for f in fields(Recipe)])
    pack = tasks[0] if isinstance(tasks[0], PackTask) else None
    given = suite.conditions if request.arrays is None else ("ood",)
    conditions = request.conditions or list(pack.conditions if pack else given)
    if unknown := [c for c in conditions if c not in CONDITIONS]:
        raise W2SError(f"unknown condition '{unknown[0]}': expected ind, ood or both")
    for registry in (METHODS, TASKS):
        for line in registry.warnings():
            say(line)
    methods = METHODS.select(request.methods or list(suite.methods))
    if request.tune:
        methods = _tunable(methods, request.methods, say)
    seeds = list(pack.sheet.seeds if pack and request.seeds is None else range(request.seeds or suite.seeds))
    if pack:
        pack.require(conditions, seeds)
    if request.arrays is not None:  # cheap, so that bad arrays are found before anything runs
        for seed in seeds:
            for condition in conditions:
                build_problem(tasks[0], condition, seed, setup.store)

    available, absent = [], []
    for task in tasks:
        try:
            if lack := lacking(task, request.download and not dry_run, request.mirror, say):
                raise NotAvailable(lack)
            with nothing_fetched() if dry_run else nullcontext():
                available.append((task, data_fingerprint(task)))
        except NotAvailable as error:
            report.failures.append(f"not run: {task.name}: {error}")
            absent.append((task, "not here"))
        except (Exception, SystemExit) as error:  # a plug-in's fault must not stop the others
            what = error if isinstance(error, W2SError) else f"{type(error).__name__}: {error}"
            report.failures.append(f"not run: {task.name}: {what}")
    store = ResultStore(results_folder(results))
    if request.replies and not any(task.student.writes for task in tasks):
        raise W2SError("--replies: only policies (DPO students) write replies, and none of these tasks has one")

    def planned() -> list[Unit]:
        _refuse_mixture(store, request.tune)
        enough = _enough_replies(store, request.replies)
        among = stale.among if stale else lambda key: True
        return make_plan(
            available, methods, conditions, seeds, setup.student, store, request.force, enough, request.tune, among
        )

    if dry_run:
        plan = planned() + make_plan(
            absent, methods, conditions, seeds, setup.student, store, request.force, tune=request.tune
        )
        _foresee(plan, {task.name: task for task in tasks}, {task.name for task, _ in absent}, setup, say)
        say(f"{len(plan)} units to run{f', {GRID_SIZE} settings a method' * request.tune}, results in {results}")
    else:
        with store.lock():
            plan = planned()
            run(plan, setup, store, report, request.workforce)
            if stale:
                store.drop(stale.superseded(store))
        say(f"{report}, results in {results}" if plan else f"nothing to do: all is in {results}")
    _say_failures(report.failures, say)
    return 1 if report.failures or (stale and stale.left_out) else 0


def _say_failures(failures: Sequence[str], say: Callable[[str], None]) -> None:
    for line in failures:
        say(" ".join(line.split()))


def download(globs: list[str], mirror: str | None, say: Callable[[str], None]) -> int:
    """Get data and models that are never fetched unasked; the exit status is 1 when a task can't be run then."""
    os.environ[DOWNLOAD] = "1"
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


def lacking(task: Task, fetch: bool, mirror: str | None, say: Callable[[str], None]) -> str | None:
    """What a task lacks on this machine, once what can be downloaded is here where `fetch` allows it.

    Raises:
        W2SError: a download failed.
    """
    lack = task.missing()
    if lack and fetch:
        task.download(mirror, say)
        lack = task.missing()
    return lack


def _setup(request: Request, suite: Suite) -> Setup:
    if request.split_by_group and request.arrays is None:
        raise W2SError("--split-by-group: only with --arrays (tasks say themselves how they are split)")
    if request.pack is not None and (request.tasks or request.arrays is not None):
        raise W2SError("--pack: not with --tasks or --arrays, as a pack is a task of its own")
    if request.tune and request.replies:
        raise W2SError("--replies: not with --tune; replies are those of a method's default")
    options = {**suite.options, **read_options(request.options)}
    device = choose_device(request.device, here=request.workforce.ray_address is None)
    recipes = suite.student.changed(read_options(request.options))
    for recipe in (recipes.default, *(own for _, own in recipes.by_task)):
        check_precision(recipe.precision, device)
    folder, address = split_address(request.cache)
    return Setup(
        device=device,
        cache=(folder or cache_root()).absolute(),
        cache_address=address,
        student=recipes,
        options=options,
        tune=request.tune,
        replies=request.replies,
        plugins=tuple(plugin.resolve() for plugin in request.plugins),
        arrays=None if request.arrays is None else request.arrays.absolute(),
        split_by_group=request.split_by_group,
        pack=None if request.pack is None else find_pack(request.pack),
    )


def _tasks(request: Request, suite: Suite, setup: Setup) -> tuple[list[Task], str]:
    """The tasks to run on and where results go."""
    folder = f"runs/{suite.folder}{TUNED * request.tune}"
    if request.arrays is not None:
        if request.tasks:
            raise W2SError("--tasks: not with --arrays, which is a task of its own")
        task = TASKS.by_origin(str(request.arrays.absolute()))
        return [task], request.results or f"runs/arrays-{task.name}{TUNED * request.tune}"
    if setup.pack is not None:
        return [TASKS.by_origin(str(setup.pack))], request.results or folder
    names = TASKS.select(request.tasks) if request.tasks else TASKS.select(list(suite.tasks))
    return [setup.task(name) for name in names], request.results or folder


def _tunable(methods: Sequence[str], named: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """The methods without canaries, which have nothing to tune; said where one was named.

    Raises:
        W2SError: nothing is left.
    """
    if left_out := [name for name in CANARIES if name in named]:
        say(f"--tune: canaries are not tuned, left out: {', '.join(left_out)}")
    if not (left := [name for name in methods if name not in CANARIES]):
        raise W2SError("--tune: found canaries only, which are not tuned; name a method")
    return left


def _refuse_mixture(store: ResultStore, tune: bool) -> None:
    """Tuned results and others in one folder would be several settings of one method."""
    if any(is_tuned(record) != tune for record in store.load().records.values()):
        holds, wants = ("results without --tune", "tuned ones") if tune else ("tuned results", "others")
        raise W2SError(f"{store.root}: holds {holds}; name another folder with --results for {wants}")


def _only_stale(request: Request, suite: Suite) -> tuple[Request, StaleRun]:
    """The request narrowed to the stale records of its results folder."""
    if request.force or request.arrays is not None or request.pack is not None:
        raise W2SError("--stale: not with --force, --arrays or --pack: those runs redo what is stale by themselves")
    results = request.results or f"runs/{suite.folder}{TUNED * request.tune}"
    store = ResultStore(results_folder(results))
    conditions = request.conditions or CONDITIONS
    stale = stale_run(store, suite, request.tasks, request.methods, conditions, request.seeds)
    named = {name: sorted({getattr(place, name) for place in stale.places}) for name in ("task", "method", "condition")}
    seeds = 1 + max((place.seed for place in stale.places), default=0)
    return replace(
        request,
        tasks=named["task"],
        methods=named["method"],
        conditions=named["condition"],
        seeds=seeds,
        results=results,
    ), stale


def _enough_replies(store: ResultStore, wanted: int) -> Callable[[RecordKey], bool]:
    """Whether the policies of a record in the store have replied to so many prompts, or to all that there are."""
    if not wanted:
        return lambda key: True
    prompts = {(key.record, key.example) for key in read_replies(store.root)[0]}
    counts = Counter(record for record, _ in prompts)
    records = store.load().records
    return lambda key: counts[key] >= min(wanted, records[key].n_test)


def check_options(options: Mapping[str, Any], tasks: Sequence[Task], also: Sequence[str] = ()) -> None:
    """Every `--set` must mean something to one of the tasks, or be among the names in `also`."""
    known = set(also).union(*(task.options for task in tasks))
    for name in options:
        if name not in known:
            raise unknown_name("option", name, known)


def _foresee(
    plan: Sequence[Unit], tasks: Mapping[str, Task], absent: Container[str], setup: Setup, say: Callable[[str], None]
) -> None:
    """Say each unit, what it takes where that is known, and whether it can be run here; and the sum."""
    hours, disk = 0.0, {}
    for unit in plan:
        task = tasks[unit.task]
        say(_describe(unit))
        if task.scale and task.name not in disk:  # once a task
            say(f"  student: {task.student.title}; requires {task.card.requires}")
        if foreseen := needs(task, unit, setup.student.of(unit.task), setup.tune):
            say(f"  needs {foreseen}" + "; data or models are missing here" * (unit.task in absent))
            hours += foreseen.gpu_hours
            disk[unit.task] = foreseen.disk
    if disk:
        say(f"in all about {hours:.3g} GPU hours (at 100 TFLOP/s) and {sum(disk.values()) / 1e9:.3g} GB of disk")


def _describe(unit: Unit) -> str:
    jobs = (f"{', '.join(names)} (seeds {', '.join(map(str, seeds))})" for names, seeds in unit.jobs)
    return f"{unit.label}: {'; '.join(jobs)}"
