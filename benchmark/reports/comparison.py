"""`w2s compare`: two rows of a leaderboard side by side, paired: by task, by family and over all families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.analysis.cells import Analysis, Cell, analysis_with_records, keep_errors
from benchmark.analysis.effects import Effect, effect, family_names, sign_of
from benchmark.analysis.format import half_text, number_text, p_text, percent, without_empty_interval
from benchmark.analysis.statistics import Estimate, holm
from benchmark.base.errors import W2SError, unknown_name
from benchmark.base.text import plain
from benchmark.core.names import CONDITION_NAMES
from benchmark.reports.headline import broken_cells, in_order, main_condition, uneven
from benchmark.reports.stress import without_stress
from benchmark.results.store import ResultStore

_MEANS = (
    "means are over families of means over their tasks, without tasks that have a broken supervisor, which have\n"
    "a mean of their own; a plain one is over tasks. As random: half-width if families (plain: tasks) were random\n"
    "draws, by a t interval on their means. sd: standard deviation of the difference between tasks"
)


@dataclass(frozen=True)
class Contrast:
    """The first row against the second over some tasks.

    Attributes:
        effect: first minus second, paired. improvement: probability that the first is higher.
        adjusted: the mean difference's p-value, corrected by Holm for the contrasts that stand together.
    """

    effect: Effect
    improvement: Estimate
    adjusted: float

    @property
    def difference(self) -> Estimate:
        return self.effect.mean

    @property
    def sign(self) -> int:
        """1 if the first is significantly ahead, -1 if the second is, else 0."""
        return sign_of(self.difference, self.adjusted)


def contrasts(
    first: str, second: str, places: Mapping[str, Sequence[Cell]], plain: bool = False
) -> dict[str, Contrast]:
    """The two rows over each of these lists of cells; those without a common task and seed are left out.

    Holm's correction is for all that is returned.

    Args:
        plain: means are over tasks, not over families of means over their tasks.
    """
    found: dict[str, tuple[Effect, Estimate]] = {}
    for name, cells in places.items():
        gain = effect(cells, lambda cell: cell.gain(first, second), plain)
        improvement = Analysis.over(cells, lambda cell: cell.improved(first, second), plain)
        if gain and improvement:
            found[name] = gain, improvement
    adjusted = holm([gain.mean.p for gain, _ in found.values()])
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
    by_task = contrasts(first, second, {cell.evaluation.task: [cell] for cell in cells})
    means_of = without_stress(analysis)
    all_cells, broken = means_of.headline(condition), broken_cells(means_of, condition)
    families = {name: [c for c in all_cells if c.evaluation.family == name] for name in family_names(all_cells)}
    modalities = in_order(cell.evaluation.modality for cell in all_cells)
    by_family = contrasts(first, second, families)
    by_modality = contrasts(
        first, second, {name: [c for c in all_cells if c.evaluation.modality == name] for name in modalities}
    )
    total = contrasts(first, second, {"all": all_cells})
    if uneven(all_cells):
        total |= contrasts(first, second, {"all, plain mean": all_cells}, plain=True)
    total |= contrasts(first, second, {"broken supervisor": broken})
    keep_errors(store)
    shown = CONDITION_NAMES[condition]
    if not by_task:
        raise W2SError(f"{store.root}: '{first}' and '{second}' have no {shown} task and seed in common")

    def table(what: str, found: Mapping[str, Contrast], several: bool = False) -> str:
        headers = [what, f"{first} minus {second}", "p", "p (Holm)", f"P({first} > {second})", "ahead"]
        lines = [[name, *_texts(contrast, first, second)] for name, contrast in found.items()]
        if several:
            headers += ["as random", "sd"]
            for line, contrast in zip(lines, found.values(), strict=True):
                line += [half_text(contrast.effect.random_half), number_text(contrast.effect.spread)]
        return plain(headers, lines)

    each = {f"{name} ({c.difference.tasks})": c for name, c in by_family.items()} if len(by_family) > 1 else {}
    means = {
        f"{name} ({c.difference.tasks}, {len(c.effect.families)})": c
        for found in (by_modality, total)
        for name, c in found.items()
    }
    if (whole := total.get("all")) and whole.effect.opposite:
        about = f"{_MEANS}\nfamilies differ significantly in sign: a mean over all of them is over opposite effects"
    else:
        about = _MEANS
    return "\n\n".join(
        [
            table(f"task, {shown}", by_task),
            *([table("family (tasks)", each)] if each else []),
            *([table("mean (tasks, families)", means, several=True), about] if means else []),
            "mean ± half-width of the 95% interval, in points; paired by seed and by resample of the test examples\n"
            f"Holm: corrected for {len(by_task)} tasks, {len(by_family)} families and {len(by_modality)} modalities, "
            "each apart;\nahead: who is, at 5% after the correction",
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
