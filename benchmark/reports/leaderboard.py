"""From a suite's results to LEADERBOARD.md: a pure function, the same bytes each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.analysis.cells import CEILING, FLOOR, Analysis, Cell, analysis_of
from benchmark.analysis.chance import chance_deviation
from benchmark.analysis.format import number, percent
from benchmark.analysis.ranking import ranks
from benchmark.analysis.statistics import RESAMPLES, estimate, rank_correlation
from benchmark.base.errors import W2SError
from benchmark.base.text import bold, escape, listing, markdown, plain
from benchmark.core.metrics import METRICS, Floats
from benchmark.core.records import Record
from benchmark.core.suite import load_suite, suite_names
from benchmark.judging.judgements import read_judged
from benchmark.judging.rates import section as judged_section
from benchmark.reports import tuned
from benchmark.reports.headline import (
    BASELINE,
    COST_UNIT,
    FOCUS,
    Table,
    comparison_table,
    in_order,
    place_text,
    ranked,
    references,
    score_table,
)
from benchmark.reports.stress import section as stress_section
from benchmark.reports.stress import summary as stress_summary
from benchmark.reports.stress import without_stress
from benchmark.results.store import ResultStore

CONDITIONS = {"ood": "out of distribution (OOD)", "ind": "in distribution (InD)"}
_ROLES = {FLOOR: " (floor)", CEILING: " (ceiling)"}


def render(store: ResultStore, *others: ResultStore) -> str:
    """The leaderboard of `results/<suite>` as Markdown, and those of other suites below it.

    Tuned results of one of these suites are a section of it.
    """
    stores = [store, *others]
    belonging = {base: other for base in stores for other in others if tuned.belongs_to(other, base)}
    parts = [f"# Leaderboard\n\n{_intro()}", *sections(_with_records(store), store, belonging.get(store))]
    for other in others:
        if other in belonging.values():
            continue
        name = other.root.name
        about = f"\n\n{load_suite(name).description}." if name in suite_names() else ""
        parts += [f"# Suite `{name}`{about}", *sections(_with_records(other), other, belonging.get(other))]
    return "\n\n".join(parts) + "\n"


def sections(analysis: Analysis, store: ResultStore, tuned_store: ResultStore | None = None) -> list[str]:
    """The parts of a suite's leaderboard, each a Markdown section with its heading."""
    if tuned.holds_tuned(store):
        return [part for part in (tuned.section(store), _problems(analysis.problems)) if part]
    tuned_problems: list[str] = []
    if tuned_store is not None:
        found = _with_records(tuned_store).problems
        tuned_problems = [f"{tuned_store.root.name}/{problem}" for problem in found]
    judged = read_judged(store.root)
    rest = without_stress(analysis)
    modalities = in_order(cell.evaluation.modality for cell in rest.cells.values())
    parts = [_headline(rest), *(_modality(rest, name) for name in modalities), _winners(rest)] if rest.cells else []
    parts += [stress_section(analysis), judged_section(judged, {record.key for record in analysis.records})]
    parts += [_weights(analysis), tuned.section(tuned_store) if tuned_store else ""]
    parts += [_provenance(analysis, store.root.name)]
    parts += [_problems([*analysis.problems, *judged.problems, *tuned_problems])]
    return [part for part in parts if part]


def summary(store: ResultStore) -> str:
    """The headline tables for the terminal."""
    whole = _with_records(store)
    if tuned.holds_tuned(store):
        return tuned.summary(store)
    analysis = without_stress(whole)
    if not analysis.cells:
        return stress_summary(whole)
    tables = [
        plain(["method", *table.headers], [[row, *table.lines[row]] for row in rows])
        for table in (score_table(analysis), comparison_table(analysis))
        for rows in (ranked(analysis), references(analysis))
    ]
    return "\n\n".join([*tables, "mean ± half-width of the 95% interval, in points"])


def _with_records(store: ResultStore) -> Analysis:
    analysis = analysis_of(store)
    if not analysis.records:
        first = f" ({analysis.problems[0]})" if analysis.problems else ""
        raise W2SError(f"{store.root}: no results there{first}; make some with `w2s run --results {store.root}`")
    return analysis


