"""Reading Markdown tables back."""

from __future__ import annotations

import re


def section(page: str, title: str) -> str:
    """The text under a heading, down to the next of the same level."""
    level = title.split()[0]
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^{level} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section '{title}'"
    return found.group(1)


def tables(text: str, by: str | None = None) -> list[dict[str, dict[str, str]]]:
    """Every table in the text: by the name in backticks, or by what one column says, what each column says."""
    found = []
    for part in map(str.strip, text.split("\n\n")):
        if part.startswith("|"):
            cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in part.splitlines()]
            rows = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
            found.append({_name(row) if by is None else row[by]: row for row in rows})
    return found


def _name(row: dict[str, str]) -> str:
    return str(re.findall("`([^`]*)`", row.get("name") or row["method"])[0])


def mean(cell: str) -> float:
    """Of 'mean ± half-width' with any marks."""
    return float(cell.strip("*").split()[0])
