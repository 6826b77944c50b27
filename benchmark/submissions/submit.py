"""`w2s submit`: runs an outside method on a suite and writes the one folder that a submission is."""

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from benchmark.base.errors import NotAvailable, W2SError, unknown_name
from benchmark.base.files import write_output
from benchmark.base.notices import Say
from benchmark.base.versions import libraries
from benchmark.core.data import Recipe
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.problems import build_problem
from benchmark.core.records import Evaluation, RecordKey, Versions
from benchmark.core.registry import METHODS, TASKS, load_plugin
from benchmark.core.suite import load_suite, read_options
from benchmark.core.task import Task
from benchmark.results.contents import Contents
from benchmark.results.layout import MANIFEST, README, SOURCE
from benchmark.results.manifest import LONGEST, can_be_seen, manifest_of
from benchmark.results.store import ResultStore, method_files
from benchmark.running.evaluation import evaluate
from benchmark.running.request import Request, Run, resolve
from benchmark.running.result import LIBRARIES
from benchmark.running.session import carry_out
from benchmark.submissions.about import stub


def submit(
    request: Request,
    wanted: str | None,
    out: Path | None,
    published: Path | None,
    say: Say,
    developed_on: str | None = None,
) -> int:
    """Run a plug-in's method on a suite and write its submission.

    Args:
        request: names the suite, and the file as its only plug-in.
        wanted: which method, if the file registers several.
        out: folder in which the method's folder is written.
        published: results that the supervisors are compared with.
        developed_on: for the manifest, what the method was developed on.

    Returns:
        The exit status: 0, or 1 when a record is missing or was scored against other labels.

    Raises:
        W2SError: bad input, or supervisors that are not the published ones; nothing long was run.
    """
    if developed_on is not None and not (can_be_seen(developed_on) and len(developed_on) <= LONGEST):
        raise W2SError(f"--developed-on {developed_on!r}: expected 1 to {LONGEST} characters that can be seen")
    (file,) = request.plugins
    name = _method(file, wanted)
    source = file.read_bytes()
    suite = load_suite(request.suite, request.full)
    options, method_options = read_options(request.options)
    fixed = {*suite.options, *(field.name for field in fields(Recipe))}
    if set_by_suite := sorted(options.keys() & fixed):
        raise W2SError(f"--set {set_by_suite[0]}: suite '{suite.name}' says what it is; a submission can't change it")
    if method_options:
        raise W2SError(f"--set {name}.…: a submission's options are the defaults of its file; change them there")
    # another source is another method: nothing of it may be taken over
    root = Path("runs/submissions") / suite.folder / f"{name}-{hashlib.sha256(source).hexdigest()[:12]}"
    run = resolve(replace(request, methods=[name], results=str(root)), say)
    out = (out or Path("submissions") / suite.folder) / name
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise W2SError(f"{out}: is there and no submission; name another folder with --out")
    for task, why in run.lacking.items():
        raise NotAvailable(f"a submission needs every task of the suite, but {task} can't be run here: {why}")

    published = published or Path("results") / suite.folder
    ResultStore(published).require_current("no method can be submitted to it now")
    known = ResultStore(published).load()
    if known.evaluations:
        _compare_first(known, run, published, say)
    else:
        say(f"warning: no results in {published}: whether your supervisors are the published ones is not known")
    status = carry_out(run, say)
    if status not in (0, 1):
        return status
    keys, missing = _keys(run)
    if missing:
        say(f"nothing written: {missing} of {missing + len(keys)} records are missing; the same command goes on")
        return 1
    contents = run.store.load()
    for evaluation in contents.evaluations.values():
        if difference := _difference(known, evaluation):
            say(f"nothing written: {difference}")
            status = 1
    if status:
        return status
    if file.read_bytes() != source:
        raise W2SError(f"{file}: was changed while it ran; nothing written: run the command again")
    _write(out, suite.folder, contents, keys, source, developed_on)
    then = f"fill in {README} there, then: w2s validate {out}"
    if not known.evaluations:
        then = f"nothing is published in {published}, so there is no truth to validate it against"
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


