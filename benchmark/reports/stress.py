"""Stress curves: a method's score as supervisors get worse; which methods break, and when."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from benchmark.analysis.cells import FLOOR, Analysis, Cell
from benchmark.analysis.format import NOT_RUN, percent
from benchmark.analysis.statistics import Estimate, Sample, combined, difference, estimate
from benchmark.base.text import escape, markdown, plain
from benchmark.core.corruption import KINDS, TEMPERATURES, read_tags
from benchmark.core.names import CONDITION_NAMES
from benchmark.reports.headline import ROLES, references

_ABOUT = {
    "random": "their answers are dealt to other examples: as confident as before, and without information",
    "adversarial": "their classes are rotated by one",
    **{
        kind: f"p^(1/{temperature:g}) instead of p, normalised; the most probable class stays"
        for kind, temperature in TEMPERATURES.items()
    },
    "copies": "they all say what one of them says",
}
_IN_TURN = (
    "each one and those that follow it, in turn; a level's score is, for each seed, the mean over whom it begins with"
)
_BY_SEED = "in random order by seed; a level keeps the corrupted supervisors of the one before"  # version 1
_BREAKING = (
    "Each cell: the first level at which the method is below its own level 0 / below its supervisors' ensemble (that "
    "level's floor), both by more than the 95% interval of the paired difference; – for never. Read it with the tables "
    "of scores: a wide interval hides a break, a method that starts low has less to lose, and of so many comparisons "
    "(not corrected for their number) some are chance."
)
Series = tuple[str, str, str]  # base task, condition, kind of corruption
Levels = Mapping[int, list[Cell]]  # how many supervisors are corrupted, from 0 -> once for each first of them


class Point(NamedTuple):
    """A row's score where `level` supervisors are corrupted: the mean over which ones, for each seed.

    Attributes:
        drop: change against its own level 0, paired by seed and by resample; None where that was not run.
        gain: minus the supervisors' ensemble of the same level (its floor), paired.
    """

    level: int
    score: Estimate
    drop: Estimate | None
    gain: Estimate | None


@dataclass(frozen=True)
class Curve:
    """One row's scores on one task, as more and more supervisors are corrupted in one way.

    Attributes:
        base: name of the task as it is. kind: a key of `corruption.KINDS`.
        method: name of a method, canary or reference row.
        supervisors: M.
        points: by level, rising; those that were run.
    """

    base: str
    condition: str
    kind: str
    method: str
    supervisors: int
    points: tuple[Point, ...]

    @property
    def series(self) -> Series:
        return self.base, self.condition, self.kind

    @property
    def breaks(self) -> int | None:
        """The first level at which it is below its own level 0 by more than the interval."""
        return next((point.level for point in self.points if below_zero(point.drop)), None)

    @property
    def fails(self) -> int | None:
        """The first level at which it is below its supervisors' ensemble by more than the interval."""
        return next((point.level for point in self.points if below_zero(point.gain)), None)


def below_zero(change: Estimate | None) -> bool:
    """Whether a difference is negative by more than the half-width of its interval."""
    return change is not None and change.mean < -max(change.half, 1e-9)


def curves(analysis: Analysis) -> list[Curve]:
    """A curve for each base task, condition, kind of corruption and row, in this order."""
    return [
        _curve(series, row, levels)
        for series, levels in _all_series(analysis).items()
        for row in [*analysis.methods, *references(analysis)]
        if any(row in cell.samples for cells in levels.values() for cell in cells)
    ]


def without_stress(analysis: Analysis) -> Analysis:
    """The tasks that are on no curve: a mean over levels would depend on how many there are, and say nothing."""
    starts = [cell for levels in _all_series(analysis).values() for cell in levels.get(0, [])]
    return _without(analysis, [*_corrupted(analysis), *starts])


def level_zero(analysis: Analysis) -> Analysis:
    """The same without the tasks whose supervisors are corrupted: of each curve, level 0 is left."""
    left = _without(analysis, _corrupted(analysis))
    return left if left.cells else analysis


def _corrupted(analysis: Analysis) -> list[Cell]:
    return [cell for cell in analysis.cells.values() if (at := read_tags(cell.evaluation.tags)) and at.kind]


def _without(analysis: Analysis, cells: Collection[Cell]) -> Analysis:
    kept = {key: cell for key, cell in analysis.cells.items() if cell not in cells}
    return replace(analysis, cells=kept) if cells else analysis