def _intro() -> str:
    return f"""\
Made by `w2s leaderboard` from the folder of results alone.

- **OOD**: the pool comes from a domain that the supervisors have never seen. **InD**: it comes from their own domains.
- **Rank** is 1 + the number of methods that are significantly better: paired differences of the mean over all tasks of
  a table, 5% level, Holm's correction over all pairs of methods. Equal ranks are ties. A method whose seeds differ
  little is told apart more easily, so a rank may be behind that of a lower mean. Ablations have none.
- **Scores** are each task's own metric in percent, mean ± half-width of the 95% interval. The half-width is
  √(seeds² + examples²): a t interval on paired seed means, and a bootstrap ({RESAMPLES:,} resamples) over groups of
  test examples, the same for all methods and seeds of a task. It is conservative: seeds also draw their own splits.
  Tasks with the same test examples share resamples; others count as independent, though some draw on one corpus.
- **P(> x)**, the probability of improvement over x: share of (task, seed), in percent, where the score is higher than
  that of x, ties counting half. Only runs of one seed are compared, which share split, minibatches and initial weights.
- **PGR** (performance gap recovered): how much of the gap between floor (mean supervisor) and ceiling (student trained
  on the truth) a method closes, in percent; a ratio of seed means, undefined where the gap is below 2 points.
- **Failure rate**: share of (task, seed), in percent, where the student is worse than the mean of its supervisors.
- **Cost**: optimizer steps × heads, relative to `{COST_UNIT}` on the same tasks and seeds.
- **Bold**: the best mean; ablations don't compete. Methods are sorted by their mean, which tells less than the rank.
- *(k/n)*: only k of n tasks were run. †: fewer seeds than the others. Such means are not comparable with the rest: they
  stand last, have no rank and are never the best. "not run" is never counted as a zero."""


def _headline(analysis: Analysis) -> str:
    scores, comparisons = score_table(analysis), comparison_table(analysis)

    def texts(table: Table, row: str) -> list[str]:
        pairs = zip(table.headers, table.lines[row], strict=True)
        return [bold(text) if row in table.best.get(header, ()) else text for header, text in pairs]

    def score_lines(rows: Sequence[str]) -> str:
        lines = []
        for row in rows:
            rank, *means = texts(scores, row)
            mark = " *(ablation)*" if row in analysis.ablations else ""
            lines.append([rank, escape(analysis.titles[row]) + mark, f"`{row}`", *means])
        return markdown(["rank", "method", "name", *scores.headers[1:]], lines)

    def comparison_lines(rows: Sequence[str]) -> str:
        return markdown(["name", *comparisons.headers], [[f"`{row}`", *texts(comparisons, row)] for row in rows])

    methods, others = ranked(analysis), references(analysis)
    text = f"## Methods\n\n{score_lines(methods)}\n\n"
    text += "The columns of one modality leave out the tasks with a broken supervisor.\n\n"
    text += f"### How they compare\n\n{comparison_lines(methods)}\n\n"
    text += f"### Canaries and reference rows\n\n{score_lines(others)}\n\n{comparison_lines(others)}"
    text += "\n\n`ground_truth` and `best_supervisor` know the truth: an upper bound and an oracle, not methods."
    if deviation := chance_deviation(analysis):
        text += (
            f" `random_supervision` is {number(deviation.mean, sign=True)} points from chance on average "
            f"(standard error {number(deviation.standard_error)}, {deviation.runs} runs)."
        )
    return text


def _winning(cell: Cell, rows: Sequence[str]) -> set[str]:
    """Rows with the cell's best score, among those that have all its seeds."""
    means = {row: cell.samples[row].mean for row in rows if cell.full(row)}
    return {row for row, mean in means.items() if max(means.values()) - mean < 1e-9}


