"""Reading a submission that may hold anything: nothing is imported or followed, and each fault is a finding."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from benchmark.base.errors import W2SError
from benchmark.core.registry import METHODS
from benchmark.judging.judgements import JUDGEMENTS
from benchmark.results.contents import Contents, read_predictions, read_records
from benchmark.results.layout import MANIFEST, PREDICTIONS, README, RECORDS, SOURCE
from benchmark.results.lines import reason
from benchmark.results.manifest import HASHED, LIMIT, Manifest, read_manifest
from benchmark.results.replies import REPLIES
from benchmark.results.store import method_files
from benchmark.submissions.about import PLACEHOLDERS, is_link, read_about
from benchmark.submissions.findings import Finding

# bytes, 100 x the usual
LIMITS = {RECORDS: 2**25, PREDICTIONS: 2**26, MANIFEST: LIMIT, SOURCE: 2**20, README: 2**18}
_UNCHECKED = {REPLIES: 2**26, JUDGEMENTS: 2**26}  # no manifest has their hashes and nothing scores them again


@dataclass
class Submission:
    """What a folder holds, as far as it could be read.

    Attributes:
        files: content of the files that are part of a submission.
        contents: records and predictions, all of the method that the folder is named after.
        whole: whether all of these could be read; else what seems to be missing may be there.
    """

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: Manifest | None = None
    contents: Contents = field(default_factory=Contents)
    whole: bool = True


def read_submission(folder: Path) -> tuple[Submission, list[Finding]]:
    """The contents of a folder, and what is wrong with their form.

    Raises:
        W2SError: no folder, or neither records nor a manifest in it.
    """
    if not folder.is_dir() or not any((folder / name).exists() for name in (RECORDS, MANIFEST)):
        raise W2SError(
            f"{folder}: no submission: expected a folder with {RECORDS} and {MANIFEST} (w2s submit makes one)"
        )
    linked, folder = folder.is_symlink(), folder.resolve()
    submission = Submission(folder.name)
    findings = [Finding("foreign-file", f"{folder.name}: is a link")] if linked else []
    findings += _read_files(folder, submission)
    if MANIFEST in submission.files:
        try:
            submission.manifest = Manifest.model_validate_json(submission.files[MANIFEST])
        except ValidationError as error:
            findings.append(Finding("manifest-mismatch", f"{MANIFEST}: {reason(error)}"))
    for name, read in ((RECORDS, read_records), (PREDICTIONS, read_predictions)):
        if name in submission.files:
            read(folder, submission.contents)
    findings += [Finding("unreadable", problem) for problem in submission.contents.problems]
    submission.whole = not submission.contents.problems and {RECORDS, PREDICTIONS} <= submission.files.keys()
    if submission.whole:
        findings += _canonical(submission)
    return submission, findings


def read_introduction(folder: Path) -> tuple[Manifest, dict[str, str]] | None:
    """Manifest and README (`read_about`) of a submission; None for a folder without a manifest that can be read."""
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    readme = b"" if _fault(folder / README, LIMITS) else (folder / README).read_bytes()
    return manifest, read_about(readme.decode(errors="replace"))


def _read_files(folder: Path, submission: Submission) -> Iterator[Finding]:
    limits = LIMITS if (folder / MANIFEST).exists() else LIMITS | _UNCHECKED
    for path in sorted(folder.iterdir()):
        if fault := _fault(path, limits):
            yield Finding("foreign-file", f"{path.name}: {fault}")
        else:
            submission.files[path.name] = path.read_bytes()
    shipped = MANIFEST not in submission.files and submission.name in METHODS
    if shipped:  # by the project, without a manifest
        yield Finding(
            "no-manifest", "a method of the project: hashes of files and source were not checked", warning=True
        )
    for name in (RECORDS, PREDICTIONS) if shipped else (*HASHED, MANIFEST, README):
        if name not in submission.files:
            yield Finding("missing-file", f"{name}: is not there")
    if README in submission.files:
        about = read_about(submission.files[README].decode(errors="replace"))
        if lacking := [name for name in PLACEHOLDERS if name not in about]:
            yield Finding("readme", f"{README}: fill in {', '.join(lacking)}", warning=True)
        if not is_link(link := about.get("link", "none")):
            yield Finding("readme", f"{README}: link '{link}', expected an http(s) address or 'none'")


def _fault(path: Path, limits: Mapping[str, int]) -> str | None:
    """Why a file is not read; None if it is."""
    if path.name not in limits or path.is_symlink() or not path.is_file():
        return f"a link, a folder or no part of a submission; expected files: {', '.join(limits)}"
    if (size := path.stat().st_size) > limits[path.name]:
        return f"{size} bytes, at most {limits[path.name]} are read"
    return None


def _canonical(submission: Submission) -> Iterator[Finding]:
    """Files that differ from what w2s writes for their content: nothing may hide in them."""
    contents, files = submission.contents, submission.files
    expected = method_files(contents.records.values(), contents.predictions)
    if contents.predictions.keys() != contents.records.keys():  # findings of their own
        del expected[PREDICTIONS]
    if submission.manifest:
        expected[MANIFEST] = submission.manifest.to_text().encode()
    for name, content in expected.items():
        if files.get(name, content) != content:
            yield Finding("not-canonical", f"{name}: not as w2s writes it: order, spaces, types or extra content")
