"""From what was asked for to what is to be run: all names resolved, all bad input refused before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from benchmark.base.errors import NotAvailable, W2SError, unknown_name
from benchmark.base.notices import Say
from benchmark.base.paths import Settings, cache_root, settings
from benchmark.core.abilities import as_policy
from benchmark.core.data import Recipe
from benchmark.core.names import CANARIES, CONDITIONS
from benchmark.core.precision import check_precision
from benchmark.core.problems import data_fingerprint
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.source import Source
from benchmark.core.suite import Suite, load_suite, read_options
from benchmark.core.task import Task
from benchmark.results.layout import TUNED
from benchmark.results.store import ResultStore, results_folder
from benchmark.running.method_settings import MethodSetting, check_method_options
from benchmark.running.setup import Setup, choose_device
from benchmark.running.stale import StaleRun, stale_run
from benchmark.store.mirror import split_address


@dataclass(frozen=True)
class Request:
    """What was asked for; empty sequences and None stand for the suite's own choice."""

    suite: str
    full: bool = False
    tasks: Sequence[str] = ()
    methods: Sequence[str] = ()
    conditions: Sequence[str] = ()
    seeds: int | None = None  # how many, from 0
    device: str = "auto"
    here: bool = True  # whether units run on this machine
    results: str | None = None
    cache: str | None = None  # a folder, or an address
    plugins: tuple[Path, ...] = ()
    source: Source | None = None  # of the task, if it is none of the registered ones
    options: Sequence[str] = ()  # `name=value` of tasks and students, `method.name=value` of a method
    tune: bool = False
    replies: int = 0
    download: bool = False
    mirror: str | None = None
    force: bool = False  # replace what is there
    stale: bool = False  # redo just the records that are older than the code
    fetch: bool = True  # whether a task's source archive may be fetched; a dry run does not


@dataclass(frozen=True)
class Run:
    """What is to be run, on what, and where results go."""

    tasks: tuple[Task, ...]  # all of them, with the run's options
    available: tuple[tuple[Task, str], ...]  # those that can be run here, with the fingerprints of their data
    lacking: Mapping[str, str]  # a line for each of the others, by its name
    methods: tuple[str, ...]  # canaries included
    conditions: tuple[str, ...]
    seeds: tuple[int, ...]
    method_options: Mapping[str, Mapping[str, Any]]  # by method, values that are not its defaults
    setup: Setup
    store: ResultStore
    force: bool = False
    outdated: StaleRun | None = None  # what is redone, if only stale records are

    def settings(self, task: Task) -> tuple[MethodSetting, ...]:
        """The methods as they are run on a task."""
        recipe, own, tune = self.setup.student.of(task.name), task.student.parameters, self.setup.tune
        return tuple(
            MethodSetting.of(name, recipe, own, self.method_options.get(name, {}), tune and name not in CANARIES)
            for name in self.methods
        )


def resolve(request: Request, say: Say) -> Run:
    """Resolve all names, load plug-ins, look for data; `say` what is worth knowing before anything runs.

    Raises:
        W2SError: bad input.
    """
    suite = load_suite(request.suite, request.full)
    setup, method_options = _setup(request, suite)
    given = setup.load()
    for line in (*METHODS.warnings(), *TASKS.warnings()):
        say(line)
    request, store, outdated = _narrowed(request, suite)
    tasks = [given] if given else [setup.task(name) for name in TASKS.select(request.tasks or suite.tasks)]
    conditions = request.conditions or (given.conditions if given else suite.conditions)
    if unknown := [c for c in conditions if c not in CONDITIONS]:
        raise W2SError(f"unknown condition '{unknown[0]}': expected ind or ood, or ind,ood")
    seeds = tuple(range(request.seeds or suite.seeds))
    if given:
        seeds = given.seeds if given.seeds and request.seeds is None else seeds
        given.require(conditions, seeds)
    methods = METHODS.select(request.methods or suite.methods)
    if request.tune:
        if left_out := [name for name in CANARIES if name in request.methods]:
            say(f"--tune: canaries are not tuned, left out: {', '.join(left_out)}")
        if not (methods := [name for name in methods if name not in CANARIES]):
            raise W2SError("--tune: found canaries only, which are not tuned; name a method")
    check_options(request.options, tasks, [field.name for field in fields(Recipe)])
    check_method_options(method_options, methods)
    if request.replies and not any(as_policy(task.student) for task in tasks):
        raise W2SError("--replies: only policies (DPO students) write replies, and none of these tasks has one")
    available: list[tuple[Task, str]] = []
    absent: dict[str, str] = {}
    for task in tasks if outdated is None or outdated.places else []:
        try:
            if lack := lacking(task, request.download and request.fetch, request.mirror, say):
                raise NotAvailable(lack)
            available.append((task, data_fingerprint(task)))
        except (Exception, SystemExit) as error:  # a plug-in's fault must not stop the others
            absent[task.name] = str(error) if isinstance(error, W2SError) else f"{type(error).__name__}: {error}"
    asked = tuple(methods), tuple(conditions), seeds, method_options
    return Run(tuple(tasks), tuple(available), absent, *asked, setup, store, request.force, outdated)


