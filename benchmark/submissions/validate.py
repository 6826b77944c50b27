"""`w2s validate`: everything that can be said of a submission without running its method.

It re-scores, recomputes every hash, and compares with the suite and with what is published. It can't show that the
predictions came from the source: whoever writes predictions can write hashes that fit. `w2s verify` runs a cell again.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from unicodedata import normalize

from benchmark.base.errors import W2SError
from benchmark.base.notices import Say
from benchmark.base.paths import cache_root
from benchmark.core.data import Recipe
from benchmark.core.method import method_options
from benchmark.core.names import CANARIES, ENGINE_VERSION, REFERENCES, RESERVED
from benchmark.core.problems import build_problem
from benchmark.core.records import Record, RecordKey, Versions
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Suite, load_suite, suite_of_folder
from benchmark.results.contents import Contents
from benchmark.results.layout import MANIFEST, PREDICTIONS, SOURCE
from benchmark.results.manifest import Manifest, can_be_seen, manifest_of
from benchmark.results.store import ResultStore
from benchmark.results.trials import expected_metrics, metric_faults
from benchmark.running.evaluation import evaluate
from benchmark.store.cache import Cache
from benchmark.submissions.findings import Finding, report
from benchmark.submissions.reading import Submission, read_submission
from benchmark.submissions.verify import DIFFERING

_Grid = set[tuple[str, str]]  # each (task, condition) of a suite, with seeds 0, 1, ... suite.seeds - 1
_WEIGHTS_TOLERANCE = 1e-3  # they are rounded, and made in single precision


def validate(
    folder: Path, suite_name: str | None, results: Path | None, rebuild: bool, cache: Path | None, say: Say
) -> int:
    """Check a submission and print a line for each finding; returns 0 if there are none but warnings, else 1.

    Args:
        suite_name: of the suite's folder of results; the manifest's, or the one that the submission lies in, when left
            out.
        results: what is published of the suite, `results/<suite>` when left out.
        rebuild: also make the problems from the data again and compare the published truth with them.

    Raises:
        W2SError: no submission there, an unknown suite, or nothing is published that it could be scored against.
    """
    submission, findings = read_submission(folder)
    name = suite_name or (submission.manifest.suite if submission.manifest else folder.resolve().parent.name)
    suite = suite_of_folder(name) or load_suite(name)
    tasks = [TASKS[name] for name in TASKS.select(list(suite.tasks))]
    grid = {(task.name, condition) for task in tasks for condition in suite.conditions if condition in task.conditions}
    root = results or Path("results") / suite.folder
    published = ResultStore(root).load()
    if not published.evaluations:
        raise W2SError(f"{root}: no published truth to score against; name a folder of results with --results")
    others = {key: record for key, record in published.records.items() if key.method != submission.name}
    findings += _names(submission, published, root)
    findings += _manifest(submission, suite)
    findings += _records(submission, suite, grid, replace(published, records=others))
    findings += _complete(submission, suite, grid)
    findings += _copied(submission, others)
    if rebuild:
        findings += _rebuild(published, grid, suite, Cache((cache or cache_root()).absolute()), say)
    for line in report(
        f"{submission.name}, {len(submission.contents.records)} records, suite {suite.folder}", findings
    ):
        say(line)
    return 1 if any(not finding.warning for finding in findings) else 0


def _names(submission: Submission, published: Contents, root: Path) -> Iterator[Finding]:
    manifest, name = submission.manifest, submission.name
    if manifest is None:
        return
    versions = {record.method_version for key, record in published.records.items() if key.method == name}
    source = root / name / SOURCE
    same_source = source.is_file() and source.read_bytes() == submission.files.get(SOURCE)
    if name in RESERVED or name in METHODS:
        yield Finding("taken-name", f"'{name}' is a method, a canary or a reference row of the project")
    elif versions and manifest.method_version <= max(versions) and not same_source:
        text = f"'{name}' is published with version {max(versions)}; raise yours to replace it, or choose another name"
        yield Finding("taken-name", text)
    for what, shown in (("title", manifest.title), ("developed_on", manifest.statement)):
        if not can_be_seen(shown):
            yield Finding("bad-text", f"{what} {shown!r}: expected characters that can be seen")
    titles = {key.method: record.title for key, record in published.records.items()}
    titles |= {method.name: method.title for method in METHODS} | CANARIES | REFERENCES
    taken = {_seen(shown): method for method, title in titles.items() if method != name for shown in (method, title)}
    if owner := taken.get(_seen(manifest.title)):
        yield Finding("taken-name", f"the title '{manifest.title}' is that of '{owner}'")


def _seen(title: str) -> str:
    """A title less all that a reader can't tell apart: case, compatibility forms, spaces, what isn't printed."""
    shown = "".join(letter for letter in title if letter.isprintable() or letter.isspace())
    return " ".join(normalize("NFKC", normalize("NFKC", shown).casefold()).split())


def _manifest(submission: Submission, suite: Suite) -> Iterator[Finding]:
    """The manifest against what the suite and the other files give."""
    manifest, files = submission.manifest, submission.files
    if manifest is None or not submission.whole or SOURCE not in files:
        return
    records = [record for _, record in sorted(submission.contents.records.items())]
    try:
        expected = manifest_of(suite.folder, manifest.citation, records, files, manifest.developed_on)
    except ValueError as error:
        yield Finding("manifest-mismatch", f"{MANIFEST}: the records allow none: {error}")
        return
    for file, sha256 in expected.files.items():
        if manifest.files.get(file) != sha256:
            yield Finding("manifest-mismatch", f"{file}: is not the file that {MANIFEST} was written for")
    for name in Manifest.model_fields:
        found, given = getattr(manifest, name), getattr(expected, name)
        if found != given and name != "files":
            text = f"{name} is {found!s:.200}, the other files give {given!s:.200}"
            yield Finding("manifest-mismatch", f"{MANIFEST}: {text}")


def _records(submission: Submission, suite: Suite, grid: _Grid, published: Contents) -> Iterator[Finding]:
    """What is wrong with each record, by the published truth and the records of other methods."""
    own = submission.contents
    scored = Contents(own.records, published.evaluations, own.predictions)
    options = submission.manifest.options if submission.manifest else None
    if options is None and submission.name in METHODS:
        options = method_options(METHODS[submission.name]())
    for key, record in sorted(own.records.items()):
        unit = (record.task, record.condition)
        if unit not in grid or record.seed >= suite.seeds:
            text = f"{key}: suite {suite.folder} has no such task, condition or seed (it has {suite.seeds}, from 0)"
            yield Finding("foreign-record", text)
            continue
        method_version = METHODS[record.method].version if record.method in METHODS else record.method_version
        here = Versions(ENGINE_VERSION, TASKS[record.task].version, method_version)
        for what, then, now in zip(Versions._fields, record.versions, here, strict=True):
            if then != now:
                yield Finding("other-version", f"{key}: {what} version {then}, here it is {now}")
        if options is not None and record.hyperparameters.get("method") != options:
            text = f"{key}: options {record.hyperparameters.get('method')}, those of the method are {options}"
            yield Finding("other-setting", text)
        yield from _training(record, suite, published)
        yield from _weights(record)
        if key not in own.predictions and not submission.whole:
            continue  # they may be there, unread
        if misfit := scored.misfit(record):
            yield Finding("misfit", f"{key}: {misfit}")
            continue
        # every stage of every method takes the recipe's steps, in epochs as `Minibatches` has them
        recipe, n_train, heads = suite.student.of(record.task), record.n_train, len(own.predictions[key])
        steps = n_train // min(recipe.batch_size, n_train) * recipe.epochs_of(n_train) if n_train else 0
        if not steps or record.cost <= 0 or record.cost % (steps * heads):
            text = f"{key}: cost {record.cost}, expected a multiple of {steps} steps of a stage x {heads} heads"
            yield Finding("impossible-value", text)
        for fault in metric_faults(record, expected_metrics(published.evaluations[unit], record, own.predictions[key])):
            yield Finding("edited-score", f"{key}: {fault}")


def _training(record: Record, suite: Suite, published: Contents) -> Iterator[Finding]:
    """The student's recipe is the suite's, and all else of its training that of other methods on the same seed."""
    student, recipe = record.hyperparameters.get("student"), suite.student.of(record.task).chosen()
    names = {field.name for field in fields(Recipe)}
    as_suite = isinstance(student, dict) and recipe == {k: v for k, v in student.items() if k in names}
    if record.hyperparameters.keys() != {"method", "student"} or not as_suite:
        yield Finding("other-setting", f"{record.key}: {record.hyperparameters}, in the suite the student is {recipe}")
        return
    cell = (record.task, record.condition, record.seed)
    same = [other for key, other in published.records.items() if (key.task, key.condition, key.seed) == cell]
    others = [(other.n_train, other.hyperparameters.get("student")) for other in same]
    if others and (record.n_train, student) not in others:
        n_train, expected = others[0]
        text = f"{record.key}: {student} on {record.n_train} examples, published are {expected} on {n_train}"
        yield Finding("other-setting", text)


def _weights(record: Record) -> Iterator[Finding]:
    """Learned weights are published beside the supervisors' scores; that they are finite, the record's schema says."""
    weights = record.diagnostics.get("weights", [1.0])
    numbers = [w for w in weights if isinstance(w, float) and w >= 0] if isinstance(weights, list) else []
    if numbers != weights or abs(sum(numbers) - 1) > _WEIGHTS_TOLERANCE:
        text = f"{record.key}: diagnostics.weights: found {weights!s:.100}, expected numbers from 0 that sum to 1"
        yield Finding("impossible-value", text)


def _complete(submission: Submission, suite: Suite, grid: _Grid) -> Iterator[Finding]:
    """What is missing, there twice, or without a record."""
    records, predictions = submission.contents.records, submission.contents.predictions
    for task, condition in sorted(grid):
        found = [key.seed for key in records if (key.task, key.condition) == (task, condition)]
        if doubled := [seed for seed in range(suite.seeds) if found.count(seed) > 1]:
            text = f"{task} ({condition}): several settings of seeds {', '.join(map(str, doubled))}"
            yield Finding("doubled-record", text)
        lost = [seed for seed in range(suite.seeds) if seed not in found]
        if lost and submission.whole:
            yield Finding("missing-record", f"{task} ({condition}): no record of seeds {', '.join(map(str, lost))}")
    for key in sorted(predictions.keys() - records.keys()) if submission.whole else ():
        yield Finding("foreign-record", f"{PREDICTIONS}: predictions of {key} belong to no record")


def _copied(submission: Submission, others: Mapping[RecordKey, Record]) -> Iterator[Finding]:
    """Of which other methods it has all predictions."""
    hashes: dict[str, set[tuple[str, str, int, str]]] = defaultdict(set)
    for key, record in (*others.items(), *submission.contents.records.items()):
        hashes[key.method].add((key.task, key.condition, key.seed, record.predictions_sha256))
    mine = hashes.pop(submission.name, set())
    for method, theirs in sorted(hashes.items()):
        if mine and mine <= theirs:
            yield Finding("copied-predictions", f"every prediction is that of '{method}'", warning=True)


def _rebuild(published: Contents, grid: _Grid, suite: Suite, cache: Cache, say: Say) -> Iterator[Finding]:
    """The published truth and supervisors against problems that are made from the data now."""
    for name, condition in sorted(grid & published.evaluations.keys()):
        task, evaluation = TASKS[name].configured(suite.options), published.evaluations[name, condition]
        for seed in sorted(evaluation.seeds.keys() & {*range(suite.seeds)}):
            say(where := f"rebuilding {name} ({condition}), seed {seed}")
            found = evaluate(task, [build_problem(task, condition, seed, cache)])
            known, made = evaluation.seeds[seed], found.seeds[seed]
            if known.sha256 == made.sha256:
                continue
            alike = replace(known, supervisors=made.supervisors, ensemble=made.ensemble).sha256 == made.sha256
            alike &= known.supervisors.shape == made.supervisors.shape
            if not alike or evaluation.data_fingerprint != found.data_fingerprint:
                yield Finding("wrong-truth", f"{where}: the published labels or groups are not those of the data")
            else:
                share = float((known.supervisors != made.supervisors).mean())
                text = f"{where}: {share:.2%} of the supervisors' published predictions differ from those made here"
                yield Finding("wrong-truth", text, warning=share <= DIFFERING)
