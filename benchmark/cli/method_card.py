"""What `w2s describe METHOD` prints: formula, source, what the method declares, and how it does on the board."""

import inspect
import re
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmark.core.code_hash import source_of
from benchmark.core.method import Method, method_options
from benchmark.core.names import OTHER
from benchmark.reports.on_the_board import on_the_board
from benchmark.results.layout import RECORDS
from benchmark.results.store import ResultStore

WIDTH = 100
_PUBLISHED = Path("results/default")
_STRESS = "stress"  # the folder beside it whose tasks have supervisors that are made worse


def method_card(method: type[Method], results: Path | None) -> str:
    """At most 100 columns wide.

    Args:
        results: see `describe_any`.

    Raises:
        W2SError: no results in the folder that was named.
    """
    rows = {
        "source": method.citation,
        "family": method.family or OTHER,
        "kind": f"{method.kind}, at least {method.min_supervisors} supervisor(s)",
        "sees": ", ".join(["soft labels", *method.uses]),
        "options": ", ".join(f"{key}={value!r}" for key, value in method_options(method()).items()) or "none",
        "grid (--tune)": "; ".join(", ".join(f"{k}={v}" for k, v in s.items()) or "default" for s in method.grid),
    }
    if method.ablation_of:
        rows["ablation of"] = method.ablation_of
    width = max(map(len, rows))
    hang = " " * (width + 4)
    lines = [fill(f"  {key:<{width}}  {text}", WIDTH, subsequent_indent=hang) for key, text in rows.items()]
    card = "\n".join([f"{method.name}: {method.title}, version {method.version}", *lines])
    return "\n\n".join([card, reflowed(inspect.getdoc(method) or ""), _board(method, results)])


def _board(method: type[Method], results: Path | None) -> str:
    folder = results or _PUBLISHED
    stress = folder.parent / _STRESS
    if results is None and not folder.is_dir():
        return "On the board: no published results of this version yet."
    stores = [ResultStore(path) for path in (folder, stress) if path == folder or any(path.glob(f"*/{RECORDS}"))]
    found = on_the_board(method.name, method.version, source_of(method), *stores)
    what = f"results of this version in {folder}" if results else "published results of this version yet"
    return found or f"On the board: no {what}."


_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def reflowed(text: str) -> str:
    """A docstring's paragraphs and the entries of its lists, filled to 100 columns."""
    blocks: list[list[str]] = []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        last = blocks[-1] if blocks else [""]
        apart = not line.strip() or not last[0].strip() or last[-1].endswith(":")
        entry = re.match(r" *(\d+\. |- )| +[\w ,`]+: ", line)
        if apart or entry or indent < len(last[-1]) - len(last[-1].lstrip()):
            blocks.append([line])
        else:
            last.append(line)
    return "\n".join(_filled(block) for block in blocks)


def _filled(lines: list[str]) -> str:
    """One block; what follows its first line is set in as its second line was."""
    indents = [line[: len(line) - len(line.lstrip())] for line in lines]
    words = " ".join(line.strip() for line in lines)
    return fill(words, WIDTH, initial_indent=indents[0], subsequent_indent=indents[-1], **_WHOLE_WORDS)
