"""The headline tables, scores and comparisons: what their columns are, which rows they have and in which order."""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from benchmark.analysis.cells import CEILING, FLOOR, MEAN_SUPERVISOR, Analysis, Cell, task_weights
from benchmark.analysis.effects import Effect, effect, family_names
from benchmark.analysis.format import NOT_RUN, half_text, number_text, percent, without_empty_interval
from benchmark.analysis.ranking import Rank, comparable, compare_pairs, ranks
from benchmark.analysis.statistics import Estimate, Sample, change
from benchmark.base.text import escape, listing
from benchmark.core.names import CANARIES, CONDITION_NAMES, MODALITIES, OTHER, REFERENCES
from benchmark.results.seconds import MethodSeconds

_NAMED = tomllib.loads((Path(__file__).parents[1] / "leaderboard.toml").read_text())
BASELINE: str = _NAMED["baseline"]
FOCUS: str = _NAMED["focus"]
COST_UNIT: str = _NAMED["cost_unit"]
NAIVE: str = _NAMED["naive"]
ROLES = {FLOOR: " (floor)", CEILING: " (ceiling)"}


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table of means over tasks.

    Attributes:
        quantity: of a cell and a row. cells: what it is averaged over, by families first unless `plain`.
        sign: it is a difference. share: it is a share of (task, seed).
        missing: shown where it is not known. best: max or min, to be set in bold.
    """

    header: str
    cells: Sequence[Cell]
    quantity: Callable[[Cell, str], Sample | None]
    sign: bool = False
    share: bool = False
    missing: str = "–"
    best: Callable[[Sequence[float]], float] | None = None
    plain: bool = False
    _values: dict[str, Estimate | None] = field(default_factory=dict, init=False, repr=False)

    def value(self, row: str) -> Estimate | None:
        if row not in self._values:
            result = Analysis.over(self.cells, lambda cell: self.quantity(cell, row), self.plain)
            self._values[row] = without_empty_interval(result) if result and self.share else result
        return self._values[row]

    @property
    def runs(self) -> int:
        """Number of (task, seed) pairs for a full mean."""
        return sum(len(cell.evaluation.seeds) for cell in self.cells)

    def full(self, row: str) -> bool:
        """Whether the row's mean is over all tasks and seeds, and so may be compared with others."""
        result = self.value(row)
        return result is not None and (result.tasks, result.runs) == (len(self.cells), self.runs)

    def text(self, row: str) -> str:
        result = self.value(row)
        return self.missing if result is None else percent(result, self.sign, len(self.cells), self.runs)

    def leaders(self, rows: Sequence[str]) -> set[str]:
        """Those rows that hold the best mean, among all that may be compared."""
        means = {row: result.mean for row in rows if self.full(row) and (result := self.value(row))}
        if self.best is None or not means:
            return set()
        target = self.best(list(means.values()))
        return {row for row, mean in means.items() if abs(mean - target) < 1e-9}


@dataclass(frozen=True)
class TextColumn:
    """One column of other texts, of which none is best."""

    header: str
    text: Callable[[str], str]

    def leaders(self, rows: Sequence[str]) -> set[str]:
        return set()


def main_condition(analysis: Analysis) -> str:
    """The condition that rows are ranked and compared by: "ood", or "ind" if no task has it."""
    return "ood" if analysis.select("ood") else "ind"


def task_columns(cells: Sequence[Cell]) -> list[Column]:
    """The scores on each task."""
    return [Column(cell.evaluation.task, [cell], Cell.score, missing=NOT_RUN, best=max) for cell in cells]


def uneven(cells: Sequence[Cell]) -> bool:
    """Whether the mean over families differs from the plain one over tasks: some have more tasks here than others."""
    return len({*task_weights(cells).tolist()}) > 1


def whole_pool(cells: Iterable[Cell]) -> bool:
    """Whether scores are on whole pools, and those on test splits stand beside; older results have these alone."""
    return any(cell.evaluation.whole for cell in cells)


def headline_columns(analysis: Analysis) -> list[Column]:
    """Columns of the headline table, those without any task left out; the plain mean over tasks where it differs.

    Tasks with a broken supervisor are left out: `broken_columns` has them.
    """
    ood = analysis.headline("ood")
    chosen = {
        f"{escape(name)} OOD": [cell for cell in ood if cell.evaluation.modality == name]
        for name in in_order(cell.evaluation.modality for cell in ood)
    }
    chosen |= {"all OOD": ood, "all InD": analysis.headline("ind")}
    main, columns = f"all {CONDITION_NAMES[main_condition(analysis)]}", []
    for name, cells in chosen.items():
        if cells:
            columns.append(Column(name, cells, Cell.score, missing=NOT_RUN, best=max))
        if name == main and uneven(cells):
            columns.append(Column(f"{name} (plain mean)", cells, Cell.score, missing=NOT_RUN, best=max, plain=True))
    return columns


