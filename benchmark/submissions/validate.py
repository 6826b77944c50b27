"""`w2s validate`: everything that can be said of a submission without running its method.

It re-scores, recomputes every hash, and compares with the suite and with what is published. It can't show that the
predictions came from the source: whoever writes predictions can write hashes that fit. `w2s verify` runs a cell again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from unicodedata import normalize

import numpy as np

from benchmark.base.errors import W2SError
from benchmark.base.paths import cache_root
from benchmark.core.names import CANARIES, REFERENCES, RESERVED
from benchmark.core.problems import build_problem
from benchmark.core.records import Evaluation
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Suite, load_suite, suite_of_folder
from benchmark.results.contents import Contents
from benchmark.results.layout import MANIFEST, PREDICTIONS, README, RECORDS, SOURCE
from benchmark.results.store import ResultStore
from benchmark.running.unit import evaluate
from benchmark.store.cache import Cache
from benchmark.submissions.about import read_about
from benchmark.submissions.findings import Finding, conclusion, verdicts
from benchmark.submissions.manifest import HASHED, Grid, grid_of, manifest_of
from benchmark.submissions.reading import Submission, read_submission
from benchmark.submissions.scores import Published, check_record
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
    root = results or Path("results") / suite.folder
    contents = ResultStore(root).load()
    if not contents.evaluations:
        raise W2SError(f"{root}: no published truth to score against; name a folder of results with --results")
    findings += check(submission, suite, contents, _same_source(submission, root / submission.name))
    if rebuild:
        findings += _rebuild(contents, grid_of(suite), suite, Cache((cache or cache_root()).absolute()), say)
    for line in verdicts(findings):
        say(line)
    what = f"{submission.name}, {len(submission.records)} records, suite {suite.folder}"
    say(conclusion(what, findings))
    return 1 if any(not finding.warning for finding in findings) else 0


def _same_source(submission: Submission, published: Path) -> bool:
    """Whether what is published under this name is the same method."""
    source = published / SOURCE
    return source.is_file() and source.read_bytes() == submission.files.get(SOURCE)


def check(submission: Submission, suite: Suite, contents: Contents, same_source: bool) -> list[Finding]:
    """All findings that need no data.

    Args:
        contents: what is published.
        same_source: whether a published method of this name has the same source.
    """
    grid = grid_of(suite)
    findings = [*_files(submission), *_names(submission, contents, same_source), *_manifest(submission, suite)]
    others = Contents(
        records={key: record for key, record in contents.records.items() if key.method != submission.name},
        evaluations=contents.evaluations,
    )
    published = Published(suite, others)
    for key, record in sorted(submission.records.items()):
        if (record.task, record.condition) not in grid:
            text = f"{record.key}: suite {suite.folder} has no {record.task} ({record.condition})"
            findings.append(Finding("foreign-task", text))
        elif record.seed not in grid[record.task, record.condition]:
            findings.append(Finding("foreign-seed", f"{record.key}: the suite has {suite.seeds} seeds, from 0"))
        else:
            findings += check_record(key, record, submission, published)
    findings += _complete(submission, grid, contents)
    findings += _copied(submission, others)
    return findings


def _files(submission: Submission) -> Iterator[Finding]:
    shipped = submission.name in METHODS
    if MANIFEST not in submission.files and shipped:
        yield Finding(
            "no-manifest", "a method of the project: hashes of files and source were not checked", warning=True
        )
    for name in (RECORDS, PREDICTIONS) if shipped and MANIFEST not in submission.files else (*HASHED, MANIFEST, README):
        if name not in submission.files:
            yield Finding("missing-file", f"{name}: is not there")
    if README in submission.files:
        about = read_about(submission.files[README].decode(errors="replace"))
        if about.lacking:
            yield Finding("placeholder", f"{README}: fill in {', '.join(about.lacking)}", warning=True)
        if about.bad_link:
            yield Finding("bad-link", f"{README}: link '{about.link}', expected an http(s) address or 'none'")


def _names(submission: Submission, contents: Contents, same_source: bool) -> Iterator[Finding]:
    manifest, name = submission.manifest, submission.name
    names = {record.method for record in submission.records.values()} | ({manifest.method} if manifest else set())
    for other in sorted(names - {name}):
        yield Finding("other-method", f"method '{other}' in the folder of '{name}'")
    if manifest is None:
        return
    versions = {record.method_version for key, record in contents.records.items() if key.method == name}
    if name in RESERVED:
        yield Finding("reserved-name", f"'{name}' is a canary or reference row")
    elif name in METHODS.names():
        yield Finding("taken-name", f"'{name}' is a method of the project")
    elif not same_source and versions and manifest.method_version <= max(versions):
        text = f"'{name}' is published with version {max(versions)}; raise yours to replace it, or choose another name"
        yield Finding("taken-name", text)
    if not manifest.title.isprintable() or not manifest.title.strip():
        yield Finding("bad-title", f"the title {manifest.title!r}: expected characters that can be seen")
    titles = {key.method: record.title for key, record in contents.records.items()}
    titles |= {method: METHODS[method].title for method in METHODS.names()} | CANARIES | REFERENCES
    taken = {_seen(title): method for method, title in titles.items() if method != name}
    if owner := taken.get(_seen(manifest.title)):
        yield Finding("taken-name", f"the title '{manifest.title}' is that of '{owner}'")


def _seen(title: str) -> str:
    """A title less all that a reader can't tell apart: case, compatibility forms, spaces, what isn't printed."""
    shown = "".join(letter for letter in title if letter.isprintable() or letter.isspace())
    return " ".join(normalize("NFKC", normalize("NFKC", shown).casefold()).split())


def _manifest(submission: Submission, suite: Suite) -> Iterator[Finding]:
    """The manifest against what the other files give."""
    manifest = submission.manifest
    if manifest is None or not submission.records:
        return
    if manifest.suite != suite.folder:
        yield Finding("manifest-mismatch", f"{MANIFEST}: suite '{manifest.suite}', expected '{suite.folder}'")
    records = [record for _, record in sorted(submission.records.items())]
    try:
        expected = manifest_of(manifest.suite, manifest.citation, records, submission.files)
    except (KeyError, ValueError) as error:  # no options, or a canary's kind
        yield Finding("manifest-mismatch", f"{MANIFEST}: the records allow none: {error}")
        return
    for name in HASHED:
        if name in submission.files and manifest.files.get(name) != expected.files[name]:
            kind = "edited-source" if name == SOURCE else "edited-file"
            yield Finding(kind, f"{name}: is not the file that {MANIFEST} was written for")
    shared = ("method", "title", "kind", "ablation_of", "method_version", "engine_version")
    for field in shared:
        stated = getattr(manifest, field)
        if odd := [record for record in records if getattr(record, field) != stated]:
            text = f"{MANIFEST}: {field} is {stated!r}, but {getattr(odd[0], field)!r} in the record of {odd[0].key}"
            yield Finding("manifest-mismatch", text)
    if not submission.unread:
        for field in ("cells", "environments"):
            if getattr(manifest, field) != getattr(expected, field):
                yield Finding("manifest-mismatch", f"{MANIFEST}: {field} are not those of the records")


def _complete(submission: Submission, grid: Grid, contents: Contents) -> Iterator[Finding]:
    """What is missing, doubled by another setting, or can't be scored."""
    units: dict[tuple[str, str], dict[int, set[str]]] = {}
    for key in submission.records:
        units.setdefault((key.task, key.condition), {}).setdefault(key.seed, set()).add(key.setting)
    for (task, condition), by_seed in sorted(units.items()):
        if several := sorted(seed for seed, settings in by_seed.items() if len(settings) > 1):
            text = f"{task} ({condition}): several settings of seeds {', '.join(map(str, several))}"
            yield Finding("several-settings", text)
    for key in sorted(submission.predictions.keys() - submission.records.keys()):
        if not submission.unread:
            yield Finding("missing-record", f"{PREDICTIONS}: predictions of {key} belong to no record")
    for (task, condition), seeds in sorted(grid.items()):
        evaluation = contents.evaluations.get((task, condition))
        if evaluation is None or not set(seeds) <= evaluation.seeds.keys():
            yield Finding("unpublished", f"{task} ({condition}): its truth is not published, or not of every seed")
    if submission.unread:
        return
    has = {task for task, _ in units}
    for task in dict.fromkeys(task for task, _ in grid):
        if task not in has:
            yield Finding("missing-task", f"{task}: no record")
    for (task, condition), seeds in sorted(grid.items()):
        if task in has and (task, condition) not in units:
            yield Finding("missing-condition", f"{task} ({condition}): no record")
        elif task in has and (lost := sorted(set(seeds) - units[task, condition].keys())):
            yield Finding("missing-seed", f"{task} ({condition}): no record of seeds {', '.join(map(str, lost))}")


