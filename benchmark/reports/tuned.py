"""Equal tuning budgets: what each method scores with its default, tuned, and by an oracle's choice, as a table.

A folder `<suite>-tuned` (of `w2s run --tune`) belongs to the folder `<suite>` beside it and is a section of its page.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from benchmark.analysis.cells import Analysis, Cell, analysis_of, task_weights
from benchmark.analysis.effects import family_names
from benchmark.analysis.format import NOT_RUN, number, percent
from benchmark.analysis.statistics import Estimate, Sample, difference
from benchmark.base.text import escape, listing, markdown, plain
from benchmark.core.names import CONDITION_NAMES, GRID_SIZE
from benchmark.reports.headline import (
    BASELINE,
    FOCUS,
    Column,
    Table,
    TextColumn,
    main_condition,
    ranked,
    table_of,
    title,
)
from benchmark.reports.provenance import command, provenance
from benchmark.results.layout import TUNED
from benchmark.results.store import ResultStore
from benchmark.results.trials import CHOSEN, Which, is_tuned, short_epochs, trial_name

_TRANSFER = """\
**Tuned** is the setting with the best mean score on all task families but one, by their truth (mean over families of
means over tasks, all seeds), scored on the one left out, whose own truth has no part in it; of several the first, so
that the default wins a tie. Intervals are given the choices."""
_NO_TRANSFER = """\
**Tuned** is the setting with the best mean score on the other task families. These tasks are of one family: there is
none."""
_AGREEMENT = """\
**By agreement** is for a user without any truth, as `w2s run --tune` records it: the setting whose student says most
often what the supervisors' ensemble (argmax of their mean soft labels) says on the validation split, for each task and
seed. That favours imitation: a student that rightly leaves its supervisors is not chosen for it. Beside it, what it
gains or costs against the default."""
_ORACLE = f"""\
**Oracle** is the best of the {GRID_SIZE} by the truth that it is scored against: no method, but what the best choice
would have scored, and biased upward, as the best of {GRID_SIZE} scores is partly luck."""
_CHOICES = """\
What was chosen: tuned, each setting with the number of left-out families that it was chosen for; by agreement, the
share of a task's seeds, in percent, where it is the default."""
_ELSEWHERE = " (setting chosen on other families)"
_HEADERS: dict[Which, str] = {"transfer": "tuned", "agreement": "by agreement", "short": "fewer epochs"}


def holds_tuned(store: ResultStore) -> bool:
    """Whether the folder's results are tuned ones."""
    return any(is_tuned(record) for record in store.load().records.values())


def belongs_to(store: ResultStore, base: ResultStore) -> bool:
    """Whether these are the tuned results of a suite, and `base` holds its others."""
    return store.root.resolve() == base.root.resolve().with_name(f"{base.root.resolve().name}{TUNED}")


def section(store: ResultStore) -> str:
    """The tables as a Markdown section."""
    analysis, folder = analysis_of(store), store.root.resolve().name
    cells, rows = _cells(analysis), ranked(analysis)
    scores, choices = (
        markdown(
            ["method", "name", *table.headers],
            [[_title(analysis, row), f"`{row}`", *table.marked(row)] for row in rows],
        )
        for table in (_scores(analysis), _choices(analysis, escape))
    )
    made = {name: escape(text) for name, text in provenance(analysis.records).items()}
    sorted_by = _HEADERS["transfer" if analysis.transfer else "agreement"]
    about = (
        f"Means over {len(cells)} {CONDITION_NAMES[main_condition(analysis)]} tasks, by families, without those that "
        f"have a broken supervisor. Sorted by *{sorted_by}*; bold: the best mean, where ablations "
        "don't compete."
    )
    parts = [
        "## Equal tuning budget",
        f"Every method may try {GRID_SIZE} settings, the default among them (`w2s describe METHOD` lists them).",
        _TRANSFER if analysis.transfer else _NO_TRANSFER,
        _AGREEMENT,
        f"{_ORACLE}{_shorter(analysis)}",
        about,
        scores,
        _against_baseline(analysis),
        _CHOICES,
        choices,
        f"{made['records']} records, seeds {made['seeds']}; commit {made['commit']}; device {made['device']}.",
        command(folder, tune=True, conditions="" if analysis.select("ind") else "ood"),
    ]
    return "\n\n".join(part for part in parts if part)


