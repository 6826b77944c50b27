"""What some methods had and others had not, in a sentence: more to see than soft labels, more steps."""

from collections.abc import Sequence

from benchmark.analysis.cells import Analysis, Cell
from benchmark.base.text import listing
from benchmark.core.names import Use
from benchmark.core.records import Record
from benchmark.reports.headline import BASELINE
from benchmark.results.trials import is_tuned

_SEEN: dict[Use, str] = {"features": "the student's features", "source_scores": "source scores"}


def extras(analysis: Analysis, cells: Sequence[Cell]) -> str:
    """'More than soft labels: `a` (source scores on 3 of 5 tasks). More steps than `ensemble`: `b` (×2).' in Markdown.

    Of methods on these cells; nothing where there is nothing to say, and where no record names its method's family, as
    in older results, which are shown as they were published.
    """
    if not analysis.method_families:
        return ""
    seen = [f"`{row}` ({what})" for row in analysis.methods if (what := _seen(row, cells))]
    times = {row: round(found, 2) for row in analysis.methods if (found := _relative_steps(row, cells))}
    slower = [
        f"`{row}` (×{times[row]:g})" for row in sorted(times, key=lambda row: (-times[row], row)) if times[row] > 1
    ]
    said = {"More than soft labels": seen, f"More steps than `{BASELINE}`": slower}
    return " ".join(f"{about}: {listing(rows)}." for about, rows in said.items() if rows)


def _seen(row: str, cells: Sequence[Cell]) -> str:
    """What a method was given beside soft labels, and on which share of its tasks, where not on all."""
    by_task: dict[str, set[Use]] = {}
    for cell in cells:
        for record in cell.records.get(row, {}).values():
            by_task.setdefault(record.task, set()).update(record.uses)
    counts = {text: sum(use in own for own in by_task.values()) for use, text in _SEEN.items()}
    n = len(by_task)
    found = [text + f" on {k} of {n} tasks" * (k < n) for text, k in counts.items() if k]
    return listing(found) if found else ""


def _relative_steps(row: str, cells: Sequence[Cell]) -> float | None:
    """Optimizer steps of a head over the baseline's, both summed over the (cell, seed) pairs that the two share; None
    without any. Tuned methods are left out: their grids, not they, have more epochs or fewer."""
    pairs = [
        (_steps(record, cell), _steps(base, cell))
        for cell in cells
        for seed, record in cell.records.get(row, {}).items()
        if (base := cell.records.get(BASELINE, {}).get(seed)) and not is_tuned(record)
    ]
    of_base = sum(base for _, base in pairs)
    return sum(own for own, _ in pairs) / of_base if of_base else None


def _steps(record: Record, cell: Cell) -> float:
    return record.cost / (len(cell.evaluation.supervisors) if record.kind == "single" else 1)
