"""`w2s submit`: runs an outside method on a suite and writes the one folder that a submission is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from benchmark.base.errors import NotAvailable, W2SError, unknown_name
from benchmark.base.files import atomic_write
from benchmark.base.paths import cache_root
from benchmark.base.versions import libraries
from benchmark.core.data import Recipe
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.problems import build_problem, data_fingerprint
from benchmark.core.records import Evaluation, RecordKey, Versions, setting_hash
from benchmark.core.registry import METHODS, TASKS, load_plugin
from benchmark.core.suite import Suite, load_suite, read_options
from benchmark.core.task import Task
from benchmark.results.contents import Contents
from benchmark.results.layout import MANIFEST, README, SOURCE
from benchmark.results.store import ResultStore, method_files
from benchmark.running.plan import hyperparameters
from benchmark.running.runner import choose_device
from benchmark.running.session import Request, check_options, lacking, start
from benchmark.running.unit import LIBRARIES, Setup, evaluate
from benchmark.store.cache import Cache
from benchmark.submissions.about import stub
from benchmark.submissions.manifest import Grid, grid_of, manifest_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class SubmitRequest:
    """What `w2s submit` was asked for.

    Attributes:
        method: which one, if the file registers several.
        out: folder in which the method's folder is written.
        published: results that the supervisors are compared with.
    """

    file: Path
    suite: str
    full: bool
    method: str | None
    out: Path | None
    published: Path | None
    device: str
    cache: Path | None
    options: list[str]
    download: bool
    mirror: str | None


def submit(request: SubmitRequest, say: Say) -> int:
    """Do what was asked; returns the exit status: 0, or 1 when a record is missing or was scored against other labels.

    Raises:
        W2SError: bad input, or supervisors that are not the published ones; nothing long was run.
    """
    suite = load_suite(request.suite, request.full)
    name = _method(request.file, request.method)
    source = request.file.read_bytes()
    setup = _setup(request, suite)
    tasks = [setup.task(task) for task in TASKS.select(list(suite.tasks))]
    check_options(read_options(request.options), tasks)
    out = (request.out or Path("submissions") / suite.folder) / name
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise W2SError(f"{out}: is there and no submission; name another folder with --out")
    # another source is another method: nothing of it may be taken over
    root = Path("runs/submissions") / suite.folder / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"

    published = ResultStore(request.published or Path("results") / suite.folder)
    grid, data = grid_of(suite), _data(tasks, request, say)
    _compare_first(published, ResultStore(root).load(), grid, data, setup, say)
    status = start(_run(request, suite, name, root), dry_run=False, say=say)
    if status not in (0, 1):
        return status
    working = ResultStore(root)
    keys, missing = [], 0
    for (task, condition), seeds in grid.items():
        student = setup.task(task).student
        setting = setting_hash(hyperparameters(name, suite.student.of(task), student.parameters))
        versions = Versions(ENGINE_VERSION, TASKS[task].version, METHODS[name].version)
        for seed in seeds:
            key = RecordKey(task, condition, name, setting, seed)
            if working.complete(key, versions, data[task]):
                keys.append(key)
            else:
                missing += 1
    if missing:
        say(f"nothing written: {missing} of {missing + len(keys)} records are missing; the same command goes on")
        return 1
    contents = working.load()
    for evaluation in contents.evaluations.values():
        if difference := _difference(published.load(), evaluation):
            say(f"nothing written: {difference}")
            status = 1
    if status:
        return status
    if request.file.read_bytes() != source:
        raise W2SError(f"{request.file}: was changed while it ran; nothing written: run the command again")
    _write(out, suite, contents, keys, source)
    if published.load().evaluations:
        then = f"fill in {README} there, then: w2s validate {out}"
    else:
        then = f"nothing is published in {published.root}, so there is no truth to validate it against"
    say(f"wrote {out}: {len(keys)} records; {then}")
    return 0


def _method(file: Path, wanted: str | None) -> str:
    """The one method that a plug-in file registers, or the named one of several."""
    before = set(TASKS.names())
    names = METHODS.registered_by(load_plugin(file))
    if set(TASKS.names()) - before:
        raise W2SError(f"{file}: registers tasks too; a submission is a file with a method")
    if not names:
        raise W2SError(f"{file}: registers no method; `w2s new method NAME` shows how")
    if wanted is not None and wanted not in names:
        raise unknown_name(f"method of {file}", wanted, names)
    if wanted is None and len(names) > 1:
        raise W2SError(f"{file}: registers {len(names)} methods ({', '.join(names)}); say which with --method NAME")
    return wanted or names[0]


def _setup(request: SubmitRequest, suite: Suite) -> Setup:
    options = read_options(request.options)
    if fixed := sorted(options.keys() & {*suite.options, *(field.name for field in fields(Recipe))}):
        raise W2SError(f"--set {fixed[0]}: suite '{suite.name}' says what it is; a submission can't change it")
    return Setup(
        device=choose_device(request.device),
        cache=(request.cache or cache_root()).absolute(),
        student=suite.student,
        options={**suite.options, **options},
    )


def _run(request: SubmitRequest, suite: Suite, name: str, root: Path) -> Request:
    return Request(
        suite=suite.name,
        full=suite.full,
        methods=[name],
        device=request.device,
        results=str(root),
        cache=None if request.cache is None else str(request.cache),
        plugins=(request.file,),
        options=request.options,
        download=request.download,
        mirror=request.mirror,
    )


def _data(tasks: Sequence[Task], request: SubmitRequest, say: Say) -> dict[str, str]:
    """Fingerprint of each task's data. A submission needs all of them, so a task that can't be run ends it here."""
    found = {}
    for task in tasks:
        if lack := lacking(task, request.download, request.mirror, say):
            raise NotAvailable(f"a submission needs every task of the suite, but {task.name} can't be run here: {lack}")
        found[task.name] = data_fingerprint(task)
    return found


def _compare_first(
    published: ResultStore, working: Contents, grid: Grid, data: dict[str, str], setup: Setup, say: Say
) -> None:
    """Before the long run: all that is known by then must be what the published results were scored against.

    Raises:
        W2SError: the data, or the supervisors of the first problem, differ.
    """
    contents = published.load()
    if not contents.evaluations:
        say(f"warning: no results in {published.root}: whether your supervisors are the published ones is not known")
        return
    for (name, condition), evaluation in contents.evaluations.items():
        if (name, condition) in grid and data[name] != evaluation.data_fingerprint:
            raise W2SError(
                f"{name}: its data here differ from those of {published.root} (fingerprint {data[name]}, expected "
                f"{evaluation.data_fingerprint}); use the commit and the data that the results were made with"
            )
    done = [evaluation for unit, evaluation in working.evaluations.items() if unit in grid]
    if not done:
        (name, condition), seeds = next(iter(grid.items()))
        say(f"comparing the supervisors of {name} ({condition}), seed {seeds[0]}, with those of {published.root}")
        task = setup.task(name)
        problem = build_problem(task, condition, seeds[0], Cache(setup.cache), setup.device)
        done = [evaluate(task, [problem])]
    for evaluation in done:
        if difference := _difference(contents, evaluation):
            raise W2SError(difference)


def _difference(published: Contents, found: Evaluation) -> str | None:
    """How truth or supervisors differ from the published ones, and what to do about it; None if they don't."""
    unit = (found.task, found.condition)
    expected = published.evaluations.get(unit)
    if expected is None:
        return None
    for seed, truth in sorted(found.seeds.items()):
        known = expected.seeds.get(seed)
        if known is None or known.sha256 == truth.sha256:
            continue
        if known.supervisors.shape == truth.supervisors.shape:
            what = f"{(known.supervisors != truth.supervisors).mean():.2%} of the supervisors' test predictions differ"
        else:
            what = "the test split or the number of supervisors differs"
        return (
            f"{found.task} ({found.condition}), seed {seed}: {what} from the published ones, so scores could not be "
            f"compared: supervisors come out otherwise on this machine{_versions(published, unit)}. Install the "
            "versions of constraints.txt in a fresh environment and run the same command; if they still differ, open a "
            "pull request with your file alone, and a maintainer runs it"
        )
    return None


def _versions(published: Contents, unit: tuple[str, str]) -> str:
    """The libraries whose versions differ from those that the published records of this unit were made with."""
    here = libraries(*LIBRARIES)
    there = next((r.libraries for k, r in sorted(published.records.items()) if (k.task, k.condition) == unit), {})
    differ = [
        f"{name} {here[name]} here, {there[name]} there"
        for name in sorted(here)
        if there.get(name, here[name]) != here[name]
    ]
    return f" ({'; '.join(differ)})" if differ else ""


def _write(out: Path, suite: Suite, contents: Contents, keys: Sequence[RecordKey], source: bytes) -> None:
    """The folder, its manifest last; a README that is there stays."""
    records = [contents.records[key] for key in keys]
    files = method_files({record.key: record.to_line() for record in records}, contents.predictions)
    files[SOURCE] = source
    citation = METHODS[records[0].method].citation
    if not (out / README).is_file():
        files[README] = stub(records[0].title, citation).encode()
    files[MANIFEST] = manifest_of(suite.folder, citation, records, files).to_text().encode()
    for name, content in files.items():
        atomic_write(out / name, content)