def _modality(analysis: Analysis, modality: str) -> str:
    text = f"## Tasks: {escape(modality)}"
    rows = [*ranked(analysis), *references(analysis)]
    for condition, title in CONDITIONS.items():
        cells = analysis.select(condition, modality)
        if not cells:
            continue
        best = [_winning(cell, analysis.competitors) for cell in cells]
        places = ranks(analysis, cells)
        lines = []
        for row in rows:
            texts = [_cell_text(cell, row) for cell in cells]
            marked = [bold(text) if row in top else text for text, top in zip(texts, best, strict=True)]
            lines.append([place_text(places[row]), f"`{row}`{_ROLES.get(row, '')}", *marked])
        text += f"\n\n### {escape(modality)}, {title}\n\n"
        text += markdown(["rank", "method", *(cell.evaluation.task for cell in cells)], lines)
        by_metric: dict[str, list[str]] = {}
        for cell in cells:
            by_metric.setdefault(cell.evaluation.metric.replace("_", " "), []).append(cell.evaluation.task)
        text += f"\n\nMetric: {'; '.join(f'{metric} ({listing(tasks)})' for metric, tasks in by_metric.items())}."
        if small := [cell.evaluation.task for cell in cells if cell.has_gap is False]:
            text += f" The gap between floor and ceiling is too small for PGR on {listing(small)}."
        if weak := [cell.evaluation.task for cell in cells if _at_chance(cell)]:
            text += (
                f" The floor is not above chance (1/K) by more than its interval on {listing(weak)}: differences there "
                "say little."
            )
    return text


def _at_chance(cell: Cell) -> bool:
    """Whether the supervisors are hardly better than guessing, where the metric has a score for that."""
    floor = estimate([cell.samples[FLOOR]])
    known = METRICS[cell.evaluation.metric].uniform_chance
    return known and floor.mean - 1 / cell.evaluation.num_classes <= floor.half


def _cell_text(cell: Cell, row: str) -> str:
    sample = cell.score(row)
    return percent(estimate([sample]) if sample else None, of_runs=len(cell.evaluation.seeds))


