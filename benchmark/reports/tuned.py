"""Equal tuning budgets: what each method scores with its default, tuned, and by an oracle's choice, as a table.

A folder `<suite>-tuned` (of `w2s run --tune`) belongs to the folder `<suite>` beside it and is a section of its page.
"""

import numpy as np

from benchmark.analysis.cells import Analysis, Cell, analysis_of, task_weights
from benchmark.analysis.format import NOT_RUN, number
from benchmark.analysis.statistics import Sample, difference
from benchmark.base.text import escape, markdown, plain
from benchmark.core.names import CONDITION_NAMES, GRID_SIZE
from benchmark.reports.headline import Column, Table, TextColumn, main_condition, ranked, table_of, title
from benchmark.reports.provenance import command, provenance
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
    analysis, folder = analysis_of(store), store.root.resolve().name
    table, cells = _table(analysis), _cells(analysis)
    lines = [[title(analysis, row), f"`{row}`", *table.marked(row)] for row in ranked(analysis)]
    made = {name: escape(text) for name, text in provenance(analysis.records).items()}
    return f"""\
## Equal tuning budget

Every method may try {GRID_SIZE} settings, the default among them (`w2s describe METHOD` lists them). **Tuned** is the
setting whose student says most often what the supervisors' ensemble (argmax of their mean soft labels) says on the
validation split, chosen for each task and seed, never by the truth; of several the first, so that the default wins a
tie. That favours imitation: a student that rightly leaves its supervisors is not chosen for it, so tuning can cost.
**Oracle** is the best of the {GRID_SIZE} by the test split's truth: no method, but what the best choice would have
scored, and biased upward, as the best of {GRID_SIZE} scores is partly luck. Means over {len(cells)} \
{CONDITION_NAMES[main_condition(analysis)]} tasks, by families, without those that have a broken supervisor;
*default chosen* is the share of a task's seeds, in percent, where the choice is the default. Sorted by tuned; bold: the
best mean, where ablations don't compete.

{markdown(["method", "name", *table.headers], lines)}

{made["records"]} records, seeds {made["seeds"]}; commit {made["commit"]}; device {made["device"]}.

{command(folder, tune=True, conditions="" if analysis.select("ind") else "ood")}"""


def summary(store: ResultStore) -> str:
    """The table for the terminal."""
    analysis = analysis_of(store)
    table = _table(analysis)
    about = f"{GRID_SIZE} settings a method, chosen by agreement with the supervisors' ensemble on the validation split"
    return (
        f"{plain(['method', *table.headers], [[row, *table.lines[row]] for row in ranked(analysis)])}\n\n{about};\n"
        "mean ± half-width of the 95% interval, in points; an oracle is no method"
    )


def _table(analysis: Analysis) -> Table:
    """Scores over the tasks, of the same seeds and resamples for all three, so that differences are paired."""
    cells = _cells(analysis)

    def gain(cell: Cell, row: str) -> Sample | None:
        one, other = cell.score(row), cell.score(row, "default")
        return difference(one, other) if one and other else None

    def default_chosen(row: str) -> str:
        own = [cell for cell in cells if row in cell.records]
        shares = [np.mean([record.diagnostics[CHOSEN] == 0 for record in cell.records[row].values()]) for cell in own]
        return number(float(task_weights(own) @ shares)) if own else "–"

    columns: list[Column | TextColumn] = [
        Column("default", cells, lambda cell, row: cell.score(row, "default"), missing=NOT_RUN, best=max),
        Column("tuned", cells, Cell.score, missing=NOT_RUN, best=max),
        Column("tuned, minus default", cells, gain, sign=True),
        Column("oracle", cells, lambda cell, row: cell.score(row, "oracle"), missing=NOT_RUN),
        TextColumn("default chosen", default_chosen),
    ]
    return table_of(analysis, columns)


def _cells(analysis: Analysis) -> list[Cell]:
    return analysis.headline(main_condition(analysis))