def _all_series(analysis: Analysis) -> dict[Series, Levels]:
    """The levels of each curve; level 0 is shared by all kinds."""
    tagged = [(read_tags(cell.evaluation.tags), key[1], cell) for key, cell in analysis.cells.items()]
    started = {(at.base, condition): cell for at, condition, cell in tagged if at and not at.kind}
    # where supervisors had their turns, tasks of version 1 of the corruptions, which drew them by seed, don't count
    renewed = {(at.base, at.kind) for at, _, _ in tagged if at and at.first}
    found: dict[Series, dict[int, list[Cell]]] = {}
    for at, condition, cell in tagged:
        if at and at.kind and (at.first or (at.base, at.kind) not in renewed):
            found.setdefault((at.base, condition, at.kind), {}).setdefault(at.count, []).append(cell)
    for (base, condition, _), levels in found.items():
        if (base, condition) in started:
            levels[0] = [started[base, condition]]
    order = sorted(found, key=lambda series: (*series[:2], list(KINDS).index(series[2])))
    return {series: dict(sorted(found[series].items())) for series in order}


def _curve(series: Series, row: str, levels: Levels) -> Curve:
    start = levels[0][0].score(row) if 0 in levels else None
    points = []
    for level, cells in levels.items():
        if score := _mean([cell.score(row) for cell in cells]):
            drop = difference(score, start) if start else None
            gain = _mean([cell.gain(row, FLOOR) for cell in cells])
            points.append(Point(level, estimate([score]), *(estimate([x]) if x else None for x in (drop, gain))))
    return Curve(*series, row, len(next(iter(levels.values()))[0].evaluation.supervisors), tuple(points))


def _mean(samples: Sequence[Sample | None]) -> Sample | None:
    """For each seed the mean over a level's tasks, which are one block; None if one lacks."""
    known = [sample for sample in samples if sample is not None]
    return combined("mean", lambda *values: np.mean(values, axis=0), *known) if len(known) == len(samples) else None


def section(analysis: Analysis) -> str:
    """The Markdown of all curves; nothing for suites without any."""
    found = curves(analysis)
    if not found:
        return ""
    kinds = {curve.kind for curve in found}
    tagged = [read_tags(cell.evaluation.tags) for cell in analysis.cells.values()]
    which = _IN_TURN if any(at.first for at in tagged if at) else _BY_SEED
    about = "\n".join(f"- **{kind}**: {_ABOUT[kind]}." for kind in KINDS if kind in kinds)
    headers, rows = _breaking(analysis, found)
    table = markdown(headers, [[f"`{row[0]}`", *row[1:]] for row in rows])
    parts = [
        "## Stress: supervisors made worse\n\n"
        f"Of a task's M supervisors, 1, 2, ... are corrupted after training, {which}. Level 0 is the task as "
        f"it is.\n\n{about}",
        f"### Which methods break, and when\n\n{_BREAKING}\n\n{table}",
    ]
    headings = set()
    for series in dict.fromkeys(curve.series for curve in found):
        heading = f"### {escape(series[0])}, {CONDITION_NAMES[series[1]]}"
        parts += [heading] * (heading not in headings)
        headings.add(heading)
        parts.append(_table(analysis, [curve for curve in found if curve.series == series]))
    return "\n\n".join(parts)


def summary(analysis: Analysis) -> str:
    """Which methods break, and when, for the terminal; nothing without stress tasks."""
    found = curves(analysis)
    return f"{plain(*_breaking(analysis, found))}\n\n{_BREAKING}" if found else ""


def _breaking(analysis: Analysis, found: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows, a method each."""
    every = list(dict.fromkeys(curve.series for curve in found))
    several = len({condition for _, condition, _ in every}) > 1
    at = {(curve.method, curve.series): curve for curve in found}

    def text(curve: Curve | None) -> str:
        if curve is None or curve.points[0].level:  # nor is it known where it starts
            return NOT_RUN
        return " / ".join("–" if level is None else str(level) for level in (curve.breaks, curve.fails))

    headers = [f"{base}{f' {CONDITION_NAMES[where]}' * several}, {kind}" for base, where, kind in every]
    rows = [[row, *(text(at.get((row, series))) for series in every)] for row in analysis.methods]
    return ["method", *headers], rows


def _table(analysis: Analysis, found: Sequence[Curve]) -> str:
    """Rows x levels of one series."""
    levels = sorted({point.level for curve in found for point in curve.points})
    runs = max(point.score.runs for curve in found for point in curve.points)

    def text(point: Point | None) -> str:
        return NOT_RUN if point is None else percent(point.score, of_runs=runs) + " ↓" * below_zero(point.drop)

    lines = []
    apart = references(analysis)
    methods = [curve for curve in found if curve.method not in apart]
    methods.sort(key=lambda curve: (curve.points[0].level, -round(curve.points[0].score.mean, 9)))
    for curve in (*methods, *(curve for row in apart for curve in found if curve.method == row)):
        at = {point.level: point for point in curve.points}
        lines.append([f"`{curve.method}`{ROLES.get(curve.method, '')}", *(text(at.get(level)) for level in levels)])
    table = markdown(["method", *(f"{level} of {found[0].supervisors}" for level in levels)], lines)
    return (
        f"**{found[0].kind}**, supervisors corrupted (↓: below its own level 0 by more than the interval):\n\n{table}"
    )