def broken_columns(analysis: Analysis) -> list[Column]:
    """Of tasks with a broken supervisor, a column for each task that they are variants of, and their mean."""
    cells, shown = broken_cells(analysis), CONDITION_NAMES[main_condition(analysis)]
    by_base: dict[str, list[Cell]] = {}
    for cell in cells:
        by_base.setdefault(cell.base, []).append(cell)
    columns = {f"broken supervisor {shown}": cells, **dict(sorted(by_base.items()))}
    return [Column(name, own, Cell.score, missing=NOT_RUN, best=max) for name, own in columns.items() if own]


def both_conditions(analysis: Analysis) -> list[Cell]:
    """What the columns of `headline_columns` are over."""
    return [*analysis.headline("ood"), *analysis.headline("ind")]


def broken_cells(analysis: Analysis, condition: str = "") -> list[Cell]:
    """Tasks with a broken supervisor, under the main condition or this one; none where all are."""
    condition = condition or main_condition(analysis)
    return analysis.select(condition, broken=True) if analysis.select(condition, broken=False) else []


def effect_columns(analysis: Analysis) -> list[Column | TextColumn]:
    """What a row gains over the baseline: the mean, what other families would change, and each family."""
    cells = analysis.headline(main_condition(analysis))
    shown, families = CONDITION_NAMES[main_condition(analysis)], family_names(cells)
    by_family = {name: [cell for cell in cells if cell.evaluation.family == name] for name in families}

    def gain(cell: Cell, row: str) -> Sample | None:
        return cell.gain(row, BASELINE)

    @cache
    def effect_of(row: str) -> Effect | None:
        return effect(cells, lambda cell: gain(cell, row))

    def random(row: str) -> str:
        return half_text(found.random_half) if (found := effect_of(row)) else "–"

    def spread(row: str) -> str:
        return number_text(found.spread) if (found := effect_of(row)) else "–"

    return [
        Column(f"all {shown}, minus {BASELINE}", cells, gain, sign=True),
        TextColumn("families as random", random),
        TextColumn("sd between tasks", spread),
        Column(f"P(> {BASELINE})", cells, lambda cell, row: cell.improved(row, BASELINE), share=True),
        *(Column(escape(name), own, gain, sign=True) for name, own in by_family.items() if len(families) > 1),
    ]


def comparison_columns(analysis: Analysis) -> list[Column]:
    """Columns of the table that sets rows against others, over the main condition; those without any task left out."""
    condition = main_condition(analysis)
    shown, cells = CONDITION_NAMES[condition], analysis.headline(condition)
    other_metric = any(cell.evaluation.metric != "accuracy" for cell in cells)
    ind = {cell.evaluation.task: cell for cell in analysis.headline("ind")}
    in_both = [cell for cell in analysis.headline("ood") if cell.evaluation.task in ind]

    def drop(cell: Cell, row: str) -> Sample | None:
        there, at_home = cell.score(row), ind[cell.evaluation.task].score(row)
        return change(there, at_home) if there and at_home else None

    def pgr(name: str, floor: str) -> Column:
        with_gap = [cell for cell in cells if cell.gap_over(floor)]
        header = f"{name} {shown} ({len(with_gap)}/{len(cells)} tasks)"
        return Column(header, with_gap, lambda cell, row: cell.recovered(row, floor), best=max)

    def failures(name: str, floor: str) -> Column:
        return Column(f"{name} {shown}", cells, lambda cell, row: cell.failed(row, floor), share=True, best=min)

    columns = [
        Column(f"P(> {FOCUS})", cells, lambda cell, row: cell.improved(row, FOCUS), share=True),
        pgr("PGR", FLOOR),
        failures("failure rate", FLOOR),
        pgr("PGR from the mean supervisor", MEAN_SUPERVISOR),
        failures("below the mean supervisor", MEAN_SUPERVISOR),
        Column("OOD minus InD", in_both, drop, sign=True),
        Column(f"accuracy, all {shown}", cells if other_metric else [], Cell.accuracy, missing=NOT_RUN, best=max),
        Column(
            f"test split alone, all {shown}",
            cells if whole_pool(cells) else [],
            Cell.on_test,
            missing=NOT_RUN,
            best=max,
        ),
    ]
    return [column for column in columns if column.cells]


def relative_cost(row: str, cells: Sequence[Cell]) -> float | None:
    """Optimizer steps x heads over those of the cost unit, both summed over the (cell, seed) pairs that the two share.

    None without any, as for reference rows.
    """
    pairs = [
        (record.cost, unit.cost)
        for cell in cells
        for seed, record in cell.records.get(row, {}).items()
        if (unit := cell.records.get(COST_UNIT, {}).get(seed))
    ]
    of_unit = sum(unit for _, unit in pairs)
    return sum(cost for cost, _ in pairs) / of_unit if of_unit else None


@dataclass(frozen=True)
class Table:
    """A headline table as text.

    Attributes:
        lines: by row, a text for each header.
        best: by header, the rows to be set in bold there.
    """

    headers: list[str]
    lines: dict[str, list[str]]
    best: dict[str, set[str]]

    def marked(self, row: str) -> list[str]:
        """A line in Markdown, with the best in bold."""
        pairs = zip(self.headers, self.lines[row], strict=True)
        return [f"**{text}**" if row in self.best.get(header, ()) else text for header, text in pairs]