def _winners(analysis: Analysis) -> str:
    text = "## Who is best where\n\nBy mean score, among methods that ran all seeds of the task; ablations, canaries "
    text += "and reference rows don't compete. Many of these differences are within their intervals."
    for condition, title in CONDITIONS.items():
        cells = analysis.select(condition)
        if not cells:
            continue
        won: dict[str, list[str]] = {}
        for cell in cells:
            for row in sorted(_winning(cell, analysis.competitors)):
                won.setdefault(row, []).append(cell.evaluation.task)
        text += f"\n\n### {title[0].upper()}{title[1:]}, {len(cells)} tasks\n\n"
        lines = [
            f"- `{row}` is best on {len(tasks)}: {listing(tasks)}."
            for row, tasks in sorted(won.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
        if losers := sorted(set(analysis.competitors) - set(won)):
            lines.append(f"- Best on none: {listing([f'`{row}`' for row in losers])}.")
        lines += _behind(cells)
        text += "\n".join(lines)
    return text


def _behind(cells: Sequence[Cell]) -> list[str]:
    """On which tasks the focus is behind the baseline, and by how much."""
    gains = [(cell.evaluation.task, cell.gain(FOCUS, BASELINE)) for cell in cells]
    results = [(task, estimate([gain])) for task, gain in gains if gain]
    if not results:
        return []
    behind = [(task, result) for task, result in results if result.mean < -1e-9]
    clear = sum(result.mean < -result.half for _, result in behind)
    clear_ahead = sum(result.mean > result.half for _, result in results)
    shown = ", ".join(f"{task} ({percent(result, sign=True)})" for task, result in behind)
    text = f"- `{FOCUS}` is behind `{BASELINE}` on {len(behind)} of {len(results)} tasks"
    text += f": {shown}" if behind else ""
    return [f"{text}. By more than the interval it is behind on {clear} and ahead on {clear_ahead}."]


def _weights(analysis: Analysis) -> str:
    """Learned supervisor weights against the supervisors' scores, for every method that records weights (M,)."""
    lines = []
    for row in analysis.competitors:
        correlations = []
        for cell in analysis.cells.values():
            found = [
                (weights, cell.supervisor_scores[seed])
                for seed, record in sorted(cell.records.get(row, {}).items())
                if (weights := learned_weights(record, len(cell.evaluation.supervisors))) is not None
            ]
            if not found:
                continue
            defined = [r for w, s in found if not np.isnan(r := rank_correlation(w, s))]
            correlations += [float(np.mean(defined))] if defined else []
            best = np.mean([w[s.argmax()] for w, s in found])
            worst = np.mean([w[s.argmin()] for w, s in found])
            correlation = f"{round(np.mean(defined), 9):+.2f}" if defined else "–"
            where = [cell.evaluation.task, {"ood": "OOD", "ind": "InD"}[cell.evaluation.condition]]
            shares = [f"{round(float(w), 9):.2f}" for w in (1 / len(cell.evaluation.supervisors), best, worst)]
            lines.append([f"`{row}`", *where, correlation, *shares])
        if correlations:
            lines.append([f"`{row}`", bold("mean"), "", f"{round(np.mean(correlations), 9):+.2f}", "", "", ""])
    if not lines:
        return ""
    headers = ["method", "task", "condition", "rank correlation", "uniform", "on the best", "on the worst"]
    return (
        "## Learned weights against the supervisors' scores\n\n"
        "Spearman's correlation between the weights at the end of training and the supervisors' test scores, and the "
        "weight on the supervisor that is best and worst by test score; each the mean over seeds. With three or four "
        "supervisors a single correlation says little.\n\n" + markdown(headers, lines)
    )


def learned_weights(record: Record, members: int) -> Floats | None:
    """The record's learned weights, if it has one for each of M supervisors: (M,)."""
    weights = record.diagnostics.get("weights")
    if not isinstance(weights, list) or len(weights) != members or not all(isinstance(w, float) for w in weights):
        return None
    return np.array(weights)


def _provenance(analysis: Analysis, suite: str) -> str:
    records = analysis.records

    def several(values: Sequence[str]) -> str:
        return listing([escape(value) for value in sorted(set(values))])

    def versions(kind: str, found: set[tuple[str, int]]) -> str:
        usual = Counter(version for _, version in found).most_common(1)[0][0]
        others = [f"`{name}` {version}" for name, version in sorted(found) if version != usual]
        return f"- {kind} versions: {usual}" + (f", but {listing(others)}" if others else "")

    evaluations = [cell.evaluation for cell in analysis.cells.values()]
    methods = len({record.method for record in records})
    lines = [
        f"- {len(records):,} records: {len(evaluations)} tasks × conditions, {methods} methods and canaries, "
        f"seeds {listing([str(seed) for seed in sorted({r.seed for r in records})])}",
        f"- engine version: {several([str(record.engine_version) for record in records])}",
        versions("method", {(record.method, record.method_version) for record in records}),
        versions("task", {(evaluation.task, evaluation.task_version) for evaluation in evaluations}),
        *([f"- students: {several(students)}"] if (students := [s for r in records if (s := _student(r))]) else []),
        f"- commit: {several([record.commit for record in records])}",
        f"- device: {several([record.device for record in records])}",
        f"- libraries: {several([f'{name} {v}' for record in records for name, v in record.libraries.items()])}",
    ]
    arrays = suite.startswith("arrays-")
    command = "w2s run --arrays FILE" if arrays else f"w2s run --suite {suite} --results results/{suite}"
    return "## How it was made\n\n" + "\n".join(lines) + f"\n\n```\n{command}\n```"


def _student(record: Record) -> str:
    """What a language model that was the student truly is, and how much of it was trained."""
    chosen: dict[str, Any] = record.hyperparameters.get("student", {})  # type: ignore[assignment]
    if "model_description" not in chosen:
        return ""
    blocks = chosen["lora_blocks"]
    where = "all blocks" if blocks is None else f"the last {blocks} blocks"
    return f"{chosen['model_description']}, as {chosen['objective']}, LoRA of rank {chosen['lora_rank']} on {where}"


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    lines = "\n".join(f"- {escape(problem)}" for problem in problems)
    return f"## Problems\n\nNot used, or not as it should be:\n\n{lines}"
