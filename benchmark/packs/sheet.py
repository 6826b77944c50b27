"""A pack's data sheet, `pack.json`: what the pack holds, where it comes from, and the hash of each file.

    pack.json                               the sheet
    README.md                               a data-set card
    <condition>/features.safetensors        encoder output -> (n, D): each example that any seed's pool uses, once
    <condition>/supervision-<seed>.safetensors   "examples/<split>" (n,) or, for pairs, (n, 2): rows of the features;
                                            "soft_labels/<split>" (n, M, K); "source_scores" (M,), if there are any
    <condition>/truth-<seed>.safetensors    "labels/<split>" (n,), -1 unknown; "groups/<split>" (n,)

The hashes find accidents and edits. They are no signature: who writes a whole new pack can write its hashes too, so a
pack from a stranger is as trustworthy as the stranger; its sheet's own hash, told apart from it, pins it.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from benchmark.base.errors import W2SError
from benchmark.base.files import sha256_file
from benchmark.core.pools import VERSION
from benchmark.core.records import Condition, Count, Sha256, Strict, TaskName, Version
from benchmark.core.task import TaskCard
from benchmark.results.lines import reason

FORMAT = 2  # raise when files or fields change
SHEET, CARD = "pack.json", "README.md"


class SupervisorEntry(Strict):
    """One supervisor of one seed: its name in results, and its recipe (`problem.supervisor_recipe`)."""

    name: str
    recipe: dict[str, Any]


class FileEntry(Strict):
    """Size and content of a file."""

    bytes: Count
    sha256: Sha256


class Sheet(Strict):
    """The data sheet, less its own hash.

    Attributes:
        format, protocol: versions of the pack's layout and of the way in which pools are dealt.
        data_fingerprint: the task's own, so that records fit those of the full pipeline.
        outputs: of the encoder, the student's own last.
        supervisors: of each of `seeds`.
        may_share: whether the card names no reason against handing the pack on.
        device, libraries, commit: that the pack was made with.
        files: path in the pack -> entry; all files but the sheet.
    """

    format: int
    protocol: int
    task: TaskName
    task_version: Version
    card: TaskCard
    data_fingerprint: str
    encoder: str
    encoder_fingerprint: str
    outputs: Annotated[tuple[str, ...], Field(min_length=1)]
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)]
    supervisors: tuple[Annotated[tuple[SupervisorEntry, ...], Field(min_length=1)], ...]
    may_share: bool
    device: str
    libraries: dict[str, str]
    commit: str
    files: dict[str, FileEntry]

    @property
    def sha256(self) -> str:
        """Hash of everything in the sheet, and so of everything in the pack."""
        return hashlib.sha256(_text(self.model_dump(mode="json")).encode()).hexdigest()

    def to_text(self) -> str:
        """The content of `pack.json`; one sheet has one text."""
        return _text({**self.model_dump(mode="json"), "sha256": self.sha256})

    @property
    def sharing(self) -> str:
        """One line: the licence, and whether the pack may be handed on."""
        if self.may_share:
            return f"licence: {self.card.licence}; the pack may be shared under these terms"
        why = self.card.redistribution
        return f"licence: {self.card.licence}; THE PACK MUST NOT BE SHARED: {why}; it is for your own use only"


def features_file(condition: str) -> str:
    """Where the features of a condition are."""
    return f"{condition}/features.safetensors"


def supervision_file(condition: str, seed: int) -> str:
    """Where the splits and soft labels are."""
    return f"{condition}/supervision-{seed}.safetensors"


def truth_file(condition: str, seed: int) -> str:
    """Where the truth is."""
    return f"{condition}/truth-{seed}.safetensors"


def expected_files(conditions: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """All files of a pack but its sheet."""
    per_seed = [file(c, s) for c in conditions for s in seeds for file in (supervision_file, truth_file)]
    return [CARD, *map(features_file, conditions), *per_seed]


def read_sheet(folder: Path) -> Sheet:
    """The sheet of a pack, once it is what `w2s pack` of this version wrote.

    Raises:
        W2SError: it is missing, altered, or comes from another version.
    """
    where = f"pack {folder}"
    try:
        text = (folder / SHEET).read_bytes().decode()
        content = json.loads(text)
    except (OSError, ValueError) as error:
        why = f"cannot read {SHEET} ({reason(error)}); a pack is a folder made by `w2s pack`"
        raise W2SError(f"{where}: {why}") from None
    found = content if isinstance(content, dict) else {}
    if found.get("format") != FORMAT:
        raise W2SError(
            f"{where}: {SHEET} has format {found.get('format')}, this version of w2s-bench reads {FORMAT}; make it "
            f"again with this version, or install the version that made it (commit {found.get('commit')})"
        )
    stated = found.pop("sha256", None)
    actual = hashlib.sha256(_text(found).encode()).hexdigest()
    if stated != actual or _text({**found, "sha256": stated}) != text:
        why = f"was altered (its content's SHA-256 is {actual}, it says {stated}); get it again"
        raise W2SError(f"{where}: {SHEET} {why}")
    if found.get("protocol") != VERSION:
        raise W2SError(
            f"{where}: was dealt by protocol {found.get('protocol')}, this version of w2s-bench has {VERSION}; make it "
            "again with this version"
        )
    try:
        sheet = Sheet.model_validate_json(_text(found))
    except ValidationError as error:
        raise W2SError(f"{where}: {SHEET}: {reason(error)}") from None
    expected = set(expected_files(sheet.conditions, sheet.seeds))
    if odd := sorted(expected ^ set(sheet.files)):
        why = "not listed" if odd[0] in expected else "no part of a pack"
        raise W2SError(f"{where}: {SHEET}: files: {odd[0]} is {why}")
    if len(sheet.supervisors) != len(sheet.seeds):
        raise W2SError(f"{where}: {SHEET}: supervisors: of {len(sheet.supervisors)} seeds, expected {len(sheet.seeds)}")
    return sheet


def check_files(folder: Path, sheet: Sheet) -> None:
    """Compare every file with the sheet.

    Raises:
        W2SError: a file is missing or another one.
    """
    for name, entry in sheet.files.items():
        if not (folder / name).is_file():
            raise W2SError(f"pack {folder}: is incomplete: {name} is missing; get it again")
        if (found := sha256_file(folder / name)) != entry.sha256:
            what = f"{name} was altered or cut: its SHA-256 is {found}, expected {entry.sha256}"
            raise W2SError(f"pack {folder}: {what}; get it again")


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
