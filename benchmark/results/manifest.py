"""A submission is one folder, `results/<suite>/<method>/`, and its manifest says what belongs together in it.

    records.jsonl, predictions.safetensors   as every method's (`benchmark.results.store`)
    method.py                                the source that was run
    manifest.json                            hashes of these three, what the records have in common, and a statement
    README.md                                who, where and what, filled in by hand; so no hash holds it

All of the manifest but its suite, its citation and what the method was developed on follows from the other files, so
that it can be compared with them.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, JsonValue, ValidationError

from benchmark.core.records import Condition, Count, MethodName, Record, Schema, Sha256, Strict, TaskName, Version
from benchmark.results.layout import MANIFEST

Hashed = Literal["records.jsonl", "predictions.safetensors", "method.py"]
HASHED: tuple[Hashed, ...] = get_args(Hashed)
LIMIT = 2**22  # bytes of a manifest, 100 x the usual
LONGEST = 200  # characters of what a method was developed on
NOT_STATED = "not stated"
_SHARED = ("method", "title", "kind", "ablation_of", "method_version", "engine_version")  # by all records


class ManifestCell(Strict):
    """One (task, condition): from which data, and against which truth and supervisors each seed was scored."""

    task: TaskName
    condition: Condition
    task_version: Version
    data_fingerprint: str
    evaluations: dict[Count, Sha256]


class Environment(Strict):
    """On what, and with which versions of libraries and of this project, records were made."""

    device: str
    libraries: dict[str, str]
    commit: str


class Manifest(Strict):
    """What the files of a submission have in common.

    Attributes:
        suite: name of the suite's folder of results.
        options: of the method; its one setting.
        files: name -> SHA-256, of `HASHED`.
        environments: one, unless a run was continued elsewhere.
        developed_on: by which results the method was made and its options chosen, as whoever submits states it; None
            where nothing is stated, as before there was this field.
    """

    schema_version: Schema = 1
    suite: Annotated[str, Field(pattern=r"^[\w-]+$")]
    method: MethodName
    title: Annotated[str, Field(min_length=1)]
    citation: str
    kind: Literal["single", "ensemble"]
    ablation_of: MethodName | None
    method_version: Version
    engine_version: Version
    options: dict[str, JsonValue]
    files: dict[Hashed, Sha256]
    cells: tuple[ManifestCell, ...]
    environments: tuple[Environment, ...]
    developed_on: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = None

    @property
    def statement(self) -> str:
        """What it was developed on, in words."""
        return self.developed_on or NOT_STATED

    def to_text(self) -> str:
        """The content of `manifest.json`; one manifest has one text."""
        values = self.model_dump(mode="json", exclude=None if self.developed_on else {"developed_on"})
        return json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest | None:
    """A submission's manifest; None for a folder without one that can be read. Links are not followed."""
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LIMIT:
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError:
        return None


def can_be_seen(text: str) -> bool:
    """Whether a text has characters that can be seen, and none that can't."""
    return text.isprintable() and bool(text.strip())


def manifest_of(
    suite: str,
    citation: str,
    records: Sequence[Record],
    files: Mapping[str, bytes],
    developed_on: str | None = None,
) -> Manifest:
    """The manifest of these records of one method and the folder's files.

    Raises:
        ValueError: records that are no submission: they differ in what all share, have no options, or are a canary's.
    """
    if mixed := [name for name in _SHARED if len({getattr(record, name) for record in records}) != 1]:
        raise ValueError(f"the records differ in {', '.join(mixed)}")
    cells: dict[tuple[str, str, int, str], dict[int, str]] = defaultdict(dict)
    for r in sorted(records, key=lambda record: record.key):
        cells[r.task, r.condition, r.task_version, r.data_fingerprint][r.seed] = r.evaluation_sha256
    made = {(record.device, tuple(sorted(record.libraries.items())), record.commit) for record in records}
    return Manifest(
        suite=suite,
        citation=citation,
        options=records[0].hyperparameters.get("method"),  # type: ignore[arg-type]
        files={name: hashlib.sha256(files[name]).hexdigest() for name in HASHED if name in files},
        cells=tuple(
            ManifestCell(task=task, condition=condition, task_version=version, data_fingerprint=data, evaluations=seeds)  # type: ignore[arg-type]
            for (task, condition, version, data), seeds in sorted(cells.items())
        ),
        environments=tuple(
            Environment(device=device, libraries=dict(libraries), commit=commit)
            for device, libraries, commit in sorted(made)
        ),
        developed_on=developed_on,
        **{name: getattr(records[0], name) for name in _SHARED},
    )
