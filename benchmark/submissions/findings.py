"""What `w2s validate` can find: each kind has a name, by which it is printed and tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KINDS = {
    # the folder
    "missing-file": "a file that every submission has is not there",
    "foreign-file": "a file or folder that is no part of a submission",
    "symlink": "a link; it is not followed",
    "too-large": "a file that is larger than any real one; it is not read",
    "not-canonical": "a file is not, byte for byte, what w2s writes for the same content",
    # the manifest and the source
    "no-manifest": "a method that ships with the project needs no manifest; what it would show was not checked",
    "broken-manifest": "the manifest can't be read",
    "edited-file": "records or predictions are not those that the manifest was written for",
    "edited-source": "the method's source is not the one that the manifest was written for",
    "manifest-mismatch": "the manifest says something else than the records",
    "reserved-name": "the name of a canary or reference row",
    "taken-name": "name or title of another method",
    "bad-title": "a title with characters that can't be seen, or with nothing else",
    "other-method": "records of another method than the folder and the manifest name",
    "placeholder": "the README is not filled in",
    "bad-link": "the README's link is no web address",
    # lines and tensors
    "broken-record": "a line is no JSON, as when it was cut",
    "impossible-value": "NaN, infinity, or a value out of its range",
    "setting-hash": "the setting is not the hash of the hyperparameters",
    "schema": "a field is missing, unknown or of another type",
    "doubled-record": "two lines for one task, condition, setting and seed",
    "broken-predictions": "the file of predictions can't be read, as when it was cut",
    "missing-predictions": "a record without predictions",
    "missing-record": "predictions without a record",
    "wrong-type": "predictions that are no class ids",
    "wrong-replicas": "predictions of another number of replicas than supervisors (`single`) or one (`ensemble`)",
    "wrong-size": "another number of test or train examples than published",
    "wrong-class": "a class id that the task doesn't have",
    # what they say
    "missing-task": "nothing on a task of the suite",
    "missing-condition": "nothing on a condition of a task",
    "missing-seed": "a seed is missing",
    "foreign-task": "a task or condition that the suite doesn't have",
    "unpublished": "the suite has a task, condition or seed of which no truth is published to score against",
    "foreign-seed": "a seed that the suite doesn't have",
    "foreign-data": "made from other data than the published truth",
    "foreign-supervisors": "scored against another truth or other supervisors than the published ones",
    "foreign-truth": "the published truth is not what the data give",
    "swapped-seeds": "truth or predictions belong to another seed or task of the same submission",
    "stale-version": "made by a lower version of the engine, task or method than the present one",
    "newer-version": "made by a higher version than the one that validates",
    "unknown-setting": "options that are not the method's",
    "foreign-student": "the student was trained otherwise than the suite says",
    "several-settings": "more than one setting on a task, condition and seed",
    "edited-prediction": "predictions are not those that the record was written with",
    "edited-score": "a metric is not what the predictions give",
    "wrong-cost": "the cost is no number of optimizer steps times heads",
    "copied-predictions": "all predictions are those of another published method",
}
_SHOWN = 10  # of each kind


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or (a warning) to be looked at."""

    kind: str
    text: str
    warning: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of finding '{self.kind}'")

    def __str__(self) -> str:
        # what a submission holds is anybody's text: one line, nothing that a terminal would obey
        text = "".join(letter if letter.isprintable() else "�" for letter in " ".join(self.text.split()))
        return f"[{self.kind}] {'warning: ' if self.warning else ''}{text}"


def verdicts(findings: Iterable[Finding]) -> list[str]:
    """A line for each finding; of a kind with many, the first ones and how many more."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind, found in by_kind.items():
        lines += [str(finding) for finding in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"[{kind}] and {len(found) - _SHOWN} more")
    return lines


def conclusion(what: str, findings: Sequence[Finding]) -> str:
    """The last line."""
    warnings = sum(finding.warning for finding in findings)
    counts = Counter(finding.kind for finding in findings if not finding.warning)
    tail = f"; {warnings} warnings" if warnings else ""
    if not counts:
        return f"valid: {what}{tail}"
    return f"not valid: {what}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}{tail}"
