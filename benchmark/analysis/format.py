"""Scores and intervals in words."""

import math
from dataclasses import replace

from benchmark.analysis.statistics import Estimate

NOT_RUN = "not run"


def number(value: float, sign: bool = False) -> str:
    """A share as percent, or a difference in points, with one decimal; rounding first hides the last bit."""
    text = f"{round(100 * value, 7):{'+' if sign else ''}.1f}"
    return text.lstrip("+-") if float(text) == 0 else text


def number_text(value: float) -> str:
    """As `number`; a dash when it is undefined."""
    return number(value) if math.isfinite(value) else "–"


def half_text(half: float) -> str:
    """'± half-width'; a dash when it is undefined."""
    return f"± {number(half)}" if math.isfinite(half) else "–"


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


def without_empty_interval(share: Estimate) -> Estimate:
    """A share of (task, seed), without its interval where that holds every share or is of one task's few runs."""
    if share.tasks == 1 or share.half >= max(share.mean, 1 - share.mean):
        return replace(share, seed_error=math.nan)
    return share


def p_text(p: float) -> str:
    """A p-value with two digits; a dash when it is undefined."""
    if math.isnan(p):
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"
