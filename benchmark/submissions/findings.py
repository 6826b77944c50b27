"""What `w2s validate` can find: each kind has a name, by which it is printed and tested."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = {
    # the folder
    "missing-file": "a file that every submission has is not there",
    "foreign-file": "a link, a folder, a file that no submission has or one larger than any real one; it is not read",
    "not-canonical": "a file is not, byte for byte, what w2s writes for the same content",
    "no-manifest": "a method that ships with the project needs no manifest; what it would show was not checked",
    "manifest-mismatch": "the manifest can't be read or is not that of the other files: one of them was edited",
    "taken-name": "name or title of another method, a canary or a reference row",
    "bad-text": "a title, or what it was developed on, with characters that can't be seen, or with nothing else",
    "readme": "the README is not filled in, or its link is no web address",
    # lines and tensors
    "unreadable": "a line or tensor is cut, doubled, another method's, or has values that no record or class id has",
    "missing-record": "a task, condition or seed of the suite without a record",
    "doubled-record": "more than one record of a task, condition and seed, in several settings",
    "foreign-record": "a record of what the suite doesn't have, or predictions without a record",
    # what they say
    "other-version": "made by another version of the engine, the task or the method than the present one",
    "other-setting": "options that are not the method's, or a student trained otherwise than the suite says",
    "misfit": "a record does not fit the published data, truth and supervisors (or none are), or its own predictions",
    "impossible-value": "weights that don't share out 1, or a cost that is no number of optimizer steps times heads",
    "edited-score": "a metric is not what the predictions give",
    "copied-predictions": "all predictions are those of another published method",
    "wrong-truth": "the published truth or supervisors are not what the data give (--rebuild)",
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


def report(what: str, findings: Sequence[Finding]) -> list[str]:
    """A line for each finding (of a kind with many, the first ones and how many more), and the conclusion on `what`."""
    lines = []
    for kind in dict.fromkeys(finding.kind for finding in findings):
        found = [str(finding) for finding in findings if finding.kind == kind]
        more = [f"[{kind}] and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        lines += [*found[:_SHOWN], *more]
    errors = Counter(finding.kind for finding in findings if not finding.warning)
    counts = ": " + ", ".join(f"{count} {kind}" for kind, count in errors.items()) if errors else ""
    warnings = f"; {len(findings) - errors.total()} warnings" if len(findings) > errors.total() else ""
    return [*lines, f"{'not valid' if errors else 'valid'}: {what}{counts}{warnings}"]
