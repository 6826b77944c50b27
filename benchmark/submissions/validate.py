"""`w2s validate`: everything that can be said of a submission without running its method.

It re-scores, recomputes every hash, and compares with the suite and with what is published. It can't show that the
predictions came from the source: whoever writes predictions can write hashes that fit. `w2s verify` runs a cell again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

from benchmark.base.errors import W2SError
from benchmark.base.paths import cache_root
from benchmark.core.names import CANARIES, REFERENCES, RESERVED
from benchmark.core.problems import build_problem
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Suite, load_suite, suite_of_folder
from benchmark.results.contents import Contents
from benchmark.results.layout import MANIFEST, PREDICTIONS, SOURCE
from benchmark.results.store import ResultStore
from benchmark.running.unit import evaluate
from benchmark.store.cache import Cache
from benchmark.submissions.findings import Finding, report
from benchmark.submissions.manifest import Grid, Manifest, grid_of, manifest_of
from benchmark.submissions.reading import Submission, read_submission
from benchmark.submissions.scores import check_records
from benchmark.submissions.verify import tolerated

Say = Callable[[str], None]


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
    root, grid = results or Path("results") / suite.folder, grid_of(suite)
    published = ResultStore(root).load()
    if not published.evaluations:
        raise W2SError(f"{root}: no published truth to score against; name a folder of results with --results")
    others = {key: record for key, record in published.records.items() if key.method != submission.name}
    findings += _names(submission, published, root)
    findings += _manifest(submission, suite)
    findings += check_records(submission, suite, grid, Contents(others, published.evaluations))
    findings += _complete(submission, grid)
    findings += _copied(submission, Contents(others))
    if rebuild:
        findings += _rebuild(published, grid, suite, Cache((cache or cache_root()).absolute()), say)
    what = f"{submission.name}, {len(submission.contents.records)} records, suite {suite.folder}"
    for line in report(what, findings):
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
    if not manifest.title.isprintable() or not manifest.title.strip():
        yield Finding("bad-title", f"the title {manifest.title!r}: expected characters that can be seen")
    titles = {key.method: record.title for key, record in published.records.items()}
    titles |= {method.name: method.title for method in METHODS} | CANARIES | REFERENCES
    taken = {_seen(title): method for method, title in titles.items() if method != name}
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
        expected = manifest_of(suite.folder, manifest.citation, records, files)
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


def _complete(submission: Submission, grid: Grid) -> Iterator[Finding]:
    """What is missing, there twice, or without a record."""
    records, predictions = submission.contents.records, submission.contents.predictions
    seeds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for key in sorted(records):
        seeds[key.task, key.condition].append(key.seed)
    for (task, condition), expected in sorted(grid.items()):
        found = seeds[task, condition]
        if doubled := [seed for seed in expected if found.count(seed) > 1]:
            text = f"{task} ({condition}): several settings of seeds {', '.join(map(str, doubled))}"
            yield Finding("doubled-record", text)
        lost = [seed for seed in expected if seed not in found]
        if lost and submission.whole:
            yield Finding("missing-record", f"{task} ({condition}): no record of seeds {', '.join(map(str, lost))}")
    for key in sorted(predictions.keys() - records.keys()) if submission.whole else ():
        yield Finding("foreign-record", f"{PREDICTIONS}: predictions of {key} belong to no record")


def _copied(submission: Submission, others: Contents) -> Iterator[Finding]:
    """Of which other methods it has all predictions."""
    hashes: dict[str, set[tuple[str, str, int, str]]] = defaultdict(set)
    for contents in (submission.contents, others):
        for key, record in contents.records.items():
            hashes[key.method].add((key.task, key.condition, key.seed, record.predictions_sha256))
    mine = hashes.pop(submission.name, set())
    for method, theirs in sorted(hashes.items()):
        if mine and mine <= theirs:
            yield Finding("copied-predictions", f"every prediction is that of '{method}'", warning=True)


def _rebuild(published: Contents, grid: Grid, suite: Suite, cache: Cache, say: Say) -> Iterator[Finding]:
    """The published truth and supervisors against problems that are made from the data now."""
    for name, condition in sorted(grid.keys() & published.evaluations.keys()):
        task, evaluation = TASKS[name].configured(suite.options), published.evaluations[name, condition]
        for seed in sorted(evaluation.seeds.keys() & {*grid[name, condition]}):
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
                yield Finding("wrong-truth", text, warning=tolerated(share))