def summary(store: ResultStore) -> str:
    """The tables for the terminal."""
    analysis = analysis_of(store)
    tables = [
        plain(["method", *table.headers], [[row, *table.lines[row]] for row in ranked(analysis)])
        for table in (_scores(analysis), _choices(analysis))
    ]
    tuned = "on other families, by their truth" if analysis.transfer else "not, as there is one family"
    about = (
        f"{GRID_SIZE} settings a method; tuned: chosen {tuned}; by agreement: with the supervisors' ensemble on the\n"
        "validation split; mean ± half-width of the 95% interval, in points; an oracle is no method"
    )
    return "\n\n".join([*tables, about])


def _title(analysis: Analysis, row: str) -> str:
    """Of the focus it says which of its rows on the board this is."""
    return title(analysis, row) + _ELSEWHERE * (row == FOCUS and bool(analysis.transfer))


def _shorter(analysis: Analysis) -> str:
    """What the setting with fewer epochs is; nothing where no grid has one."""
    found = sorted({epochs for record in analysis.records if (epochs := short_epochs(record))})
    if not found:
        return ""
    lengths = listing([f"{fewer} epochs in place of {usual}" for usual, fewer in found])
    return f" **Fewer epochs** is the default but for {lengths}: how far scores hang on the length of training."


def _against_baseline(analysis: Analysis) -> str:
    """The focus against the baseline, both tuned on other families and both with their defaults."""

    def gain(which: Which) -> Estimate | None:
        return analysis.over(_cells(analysis), lambda cell: _difference(cell, (FOCUS, which), (BASELINE, which)))

    tuned, default = gain("transfer"), gain("default")
    if not (tuned and default):
        return ""
    return (
        f"{escape(analysis.titles[FOCUS])}{_ELSEWHERE} against `{BASELINE}` that is tuned likewise: "
        f"{percent(tuned, sign=True)}; both with their defaults: {percent(default, sign=True)}."
    )


def _difference(cell: Cell, one: tuple[str, Which], other: tuple[str, Which]) -> Sample | None:
    """Score of a row by some trial minus another one, paired."""
    a, b = cell.score(*one), cell.score(*other)
    return difference(a, b) if a and b else None


def _scores(analysis: Analysis) -> Table:
    """Scores over the tasks, of the same seeds and resamples for all trials, so that differences are paired."""
    cells = _cells(analysis)

    def score(which: Which, header: str) -> Column:
        missing, best = NOT_RUN if which in ("default", "agreement") else "–", max if which != "oracle" else None
        return Column(header, cells, lambda cell, row: cell.score(row, which), missing=missing, best=best)

    def over_default(which: Which, header: str) -> Column:
        def gain(cell: Cell, row: str) -> Sample | None:
            return _difference(cell, (row, which), (row, "default"))

        return Column(f"{header}, minus default", cells, gain, sign=True)

    pairs = [(score(which, header), over_default(which, header)) for which, header in _HEADERS.items()]
    columns = [score("default", "default"), *(column for pair in pairs for column in pair), score("oracle", "oracle")]
    return table_of(analysis, columns)


def chosen_elsewhere(analysis: Analysis, row: str) -> str:
    """Which settings of a method were chosen on other families, as 'eta=0.001: 7 of 8; default: 1 of 8'; nothing where
    none was. Options are anybody's text."""
    families = family_names(_cells(analysis))
    own = [analysis.transfer[row, family] for family in families if (row, family) in analysis.transfer]
    if not own:
        return ""
    record = next(record for record in analysis.records if record.method == row)
    return "; ".join(f"{trial_name(record, at)}: {count} of {len(own)}" for at, count in Counter(own).most_common())


def _choices(analysis: Analysis, written: Callable[[str], str] = str) -> Table:
    """What was chosen; `written` makes anybody's text fit for the page."""
    cells = _cells(analysis)

    def default_by_agreement(row: str) -> str:
        own = [cell for cell in cells if row in cell.records]
        shares = [np.mean([record.diagnostics[CHOSEN] == 0 for record in cell.records[row].values()]) for cell in own]
        return number(float(task_weights(own) @ shares)) if own else "–"

    tuned = TextColumn(_HEADERS["transfer"], lambda row: written(chosen_elsewhere(analysis, row)) or "–")
    return table_of(analysis, [tuned, TextColumn("default chosen by agreement", default_by_agreement)])


def _cells(analysis: Analysis) -> list[Cell]:
    return analysis.headline(main_condition(analysis))
