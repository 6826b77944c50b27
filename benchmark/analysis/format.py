"""Numbers and tables as Markdown and as plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import tabulate

from benchmark.analysis.statistics import Estimate

tabulate.WIDE_CHARS_MODE = False  # or the padding would depend on whether `wcwidth` is installed
NOT_RUN = "not run"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no cell or line breaks."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; cells are Markdown already."""
    return tabulate.tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def plain(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the terminal."""
    return tabulate.tabulate(rows, headers, tablefmt="simple", disable_numparse=True)


def bold(text: str) -> str:
    """Markdown bold."""
    return f"**{text}**"


def number(value: float, sign: bool = False) -> str:
    """A share as percent, or a difference in points, with one decimal; rounding first hides the last bit."""
    text = f"{round(100 * value, 7):{'+' if sign else ''}.1f}"
    return text.lstrip("+-") if float(text) == 0 else text


def percent(result: Estimate | None, sign: bool = False, of_tasks: int = 0, of_runs: int = 0) -> str:
    """'mean ± half-width'; a mean over fewer than `of_tasks` says over how many, one over fewer runs is marked '†'."""
    if result is None:
        return NOT_RUN
    text = number(result.mean, sign)
    if math.isfinite(result.half):
        text += f" ± {number(result.half)}"
    if result.tasks < of_tasks:
        return f"{text} ({result.tasks}/{of_tasks})"
    if result.runs < of_runs:
        return f"{text} †"
    return text


def told(share: Estimate) -> Estimate:
    """A share of (task, seed), without its interval where that holds every share or is of one task's few runs."""
    if share.tasks == 1 or share.half >= max(share.mean, 1 - share.mean):
        return replace(share, seed_error=math.nan)
    return share


def p_text(p: float) -> str:
    """A p-value with two digits; a dash when it is undefined."""
    if math.isnan(p):
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def listing(items: Sequence[str]) -> str:
    """'a, b and c'; 'none' for nothing."""
    if len(items) < 2:
        return items[0] if items else "none"
    return f"{', '.join(items[:-1])} and {items[-1]}"