def check_options(given: Sequence[str], tasks: Sequence[Task], also: Sequence[str] = ()) -> None:
    """Refuse a `--set` that means nothing to any of the tasks and is not among the names in `also`."""
    known = set(also).union(*(task.options for task in tasks))
    if unknown := [name for name in read_options(given)[0] if name not in known]:
        raise unknown_name("option", unknown[0], known)


def _setup(request: Request, suite: Suite) -> tuple[Setup, Mapping[str, Mapping[str, Any]]]:
    if request.source is not None and request.tasks:
        raise W2SError("--tasks: not with --arrays or --pack, which are a task of their own")
    if request.tune and request.replies:
        raise W2SError("--replies: not with --tune; replies are those of a method's default")
    options, method_options = read_options(request.options)
    if method_options:
        given = f"--set {next(iter(method_options))}.{next(iter(next(iter(method_options.values()))))}"
        if request.tune:
            raise W2SError(f"{given}: not with --tune, which tries each method's own grid")
        if request.results is None or Path(request.results).resolve().parent.name == "results":
            raise W2SError(f"{given}: other options than the defaults need a folder of their own: --results FOLDER")
    device = choose_device(request.device, request.here)
    recipes = suite.student.changed(options)
    trained = recipes.default, *(own for _, own in recipes.by_task)
    for recipe in trained:
        check_precision(recipe.precision, device)
    tf32 = any(recipe.precision == "tf32" for recipe in trained)
    folder, address = split_address(request.cache)
    cache, fetch = (folder or cache_root()).absolute(), request.fetch
    setup = Setup(
        device=device,
        student=recipes,
        options={**suite.options, **options},
        settings=Settings(cache, settings().data, request.download and fetch, fetch),
        cache_address=address,
        tune=request.tune,
        replies=request.replies,
        plugins=tuple(plugin.resolve() for plugin in request.plugins),
        source=request.source,
        conditions=tuple(request.conditions or suite.conditions),
        movable=request.device == "auto" and device == "cuda" and not tf32,
    )
    return setup, method_options


def _narrowed(request: Request, suite: Suite) -> tuple[Request, ResultStore, StaleRun | None]:
    """The request, narrowed to the stale records of its results folder if only those are wanted."""
    folder = request.source.folder(suite.folder) if request.source else suite.folder
    store = ResultStore(results_folder(request.results or f"runs/{folder}{TUNED * request.tune}"))
    if not request.stale:
        return request, store, None
    if request.force or request.source is not None:
        raise W2SError("--stale: not with --force, --arrays or --pack: those runs redo what is stale by themselves")
    conditions = request.conditions or CONDITIONS
    outdated = stale_run(store, suite, request.tasks, request.methods, conditions, request.seeds)
    places = outdated.places
    narrowed = replace(
        request,
        tasks=sorted({place.task for place in places}),
        methods=sorted({place.method for place in places}),
        conditions=sorted({place.condition for place in places}),
        seeds=1 + max((place.seed for place in places), default=0),
    )
    return narrowed if places else request, store, outdated


def lacking(task: Task, fetch: bool, mirror: str | None, say: Say) -> str | None:
    """What a task lacks on this machine, once what can be downloaded is here where `fetch` allows it.

    Raises:
        W2SError: a download failed.
    """
    lack = task.missing()
    if lack and fetch:
        task.download(mirror, say)
        lack = task.missing()
    return lack
