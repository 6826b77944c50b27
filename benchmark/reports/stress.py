"""Stress curves: a method's score as supervisors get worse; which methods break, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.analysis.cells import CEILING, FLOOR, Analysis, Cell
from benchmark.analysis.format import NOT_RUN, percent
from benchmark.analysis.statistics import Estimate, Sample, difference, estimate
from benchmark.base.text import escape, markdown, plain
from benchmark.core.corruption import KINDS, TEMPERATURE, read_tags
from benchmark.reports.headline import references

CONDITIONS = {"ood": "OOD", "ind": "InD"}
_ROLES = {FLOOR: " (floor)", CEILING: " (ceiling)"}
Levels = Mapping[int, Cell]  # how many supervisors are corrupted, from 0


@dataclass(frozen=True)
class Curve:
    """One row's scores on one task, as more and more supervisors are corrupted in one way.

    Attributes:
        base: name of the uncorrupted task. kind: a key of `corruption.KINDS`.
        method: name of a method, canary or reference row.
        supervisors: M.
        levels: how many supervisors are corrupted, rising; those that were run.
        scores: at each level. drops: change against the row's own level 0, paired by seed and by resample; None where
            that was not run. gains: minus the mean supervisor of the same level, paired.
    """

    base: str
    condition: str
    kind: str
    method: str
    supervisors: int
    levels: tuple[int, ...]
    scores: tuple[Estimate, ...]
    drops: tuple[Estimate | None, ...]
    gains: tuple[Estimate | None, ...]

    @property
    def means(self) -> tuple[float, ...]:
        """Mean score at each level, a share."""
        return tuple(score.mean for score in self.scores)

    @property
    def halves(self) -> tuple[float, ...]:
        """Half-width of its 95% interval at each level; NaN for fewer than two seeds."""
        return tuple(score.half for score in self.scores)

    @property
    def breaks(self) -> int | None:
        """The first level at which it is below its own level 0 by more than the interval."""
        return self._first(self.drops)

    @property
    def fails(self) -> int | None:
        """The first level at which it is below the mean of its supervisors by more than the interval."""
        return self._first(self.gains)

    def _first(self, changes: Sequence[Estimate | None]) -> int | None:
        pairs = zip(self.levels, changes, strict=True)
        return next((level for level, change in pairs if below_zero(change)), None)


def below_zero(change: Estimate | None) -> bool:
    """Whether a difference is negative by more than the half-width of its interval."""
    return change is not None and change.mean < -max(change.half, 1e-9)


def curves(analysis: Analysis) -> list[Curve]:
    """A curve for each base task, condition, kind of corruption and row, in this order."""
    return [
        _curve(analysis, base, condition, kind, row, levels)
        for (base, condition, kind), levels in _families(analysis).items()
        for row in [*analysis.methods, *references(analysis)]
        if any(row in cell.samples for cell in levels.values())
    ]


def without_stress(analysis: Analysis) -> Analysis:
    """The tasks that are on no curve: a mean over levels would depend on how many there are, and say nothing."""
    on_curves = [cell for levels in _families(analysis).values() for cell in levels.values()]
    cells = {unit: cell for unit, cell in analysis.cells.items() if cell not in on_curves}
    return replace(analysis, cells=cells) if on_curves else analysis


def uncorrupted(analysis: Analysis) -> Analysis:
    """The same without the tasks whose supervisors are corrupted: of each curve, level 0 is left."""
    corrupted = [cell for levels in _families(analysis).values() for level, cell in levels.items() if level]
    cells = {unit: cell for unit, cell in analysis.cells.items() if cell not in corrupted}
    return replace(analysis, cells=cells) if corrupted and cells else analysis


def section(analysis: Analysis) -> str:
    """The Markdown of all curves; nothing for suites without any."""
    found = curves(analysis)
    if not found:
        return ""
    headers, rows = _breaking(analysis, found)
    cells = [[f"`{row[0]}`", *row[1:]] for row in rows]
    parts = [_about(found), f"### Which methods break, and when\n\n{_BREAKING}\n\n{markdown(headers, cells)}"]
    for base, condition in dict.fromkeys((curve.base, curve.condition) for curve in found):
        own = [curve for curve in found if (curve.base, curve.condition) == (base, condition)]
        parts.append(f"### {escape(base)}, {CONDITIONS[condition]}")
        parts += [_table(analysis, [c for c in own if c.kind == kind]) for kind in dict.fromkeys(c.kind for c in own)]
    return "\n\n".join(parts)


def summary(analysis: Analysis) -> str:
    """Which methods break, and when, for the terminal; nothing without stress tasks."""
    found = curves(analysis)
    return f"{plain(*_breaking(analysis, found))}\n\n{_BREAKING}" if found else ""


def _families(analysis: Analysis) -> dict[tuple[str, str, str], Levels]:
    """(base, condition, kind) -> level -> cell; level 0 is shared by all kinds."""
    started: dict[tuple[str, str], Cell] = {}
    found: dict[tuple[str, str, str], dict[int, Cell]] = {}
    for (_, condition), cell in analysis.cells.items():
        if (told := read_tags(cell.evaluation.tags)) is None:
            continue
        base, corruption = told
        if corruption is None:
            started[base, condition] = cell
        else:
            found.setdefault((base, condition, corruption.kind), {})[corruption.count] = cell
    order = sorted(
        found, key=lambda family: (family[0], -list(CONDITIONS).index(family[1]), list(KINDS).index(family[2]))
    )
    return {
        family: dict(sorted({**({0: started[family[:2]]} if family[:2] in started else {}), **found[family]}.items()))
        for family in order
    }


def _curve(analysis: Analysis, base: str, condition: str, kind: str, row: str, levels: Levels) -> Curve:
    there = {level: cell for level, cell in levels.items() if row in cell.samples}
    start = there[0].samples[row] if 0 in there else None
    return Curve(
        base=base,
        condition=condition,
        kind=kind,
        method=row,
        supervisors=len(next(iter(levels.values())).evaluation.supervisors),
        levels=tuple(there),
        scores=tuple(estimate([cell.samples[row]]) for cell in there.values()),
        drops=tuple(_estimated(difference(cell.samples[row], start) if start else None) for cell in there.values()),
        gains=tuple(_estimated(cell.gain(row, FLOOR)) for cell in there.values()),
    )


def _estimated(sample: Sample | None) -> Estimate | None:
    return estimate([sample]) if sample else None


def _about(found: Sequence[Curve]) -> str:
    kinds = {curve.kind for curve in found}
    said = {
        "random": "their answers are dealt to other examples: as confident as before, and without information",
        "adversarial": "their classes are rotated by one",
        "overconfident": f"p^(1/{TEMPERATURE:g}) instead of p, normalised; the most probable class stays",
        "copies": "they all say what one of them says",
    }
    lines = "\n".join(f"- **{kind}**: {said[kind]}." for kind in KINDS if kind in kinds)
    return (
        "## Stress: supervisors made worse\n\n"
        "Of a task's M supervisors, 1, 2, ... are corrupted after training, in random order by seed; a level keeps the "
        f"corrupted supervisors of the one before. Level 0 is the task as it is.\n\n{lines}"
    )


_BREAKING = (
    "Each cell: the first level at which the method is below its own level 0 / below the mean of its supervisors (that "
    "level's floor), both by more than the 95% interval of the paired difference; – for never. Read it with the tables "
    "of scores: a wide interval hides a break, a method that starts low has less to lose, and of so many comparisons "
    "(not corrected for their number) some are chance."
)


def _breaking(analysis: Analysis, found: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows, a method each."""
    families = list(dict.fromkeys((curve.base, curve.condition, curve.kind) for curve in found))
    several = len({condition for _, condition, _ in families}) > 1
    at = {(curve.method, curve.base, curve.condition, curve.kind): curve for curve in found}
    headers = [f"{base}{f' {CONDITIONS[where]}' * several}, {kind}" for base, where, kind in families]
    rows = [[row, *(_levels_text(at.get((row, *family))) for family in families)] for row in analysis.methods]
    return ["method", *headers], rows