def score_table(analysis: Analysis) -> Table:
    """Rank, family and mean scores of every row."""
    ranked_by = rank_column(analysis, analysis.headline(main_condition(analysis)))
    return table_of(analysis, [ranked_by, *family_column(analysis), *headline_columns(analysis)])


def broken_table(analysis: Analysis) -> Table:
    """Every row on tasks with a broken supervisor: rank, mean scores, gain, PGR and failures."""
    cells = broken_cells(analysis)
    against = [
        Column(f"minus {BASELINE}", cells, lambda cell, row: cell.gain(row, BASELINE), sign=True),
        Column("PGR", [cell for cell in cells if cell.has_gap], Cell.recovered, best=max),
        Column("failure rate", cells, Cell.failed, share=True, best=min),
    ]
    first = [rank_column(analysis, cells), *family_column(analysis)]
    return table_of(analysis, [*first, *broken_columns(analysis), *against])


def effect_table(analysis: Analysis) -> Table:
    """What every row gains over the baseline, by family."""
    return table_of(analysis, effect_columns(analysis))


def comparison_table(analysis: Analysis, measured: MethodSeconds | None) -> Table:
    """Every row set against others, and what it costs: optimizer steps x heads; seconds, where they were measured."""
    cells = analysis.headline(main_condition(analysis))

    def times(value: float | None) -> str:
        return "–" if value is None else f"{round(value, 9):.2f}"

    costs = [TextColumn("cost", lambda row: times(relative_cost(row, cells)))]
    if measured is not None:
        costs.append(TextColumn("seconds", lambda row: times(measured.relative(row, COST_UNIT))))
    return table_of(analysis, [*comparison_columns(analysis), *costs])


def family_column(analysis: Analysis) -> list[TextColumn]:
    """The family of every method; no column where no record names one, as in older results."""

    def text(row: str) -> str:
        return analysis.method_families.get(row, OTHER) if row in analysis.methods else "–"

    return [TextColumn("method family", text)] if analysis.method_families else []


def rank_column(analysis: Analysis, cells: Sequence[Cell]) -> TextColumn:
    """The rank by the mean over these cells; a dash for rows that have none."""
    places = ranks(analysis, cells)
    return TextColumn("rank", lambda row: rank_text(places[row]))


def rank_text(rank: Rank | None) -> str:
    """'2–5', or one place where no other is possible."""
    if rank is None:
        return "–"
    return f"{rank[0]}–{rank[1]}" if rank[0] < rank[1] else str(rank[0])


def ties(analysis: Analysis, cells: Sequence[Cell]) -> str:
    """Which methods can't be told apart over these cells, as a sentence; nothing for fewer than two methods."""
    competing = comparable(analysis, cells)
    if len(competing) < 2:
        return ""
    pairs, ordered = compare_pairs(competing, cells), by_mean(analysis, cells, competing)
    runs = [
        f"{1 + ordered.index(run[0])}–{1 + ordered.index(run[-1])} (`{run[0]}` to `{run[-1]}`)"
        for run in pairs.ties(ordered)
    ]
    told = f"Told apart: {pairs.told_apart} of {pairs.number} pairs of methods."
    if not runs:
        return told
    return f"{told} By mean, without ablations, methods {listing(runs)} can't be told apart from one another."


def table_of(analysis: Analysis, columns: Sequence[Column | TextColumn]) -> Table:
    """These columns, for every row."""
    return Table(
        [column.header for column in columns],
        {row: [column.text(row) for column in columns] for row in analysis.titles},
        {column.header: column.leaders(analysis.competitors) for column in columns},
    )


def title(analysis: Analysis, row: str) -> str:
    """A row's title in Markdown, with a mark if it is an ablation."""
    return escape(analysis.titles[row]) + " *(ablation)*" * (row in analysis.ablations)


def in_order(modalities: Iterable[str]) -> list[str]:
    """The suite's modalities first, then any other."""
    present = set(modalities)
    return [*(name for name in MODALITIES if name in present), *sorted(present.difference(MODALITIES))]


def ranked(analysis: Analysis) -> list[str]:
    """Methods by their mean over all OOD families (InD, if there is none), those that lack tasks or seeds last."""
    return by_mean(analysis, analysis.headline(main_condition(analysis)), analysis.methods)


def by_mean(analysis: Analysis, cells: Sequence[Cell], rows: Sequence[str]) -> list[str]:
    """These rows by their mean score over these cells, those that lack tasks or seeds last."""

    def place(row: str) -> tuple[bool, float, str]:
        result = analysis.over(cells, lambda cell: cell.score(row))
        return not all(cell.full(row) for cell in cells), -round(result.mean, 9) if result else 0.0, row

    return sorted(rows, key=place)


def references(analysis: Analysis) -> list[str]:
    """Canaries and reference rows that are there."""
    return [row for row in (*CANARIES, *REFERENCES) if row in analysis.titles]
