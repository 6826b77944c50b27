"""Reading a submission that may hold anything: nothing is imported or followed, and each fault is a finding."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from benchmark.base.errors import W2SError
from benchmark.core.records import Record, RecordKey, compact
from benchmark.judging.judgements import JUDGEMENTS
from benchmark.results.contents import reason
from benchmark.results.layout import MANIFEST, PREDICTIONS, README, RECORDS, SOURCE
from benchmark.results.replies import REPLIES
from benchmark.results.store import method_files
from benchmark.submissions.about import About, read_about
from benchmark.submissions.findings import Finding
from benchmark.submissions.manifest import Manifest

_MIB = 2**20
LIMITS = {  # in bytes; the default suite's are a hundredth of it
    RECORDS: 32 * _MIB,
    PREDICTIONS: 64 * _MIB,
    MANIFEST: 4 * _MIB,
    SOURCE: _MIB,
    README: _MIB // 4,
    REPLIES: 64 * _MIB,
    JUDGEMENTS: 64 * _MIB,
}
_UNCHECKED = (REPLIES, JUDGEMENTS)  # no manifest has their hashes and nothing scores them again
_IMPOSSIBLE = {"finite_number", "less_than_equal", "greater_than_equal"}


@dataclass
class Submission:
    """What a folder holds, as far as it could be read.

    Attributes:
        files: content of the files that are part of a submission.
        records, predictions: by key, with the folder's name for the method; predictions of any type and shape.
        unread: whether lines or tensors could not be read, so that what seems to be missing may be among them.
    """

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: Manifest | None = None
    records: dict[RecordKey, Record] = field(default_factory=dict)
    predictions: dict[RecordKey, NDArray[Any]] = field(default_factory=dict)
    unread: bool = False


def read_submission(folder: Path) -> tuple[Submission, list[Finding]]:
    """The contents of a folder, and what is wrong with their form.

    Raises:
        W2SError: no folder, or neither records nor a manifest in it.
    """
    if not folder.is_dir() or not any((folder / name).exists() for name in (RECORDS, MANIFEST)):
        raise W2SError(
            f"{folder}: no submission: expected a folder with {RECORDS} and {MANIFEST} (w2s submit makes one)"
        )
    submission = Submission(folder.resolve().name)
    findings = list(_read_files(folder, submission.files))
    findings += _read_manifest(submission)
    findings += _read_records(submission)
    findings += _read_predictions(submission)
    if not submission.unread:
        findings += _canonical(submission)
    return submission, findings


def read_introduction(folder: Path) -> tuple[Manifest, About] | None:
    """What a submission says of itself; None for a folder without a manifest that can be read."""
    files: dict[str, bytes] = {}
    for name in (MANIFEST, README):
        _read_file(folder / name, LIMITS, files)
    try:
        manifest = Manifest.model_validate_json(files.get(MANIFEST, b""))
    except ValidationError:
        return None
    return manifest, read_about(files.get(README, b"").decode(errors="replace"))


def _canonical(submission: Submission) -> Iterator[Finding]:
    """Files that differ from what w2s writes for their content: nothing may hide in them."""
    lines = {key: record.to_line() for key, record in submission.records.items()}
    predictions = {key: compact(array) for key, array in submission.predictions.items() if is_class_ids(array)}
    expected = method_files(lines, predictions)
    if predictions.keys() != submission.records.keys():  # findings of their own
        del expected[PREDICTIONS]
    if submission.manifest:
        expected[MANIFEST] = submission.manifest.to_text().encode()
    for name, content in expected.items():
        if submission.files.get(name, content) != content:
            yield Finding("not-canonical", f"{name}: not as w2s writes it: order, spaces, types or extra content")


def is_class_ids(array: NDArray[Any]) -> bool:
    """Whether an array holds nothing but integers from 0."""
    return array.dtype.kind in "iu" and (not array.size or bool(array.min() >= 0))


def _read_files(folder: Path, files: dict[str, bytes]) -> Iterator[Finding]:
    if folder.is_symlink():
        yield Finding("symlink", f"{folder.name}: is a link")
    expected = [name for name in LIMITS if name not in _UNCHECKED or not (folder / MANIFEST).exists()]
    for path in sorted(folder.iterdir()):
        if fault := _read_file(path, expected, files):
            yield fault


def _read_file(path: Path, expected: Collection[str], files: dict[str, bytes]) -> Finding | None:
    """Add a file's content, unless there is something wrong with the file."""
    if path.is_symlink():
        return Finding("symlink", f"{path.name}: is a link; a submission holds files only")
    if path.name not in expected or not path.is_file():
        return Finding("foreign-file", f"{path.name}: no part of a submission; expected {', '.join(expected)}")
    if (size := path.stat().st_size) > LIMITS[path.name]:
        return Finding("too-large", f"{path.name}: {size} bytes, at most {LIMITS[path.name]} are read")
    files[path.name] = path.read_bytes()
    return None


def _read_manifest(submission: Submission) -> Iterator[Finding]:
    if MANIFEST in submission.files:
        try:
            submission.manifest = Manifest.model_validate_json(submission.files[MANIFEST])
        except ValidationError as error:
            submission.unread = True
            yield Finding("broken-manifest", f"{MANIFEST}: {reason(error)}")


def _read_records(submission: Submission) -> Iterator[Finding]:
    submission.unread |= RECORDS not in submission.files
    lines = submission.files.get(RECORDS, b"").split(b"\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        where = f"{RECORDS}:{number}"
        try:
            record = Record.model_validate_json(line)
        except ValidationError as error:
            submission.unread = True
            types = {found["type"] for found in error.errors()}
            if "json_invalid" in types:
                kind = "broken-record"
            elif types & _IMPOSSIBLE:
                kind = "impossible-value"
            else:
                kind = "setting-hash" if types == {"setting"} else "schema"
            yield Finding(kind, f"{where}: {reason(error)}")
            continue
        key = record.key._replace(method=submission.name)
        if key in submission.records:
            submission.unread = True
            yield Finding("doubled-record", f"{where}: repeats the record of {record.key}")
        submission.records.setdefault(key, record)


def _read_predictions(submission: Submission) -> Iterator[Finding]:
    if PREDICTIONS not in submission.files:
        submission.unread = True
        return
    try:
        tensors = load(submission.files[PREDICTIONS])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        submission.unread = True
        yield Finding("broken-predictions", f"{PREDICTIONS}: {reason(error)}")
        return
    for name, tensor in sorted(tensors.items()):
        try:
            task, condition, setting, seed = name.split("/")
            key = RecordKey(task, condition, submission.name, setting, int(seed))
        except ValueError:
            submission.unread = True
            yield Finding("missing-record", f"{PREDICTIONS}: tensor '{name}' belongs to no record")
            continue
        submission.predictions[key] = tensor
