"""What a suite's tasks are worth by its results, as Markdown: floors, ceilings, reliability, how alike families are."""

import math

from benchmark.analysis.cells import CEILING, FLOOR, MEAN_SUPERVISOR, Analysis, Cell, analysis_with_records, keep_errors
from benchmark.analysis.families import independence, separable, task_reliability
from benchmark.analysis.format import NOT_RUN, number, number_text
from benchmark.base.text import listing, markdown
from benchmark.core.names import CONDITION_NAMES, CONDITION_TITLES
from benchmark.reports.headline import main_condition
from benchmark.results.store import ResultStore

_RELIABILITY = (
    "Scores are by the task's own metric, in percent, means over seeds; sizes are those of the first seed. Floor: the "
    "mean of the supervisors' soft labels, without a student; ceiling: the student trained on the truth, on the test "
    "split alone; gap: between floor and ceiling there. **Reliability**: how well methods' mean scores would agree "
    "with those of as many other seeds, 2r / (1 + r) (Spearman 1910; Brown 1910), where r is the correlation of "
    "methods' mean scores in two halves of the seeds, averaged over all splits into halves. Seeds share examples, so "
    "it says nothing of other ones. **Pairs told apart**: share of the pairs of methods, in percent, that differ "
    "significantly on this task alone (5%, Holm's correction over its pairs). Both are of methods that compete (no "
    "ablations, no canaries); – for fewer than four methods or two seeds."
)


def worth(store: ResultStore) -> str:
    """The sections of a folder of results.

    Raises:
        W2SError: it holds no results.
    """
    analysis = analysis_with_records(store)
    parts = [
        f"## {title[0].upper()}{title[1:]}\n\n{_tasks(analysis, cells)}"
        for condition, title in CONDITION_TITLES.items()
        if (cells := analysis.select(condition))
    ]
    seeds = sorted({len(cell.evaluation.seeds) for cell in analysis.cells.values()})
    of = "1 seed" if seeds == [1] else f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds"
    if store.older is not None:
        parts = [f"**Of an older protocol.** {store.older}", *parts]
    text = "\n\n".join([*parts, f"By results of {of} of each task. {_RELIABILITY}", _families(analysis)])
    keep_errors(store)
    return text


def _tasks(analysis: Analysis, cells: list[Cell]) -> str:
    headers = ["task", "train / test", "most frequent class", "mean supervisor", "floor", "ceiling", "gap"]
    headers += ["reliability", "pairs told apart"]
    return markdown(headers, [_line(analysis, cell) for cell in cells])


def _line(analysis: Analysis, cell: Cell) -> list[str]:
    record = next((record for by_seed in cell.records.values() for record in by_seed.values()), None)
    means = [cell.samples[row].mean for row in ("majority_class", MEAN_SUPERVISOR, FLOOR)]
    ceiling, gap = cell.samples[CEILING].mean if CEILING in cell.samples else None, cell.gap()
    return [
        cell.evaluation.task,
        f"{record.n_train:,} / {record.n_test:,}" if record else "–",
        *map(number, means),
        *([NOT_RUN, "–"] if ceiling is None or gap is None else [number(ceiling), number(gap.mean)]),
        _decimals(task_reliability(analysis, cell)),
        number_text(separable(analysis, cell)),
    ]


def _families(analysis: Analysis) -> str:
    condition = main_condition(analysis)
    found, shown = independence(analysis, condition), CONDITION_NAMES[condition]
    without = (
        f"; without {listing(list(found.left_out))}, of which no task is known to have one" if found.left_out else ""
    )
    rows = [
        [name, *map(_decimals, values)] for name, values in zip(found.families, found.correlation.tolist(), strict=True)
    ]
    return f"""\
## How alike the families are

Correlation (Pearson) of methods' PGR between families: each family is the vector of {len(found.methods)} methods' mean
PGR over its {shown} tasks that have a gap and no broken supervisor (methods that compete and ran all of these
tasks{without}).

{markdown(["", *found.families], rows)}

**Effective number of families: {_decimals(found.effective)} of {len(found.families)}**, that is (sum of eigenvalues)²
/ sum of squared eigenvalues of this matrix (the participation ratio; Bretherton et al. 1999, J. Climate 12, 1990–2009).
It is the number of families where nothing correlates, and 1 where all say the same. Families with nothing in common
would come to about {_decimals(found.by_chance)} with so many methods, as unrelated vectors correlate by chance, too."""


def _decimals(value: float) -> str:
    return "–" if math.isnan(value) else f"{round(value, 9):.2f}"
