"""Texts compared with files beside the tests; `pytest --update-snapshots` writes the files, for `git diff` to show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Snapshots:
    """Those of one folder of tests."""

    folder: Path
    update: bool

    def __call__(self, name: str, text: str) -> None:
        """The text must be what the file of this name holds."""
        path = self.folder / name
        if self.update:
            self.folder.mkdir(exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"{path} is missing: pytest --update-snapshots"
        assert text == path.read_text()
