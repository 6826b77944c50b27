"""The headline table: what its columns are, which rows it has and in which order."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.analysis import Analysis, Cell
from benchmark.registry import CANARIES, REFERENCES
from benchmark.statistics import Estimate, Sample
from benchmark.tables import NOT_RUN, escape, percent

MODALITIES = ("image", "text", "preference")
_NAMED = tomllib.loads((Path(__file__).parent / "leaderboard.toml").read_text())
BASELINE: str = _NAMED["baseline"]
FOCUS: str = _NAMED["focus"]
COST_UNIT: str = _NAMED["cost_unit"]


@dataclass(frozen=True)
class Column:
    """One column of the headline table.

    Attributes:
        quantity: of a cell and a row. cells: what it is averaged over.
        sign: it is a difference. missing: shown where it is not known. best: max or min, to be set in bold.
    """

    header: str
    cells: Sequence[Cell]
    quantity: Callable[[Cell, str], Sample | None]
    sign: bool = False
    missing: str = "–"
    best: Callable[[Sequence[float]], float] | None = None

    def value(self, row: str) -> Estimate | None:
        return Analysis.over(self.cells, lambda cell: self.quantity(cell, row))

    @property
    def runs(self) -> int:
        """Number of (task, seed) pairs for a full mean."""
        return sum(len(cell.evaluation.seeds) for cell in self.cells)

    def full(self, row: str) -> bool:
        """Whether the row's mean is over all tasks and seeds, and so may be compared with others."""
        return all(cell.full(row) for cell in self.cells)

    def text(self, row: str) -> str:
        result = self.value(row)
        if result is None:
            return self.missing
        return percent(result, self.sign, len(self.cells), self.runs)


def headline_columns(analysis: Analysis) -> list[Column]:
    """Columns of the headline table, those without any task left out."""
    ood, ind = analysis.select("ood"), analysis.select("ind")
    with_gap = [cell for cell in ood if cell.has_gap]
    plain_ood = analysis.select("ood", broken=False)

    def scores(header: str, cells: Sequence[Cell]) -> Column:
        return Column(header, cells, lambda cell, row: cell.score(row), missing=NOT_RUN, best=max)

    names = in_order(cell.evaluation.modality for cell in plain_ood)
    columns = [scores(f"{escape(name)} OOD", analysis.select("ood", name, broken=False)) for name in names]
    columns += [
        scores("broken supervisor OOD", analysis.select("ood", broken=True)),
        scores("all OOD", ood),
        Column(
            f"all OOD, minus {BASELINE}",
            ood,
            lambda cell, row: cell.gain(row, BASELINE) if row != BASELINE else None,
            sign=True,
        ),
        scores("all InD", ind),
        Column(
            f"PGR OOD ({len(with_gap)}/{len(ood)} tasks)",
            with_gap,
            lambda cell, row: cell.recovered(row),
            best=max,
        ),
        Column("failure rate OOD", ood, lambda cell, row: cell.failed(row), best=min),
    ]
    return [column for column in columns if column.cells]


def in_order(modalities: Iterable[str]) -> list[str]:
    """The suite's modalities first, then any other."""
    present = set(modalities)
    return [*(name for name in MODALITIES if name in present), *sorted(present.difference(MODALITIES))]


def ranked(analysis: Analysis) -> list[str]:
    """Methods by their mean over all OOD tasks (InD, if there is none), those that lack tasks or seeds last."""
    cells = analysis.select("ood") or analysis.select("ind")

    def place(row: str) -> tuple[bool, float, str]:
        result = analysis.over(cells, lambda cell: cell.score(row))
        return not all(cell.full(row) for cell in cells), -round(result.mean, 9) if result else 0.0, row

    return sorted(analysis.methods, key=place)


def references(analysis: Analysis) -> list[str]:
    """Canaries and reference rows that are there."""
    return [row for row in (*CANARIES, *REFERENCES) if row in analysis.titles]


def leaders(column: Column, rows: Sequence[str]) -> set[str]:
    """Rows that hold the column's best mean, among those that may be compared."""
    if column.best is None:
        return set()
    means = {row: result.mean for row in rows if column.full(row) and (result := column.value(row))}
    target = column.best(list(means.values())) if means else 0.0
    return {row for row, mean in means.items() if abs(mean - target) < 1e-9}
