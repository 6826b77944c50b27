"""JSON lines: one typed, validated object a line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from benchmark.core.records import Strict
from benchmark.results.contents import reason

L = TypeVar("L", bound=Strict)


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
