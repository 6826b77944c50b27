"""Texts compared with files beside the tests; `pytest --update-snapshots` writes the files, for `git diff` to show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def pretty(value: Any, depth: int = 0) -> str:
    """JSON in which what fits on a line stands on one."""
    line, pad = json.dumps(value, ensure_ascii=False), " " * depth
    if not isinstance(value, dict | list) or len(pad + line) <= 120:
        return line
    parts = (
        [f"{json.dumps(name)}: {pretty(part, depth + 1)}" for name, part in value.items()]
        if isinstance(value, dict)
        else [pretty(part, depth + 1) for part in value]
    )
    inside = ",\n".join(f"{pad} {part}" for part in parts)
    return f"{{\n{inside}\n{pad}}}" if isinstance(value, dict) else f"[\n{inside}\n{pad}]"