def _grid(run: Run) -> list[tuple[Task, str, str]]:
    """All (task, condition) of the run, with the fingerprint of the task's data between them."""
    return [(task, data, c) for c in run.conditions for task, data in run.available if c in task.conditions]


def _keys(run: Run) -> tuple[list[RecordKey], int]:
    """The records of the whole grid that are there, and how many are missing."""
    made_of = {}
    for task, data, condition in _grid(run):
        (setting,) = run.settings(task)
        for seed in run.seeds:
            key = RecordKey(task.name, condition, setting.method, setting.hash, seed)
            made_of[key] = Versions(ENGINE_VERSION, task.version, setting.version), data, setting.source
    keys = [key for key, made in made_of.items() if run.store.complete(key, *made)]
    return keys, len(made_of) - len(keys)


def _compare_first(published: Contents, run: Run, root: Path, say: Say) -> None:
    """Before the long run: all that is known by then must be what the published results were scored against.

    Raises:
        W2SError: the data, or the supervisors of the first problem, differ.
    """
    for task, data, condition in _grid(run):
        evaluation = published.evaluations.get((task.name, condition))
        if evaluation and data != evaluation.data_fingerprint:
            raise W2SError(
                f"{task.name}: its data here differ from those of {root} (fingerprint {data}, expected "
                f"{evaluation.data_fingerprint}); use the commit and the data that the results were made with"
            )
    done = list(run.store.load().evaluations.values())
    if not done:
        task, _, condition = _grid(run)[0]
        say(f"comparing the supervisors of {task.name} ({condition}), seed {run.seeds[0]}, with those of {root}")
        problem = build_problem(task, condition, run.seeds[0], run.setup.cache, run.setup.device)
        done = [evaluate(task, [problem])]
    for evaluation in done:
        if difference := _difference(published, evaluation):
            raise W2SError(difference)


def _difference(published: Contents, found: Evaluation) -> str | None:
    """How truth or supervisors differ from the published ones, and what to do about it; None if they don't."""
    unit = (found.task, found.condition)
    expected = published.evaluations[unit].seeds if unit in published.evaluations else {}
    for seed, truth in sorted(found.seeds.items()):
        known = expected.get(seed)
        if known is None or known.sha256 == truth.sha256:
            continue
        what = "the pool or the number of supervisors differs"
        if known.test.all() and not truth.test.all():
            return (
                f"{found.task} ({found.condition}): what is published is of an older protocol, of the test split "
                "alone; scores are of the whole pool now, and can't be compared until it is run again"
            )
        if known.supervisors.shape == truth.supervisors.shape:
            what = f"{(known.supervisors != truth.supervisors).mean():.2%} of the supervisors' predictions differ"
        here = libraries(*LIBRARIES)
        there = next((r.libraries for k, r in sorted(published.records.items()) if (k.task, k.condition) == unit), {})
        others = [name for name in sorted(here) if there.get(name, here[name]) != here[name]]
        versions = "; ".join(f"{name} {here[name]} here, {there[name]} there" for name in others)
        return (
            f"{found.task} ({found.condition}), seed {seed}: {what} from the published ones, so scores could not be "
            f"compared: supervisors come out otherwise on this machine{f' ({versions})' if versions else ''}. Install "
            "the versions of constraints.txt in a fresh environment and run the same command; if they still differ, "
            "open a pull request with your file alone, and a maintainer runs it"
        )
    return None


def _write(
    out: Path, suite: str, contents: Contents, keys: Sequence[RecordKey], source: bytes, developed_on: str | None
) -> None:
    """The folder, its manifest last; a README that is there stays."""
    records = [contents.records[key] for key in keys]
    files = method_files(records, contents.predictions)
    files[SOURCE] = source
    citation = METHODS[records[0].method].citation
    if not (out / README).is_file():
        files[README] = stub(records[0].title, citation).encode()
    files[MANIFEST] = manifest_of(suite, citation, records, files, developed_on).to_text().encode()
    for name, content in files.items():
        write_output(out / name, content)
