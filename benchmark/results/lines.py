"""JSON lines: one typed, validated object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.results.contents import reason


class Line(BaseModel):
    """What stands on one line of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_line(self) -> str:
        """Canonical JSON with its newline: the same object always gives the same text."""
        values = self.model_dump(mode="json")
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


L = TypeVar("L", bound=Line)


def read_lines(path: Path, model: type[L], appended: bool = False) -> tuple[list[tuple[int, L]], list[str]]:
    """The file's valid objects with their line numbers, and a line for each problem, beginning with folder and file.

    A missing file is empty. With `appended`, a last line without its newline that can't be read is what a kill leaves
    in the middle of writing: it is no problem, and holds nothing.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{name}: {reason(error)}"]
    found: list[tuple[int, L]] = []
    problems: list[str] = []
    lines = content.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            found.append((number, model.model_validate_json(line)))
        except ValidationError as error:
            torn = number == len(lines) and not content.endswith(b"\n")
            if not (appended and torn):
                problems.append(f"{name}:{number}: {reason(error)}")
    return found, problems
