"""JSON lines: one typed, validated object a line."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError

from benchmark.core.records import Strict

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


def read_keyed(path: Path, model: type[L]) -> tuple[dict[Any, L], list[str]]:
    """As `read_lines`: a method's records or replies by their keys, less those of another method and repeated ones."""
    found, problems = read_lines(path, model)
    keyed: dict[Any, L] = {}
    first: dict[Any, int] = {}
    for number, each in found:
        where, key, method = f"{path.parent.name}/{path.name}:{number}", each.key, each.method  # type: ignore[attr-defined]
        if method != path.parent.name:
            problems.append(f"{where}: method: found '{method}', expected the folder's name")
        elif first.setdefault(key, number) != number:
            problems.append(f"{where}: repeats line {first[key]}")
        else:
            keyed[key] = each
    return keyed, problems


def reason(error: Exception) -> str:
    """One line: 'field: reason' for each invalid field, or what went wrong with the file."""
    text = str(error)
    if isinstance(error, ValidationError):
        found = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors(include_url=False)]
        text = "; ".join(f"{where}: {message}" if where else message for where, message in found)
    elif isinstance(error, KeyError):
        text = f"{error} is missing"
    elif isinstance(error, SafetensorError):
        text = f"not a readable safetensors file ({error})"
    return " ".join(text.split())