def _copied(submission: Submission, others: Contents) -> Iterator[Finding]:
    mine = {
        (key.task, key.condition, key.seed): record.predictions_sha256 for key, record in submission.records.items()
    }
    theirs: dict[str, dict[tuple[str, str, int], str]] = {}
    for key, record in others.records.items():
        theirs.setdefault(key.method, {})[key.task, key.condition, key.seed] = record.predictions_sha256
    for method, hashes in sorted(theirs.items()):
        if mine and mine.items() <= hashes.items():
            yield Finding("copied-predictions", f"every prediction is that of '{method}'", warning=True)


def _rebuild(contents: Contents, grid: Grid, suite: Suite, cache: Cache, say: Say) -> Iterator[Finding]:
    """The published truth and supervisors against problems that are made from the data now."""
    for (name, condition), seeds in grid.items():
        task, published = TASKS[name].configured(suite.options), contents.evaluations.get((name, condition))
        for seed in seeds if published else ():
            say(f"rebuilding {name} ({condition}), seed {seed}")
            found = evaluate(task, [build_problem(task, condition, seed, cache)])
            yield from _compare(published, found, seed)  # type: ignore[arg-type]


def _compare(published: Evaluation, found: Evaluation, seed: int) -> Iterator[Finding]:
    where, known, made = f"{found.task} ({found.condition}), seed {seed}", published.seeds.get(seed), found.seeds[seed]
    if known is None or known.sha256 == made.sha256:
        return
    same_truth = np.array_equal(known.labels, made.labels) and np.array_equal(known.groups, made.groups)
    if not same_truth or known.majority != made.majority or published.data_fingerprint != found.data_fingerprint:
        yield Finding("foreign-truth", f"{where}: the published labels or groups are not those of the data")
        return
    if known.supervisors.shape != made.supervisors.shape:
        yield Finding("foreign-supervisors", f"{where}: another number of supervisors than published")
        return
    share = float((known.supervisors != made.supervisors).mean())
    text = f"{where}: {share:.2%} of the supervisors' published predictions differ from those made here"
    yield Finding("foreign-supervisors", text, warning=tolerated(share))