def _levels_text(curve: Curve | None) -> str:
    if curve is None:
        return NOT_RUN
    return " / ".join("–" if level is None else str(level) for level in (curve.breaks, curve.fails))


def _table(analysis: Analysis, found: Sequence[Curve]) -> str:
    """Rows x levels of one base and kind."""
    levels = sorted({level for curve in found for level in curve.levels})
    known = list(_ordered(analysis, found))
    runs = max(score.runs for curve in known for score in curve.scores)
    lines = [[f"`{curve.method}`{_ROLES.get(curve.method, '')}", *_texts(curve, levels, runs)] for curve in known]
    table = markdown(["method", *(f"{level} of {found[0].supervisors}" for level in levels)], lines)
    return (
        f"**{found[0].kind}**, supervisors corrupted (↓: below its own level 0 by more than the interval):\n\n{table}"
    )


def _ordered(analysis: Analysis, found: Sequence[Curve]) -> Iterator[Curve]:
    """Methods by their score at the lowest level, then the canaries and reference rows."""
    apart = references(analysis)
    yield from sorted((c for c in found if c.method not in apart), key=lambda c: (c.levels[0], -round(c.means[0], 9)))
    yield from (curve for row in apart for curve in found if curve.method == row)


def _texts(curve: Curve, levels: Sequence[int], runs: int) -> list[str]:
    at = {level: i for i, level in enumerate(curve.levels)}
    return [
        percent(curve.scores[at[level]], of_runs=runs) + " ↓" * below_zero(curve.drops[at[level]])
        if level in at
        else NOT_RUN
        for level in levels
    ]
