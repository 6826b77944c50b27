"""Equal tuning budgets: what each method scores with its default, tuned, and by an oracle's choice, as a table.

A folder `<suite>-tuned` (of `w2s run --tune`) belongs to the folder `<suite>` beside it and is a section of its page.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.analysis.cells import Analysis, Cell, analysis_of
from benchmark.analysis.format import NOT_RUN, number
from benchmark.analysis.statistics import Sample, difference
from benchmark.base.text import bold, escape, listing, markdown, plain
from benchmark.core.names import GRID_SIZE
from benchmark.reports.headline import Column, leaders, ranked
from benchmark.results.layout import TUNED
from benchmark.results.store import ResultStore
from benchmark.results.trials import CHOSEN, is_tuned


def holds_tuned(store: ResultStore) -> bool:
    """Whether the folder's results are tuned ones."""
    return any(is_tuned(record) for record in store.load().records.values())


def belongs_to(store: ResultStore, base: ResultStore) -> bool:
    """Whether these are the tuned results of a suite, and `base` holds its others."""
    return store.root.resolve() == base.root.resolve().with_name(f"{base.root.resolve().name}{TUNED}")


def section(store: ResultStore) -> str:
    """The table as a Markdown section."""
    columns, analysis = _columns(store), analysis_of(store)
    best = {column.header: leaders(column, analysis.competitors) for column in columns}

    def line(row: str) -> list[str]:
        texts = [bold(column.text(row)) if row in best[column.header] else column.text(row) for column in columns]
        mark = " *(ablation)*" if row in analysis.ablations else ""
        return [escape(analysis.titles[row]) + mark, f"`{row}`", *texts, _default_chosen(analysis, row)]

    headers = ["method", "name", *(column.header for column in columns), "default chosen"]
    cells = _cells(analysis)
    where = {"ood": "OOD", "ind": "InD"}[cells[0].evaluation.condition]
    return f"""\
## Equal tuning budget

Every method may try {GRID_SIZE} settings, the default among them (`w2s describe METHOD` lists them). **Tuned** is the
setting whose student says most often what the supervisors' ensemble (argmax of their mean soft labels) says on the
validation split, chosen for each task and seed, never by the truth; of several the first, so that the default wins a
tie. That favours imitation: a student that rightly leaves its supervisors is not chosen for it, so tuning can cost.
**Oracle** is the best of the {GRID_SIZE} by the test split's truth: no method, but what the best choice would have
scored, and biased upward, as the best of {GRID_SIZE} scores is partly luck. Means over {len(cells)} {where} tasks;
*default chosen* is the share of (task, seed), in percent, where the choice is the default. Sorted by tuned; bold: the
best mean, where ablations don't compete.

{markdown(headers, [line(row) for row in ranked(analysis)])}

{_provenance(store, analysis)}"""


def summary(store: ResultStore) -> str:
    """The table for the terminal."""
    columns, analysis = _columns(store), analysis_of(store)
    headers = ["method", *(column.header for column in columns), "default chosen"]
    lines = [
        [row, *(column.text(row) for column in columns), _default_chosen(analysis, row)] for row in ranked(analysis)
    ]
    about = f"{GRID_SIZE} settings a method, chosen by agreement with the supervisors' ensemble on the validation split"
    return (
        f"{plain(headers, lines)}\n\n{about};\nmean ± half-width of the 95% interval, in points; an oracle is no method"
    )


def _columns(store: ResultStore) -> list[Column]:
    """Scores over the tasks, of the same seeds and resamples for all three, so that differences are paired."""
    cells = _cells(analysis_of(store))

    def gain(cell: Cell, row: str) -> Sample | None:
        one, other = cell.score(row), cell.score(row, "default")
        return difference(one, other) if one and other else None

    return [
        Column("default", cells, lambda cell, row: cell.score(row, "default"), missing=NOT_RUN, best=max),
        Column("tuned", cells, lambda cell, row: cell.score(row), missing=NOT_RUN, best=max),
        Column("tuned, minus default", cells, gain, sign=True),
        Column("oracle", cells, lambda cell, row: cell.score(row, "oracle"), missing=NOT_RUN),
    ]


def _cells(analysis: Analysis) -> list[Cell]:
    """Those of the table: out of distribution, where there are any."""
    return analysis.select("ood") or analysis.select("ind")


def _default_chosen(analysis: Analysis, row: str) -> str:
    """Share of (task, seed) where the default was chosen, in percent."""
    records = [record for cell in _cells(analysis) for record in cell.records.get(row, {}).values()]
    return number(sum(record.diagnostics[CHOSEN] == 0 for record in records) / len(records)) if records else "–"


def _provenance(store: ResultStore, analysis: Analysis) -> str:
    def several(values: Sequence[str]) -> str:
        return listing([escape(value) for value in sorted(set(values))])

    records, name = analysis.records, store.root.resolve().name
    made_from = f"--suite {name.removesuffix(TUNED)} --results results/{name}"
    if name.startswith("arrays-"):
        made_from = "--arrays FILE"
    elif not analysis.select("ind"):
        made_from += " --conditions ood"
    seeds = listing([str(seed) for seed in sorted({record.seed for record in records})])
    return (
        f"{len(records):,} records, seeds {seeds}; commit {several([record.commit for record in records])}; device "
        f"{several([record.device for record in records])}.\n\n"
        f"```\nw2s run --tune {made_from}\n```"
    )
