"""`w2s compare`: two rows of a leaderboard side by side, paired, per task, per modality and over all families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.analysis.cells import Analysis, Cell, analysis_with_records, keep_errors
from benchmark.analysis.format import p_text, percent, without_empty_interval
from benchmark.analysis.statistics import LEVEL, Estimate, holm
from benchmark.base.errors import W2SError, unknown_name
from benchmark.base.text import plain
from benchmark.core.names import CONDITION_NAMES
from benchmark.reports.headline import in_order, main_condition, uneven
from benchmark.reports.stress import without_stress
from benchmark.results.store import ResultStore

_MEANS = "means are over families of means over their tasks; a plain one is over tasks"


@dataclass(frozen=True)
class Contrast:
    """The first row against the second over some tasks.

    Attributes:
        difference: first minus second, paired. improvement: probability that the first is higher.
        families: number of families that the tasks are of.
        adjusted: the difference's p-value, corrected by Holm for the contrasts that stand together.
    """

    difference: Estimate
    improvement: Estimate
    families: int
    adjusted: float

    @property
    def sign(self) -> int:
        """1 if the first is significantly ahead, -1 if the second is, else 0."""
        return int(np.sign(self.difference.mean)) if self.adjusted < 1 - LEVEL else 0


def contrasts(
    first: str, second: str, places: Mapping[str, Sequence[Cell]], plain: bool = False
) -> dict[str, Contrast]:
    """The two rows over each of these lists of cells; those without a common task and seed are left out.

    Holm's correction is for all that is returned.

    Args:
        plain: means are over tasks, not over families of means over their tasks.
    """
    found: dict[str, tuple[Estimate, Estimate, int]] = {}
    for name, cells in places.items():
        difference = Analysis.over(cells, lambda cell: cell.gain(first, second), plain)
        improvement = Analysis.over(cells, lambda cell: cell.improved(first, second), plain)
        if difference and improvement:
            families = {cell.evaluation.family for cell in cells if cell.gain(first, second)}
            found[name] = difference, improvement, len(families)
    adjusted = holm([difference.p for difference, *_ in found.values()])
    return {name: Contrast(*parts, float(p)) for (name, parts), p in zip(found.items(), adjusted, strict=True)}


def compare_rows(store: ResultStore, first: str, second: str, condition: str | None = None) -> str:
    """Tables for the terminal; `condition` is "ood" or "ind", OOD where there is some when left out.

    Raises:
        W2SError: there are no results, a name or condition is unknown, or the two have no task and seed in common.
    """
    analysis = analysis_with_records(store)
    for row in (first, second):
        if row not in analysis.titles:
            raise unknown_name(f"method or row of {store.root}", row, analysis.titles)
    if first == second:
        raise W2SError(f"compare: found '{first}' twice, expected two different names")
    if condition not in (None, *CONDITION_NAMES):
        raise unknown_name("condition", str(condition), CONDITION_NAMES)
    condition = condition or main_condition(analysis)

    cells = analysis.select(condition)
    modalities = in_order(cell.evaluation.modality for cell in cells)
    by_task = contrasts(first, second, {cell.evaluation.task: [cell] for cell in cells})
    means_of = without_stress(analysis)
    by_modality = contrasts(first, second, {name: means_of.select(condition, name) for name in modalities})
    all_cells = means_of.select(condition)
    total = contrasts(first, second, {"all": all_cells})
    if uneven(all_cells):
        total |= contrasts(first, second, {"all, plain mean": all_cells}, plain=True)
    keep_errors(store)
    shown = CONDITION_NAMES[condition]
    if not by_task:
        raise W2SError(f"{store.root}: '{first}' and '{second}' have no {shown} task and seed in common")

    def table(what: str, found: Mapping[str, Contrast]) -> str:
        headers = [what, f"{first} minus {second}", "p", "p (Holm)", f"P({first} > {second})", "ahead"]
        return plain(headers, [[name, *_texts(contrast, first, second)] for name, contrast in found.items()])

    means = {
        f"{name} ({c.difference.tasks}, {c.families})": c for found in (by_modality, total) for name, c in found.items()
    }
    return "\n\n".join(
        [
            table(f"task, {shown}", by_task),
            *([table("mean (tasks, families)", means), _MEANS] if means else []),
            "mean ± half-width of the 95% interval, in points; paired by seed and by resample of the test examples\n"
            f"Holm: corrected for {len(by_task)} tasks, and for {len(by_modality)} modalities; "
            "ahead: who is, at 5% after the correction",
        ]
    )


def _texts(contrast: Contrast, first: str, second: str) -> list[str]:
    difference, improvement = contrast.difference, contrast.improvement
    return [
        percent(difference, sign=True),
        p_text(difference.p),
        p_text(contrast.adjusted if np.isfinite(difference.p) else difference.p),
        percent(without_empty_interval(improvement)),
        {1: first, 0: "–", -1: second}[contrast.sign],
    ]
