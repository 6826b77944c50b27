"""What is wrong with results or a cache after a fault, counted against those of a run that nothing disturbed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from benchmark.core.records import Record, RecordKey
from benchmark.results.layout import RECORDS
from benchmark.results.store import ResultStore


@dataclass
class Tally:
    """How many faults there were, and what came of them.

    Attributes:
        lost: records that were there before a fault, or should be in the end, and are not.
        doubled: records beyond the first of their key.
        torn: lines, files and cache entries that can't be read, records without their predictions or truth, and
            temporary files that outlive the next run.
        wrong: records, predictions, truth and cache entries that differ from the undisturbed run's.
        misreported: runs whose exit status or last line does not say what was done, and processes left behind.
        notes: a line for each of these, and for what could not be tried.
    """

    faults: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    wrong: int = 0
    misreported: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, kind: str, note: str) -> None:
        """One more of `lost`, `doubled`, `torn`, `wrong` or `misreported`."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(f"{kind}: {note}")

    def expect(self, said: bool, note: str) -> None:
        """Misreported unless `said`."""
        if not said:
            self.count("misreported", note)

    def __iadd__(self, other: Tally) -> Tally:
        for own in fields(self):
            setattr(self, own.name, getattr(self, own.name) + getattr(other, own.name))
        return self

    @property
    def numbers(self) -> list[int]:
        """Faults, then what must be 0."""
        return [getattr(self, own.name) for own in fields(self)[:-1]]

    @property
    def clean(self) -> bool:
        """Whether all is 0 that must be."""
        return not any(self.numbers[1:])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but locks, by its name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name != ".lock"}


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run leaves: the results' files, and the cache's entries."""

    files: dict[str, bytes]
    cache: dict[str, bytes]

    @classmethod
    def of(cls, results: Path, cache: Path) -> Reference:
        """Read both folders."""
        return cls(contents(results), entries(cache))

    @property
    def lines(self) -> set[bytes]:
        """Of all records."""
        return {line for name, data in self.files.items() if name.endswith(RECORDS) for line in data.splitlines()}

    def examine(self, results: Path, had: set[bytes], tally: Tally) -> set[bytes]:
        """Count what is wrong with results that a fault has just hit; the lines of their records.

        Args:
            had: lines that were there before.
        """
        lines: set[bytes] = set()
        keys: set[RecordKey] = set()
        right = self.lines
        for path in sorted(results.glob(f"[!._]*/{RECORDS}")):
            data = path.read_bytes()
            if data and not data.endswith(b"\n"):
                tally.count("torn", f"{path} does not end with a line's end")
            for line in data.splitlines():
                try:
                    key = Record.model_validate_json(line).key
                except ValidationError:
                    tally.count("torn", f"{path}: {line[:60]!r}")
                    continue
                if key in keys:
                    tally.count("doubled", f"{path}: {key}")
                keys.add(key)
                lines.add(line)
                if line not in right:
                    tally.count("wrong", f"{path}: {key}")
        for line in had - lines:
            tally.count("lost", f"{results}: {line[:120]!r}")
        found = ResultStore(results).load()
        for problem in found.problems:
            if RECORDS not in problem:  # those are counted above
                tally.count("torn", problem)
        for record in found.records.values():
            if misfit := found.misfit(record):
                tally.count("torn", f"{record.key}: {misfit}")
        return lines

    def compare(self, results: Path, tally: Tally) -> None:
        """Count how finished results differ from the undisturbed ones, file by file."""
        found = contents(results)
        for line in self.lines - {line for data in found.values() for line in data.splitlines()}:
            tally.count("lost", f"{results}: in the end, {line[:120]!r}")
        for name in sorted(found.keys() | self.files.keys()):
            if ".writing-" in name:
                tally.count("torn", f"{results}/{name} is left")
            elif found.get(name) != self.files.get(name):
                tally.count("wrong", f"{results}/{name} differs")

    def examine_cache(self, cache: Path, tally: Tally) -> None:
        """Count cache entries that are there under their final name and are not whole, or not those they should be."""
        for name, found in entries(cache).items():
            if not found:
                tally.count("torn", f"{cache}/{name}")
            elif found != self.cache.get(name):
                tally.count("wrong", f"{cache}/{name}")


def entries(cache: Path) -> dict[str, bytes]:
    """Name -> metadata (which lie in no fixed order) and arrays of each cache entry, as bytes; b"" if it is torn."""
    found = {}
    for path in sorted(cache.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = json.dumps(file.metadata(), sort_keys=True).encode()
                arrays = [np.ascontiguousarray(file.get_tensor(n)) for n in sorted(file.keys())]
            found[path.relative_to(cache).as_posix()] = b"|".join([metadata, *(a.tobytes() for a in arrays)])
        except (SafetensorError, OSError):
            found[path.relative_to(cache).as_posix()] = b""
    return found
