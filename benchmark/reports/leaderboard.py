"""From a suite's results to LEADERBOARD.md: a pure function, the same bytes each time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from benchmark.analysis.cells import FLOOR, Analysis, Cell, analysis_with_records, task_weights
from benchmark.analysis.chance import chance_deviation
from benchmark.analysis.format import number, percent
from benchmark.analysis.statistics import RESAMPLES, estimate, rank_correlation
from benchmark.base.text import escape, listing, markdown, plain
from benchmark.core.metrics import METRICS, Floats
from benchmark.core.names import CONDITION_NAMES, CONDITION_TITLES, TRAIN_TRUTH
from benchmark.core.records import Record
from benchmark.core.suite import load_suite, suite_names
from benchmark.judging.judgements import read_judged
from benchmark.judging.rates import section as judged_section
from benchmark.reports import stress, tuned
from benchmark.reports.headline import (
    BASELINE,
    COST_UNIT,
    FOCUS,
    ROLES,
    comparison_table,
    in_order,
    rank_column,
    ranked,
    references,
    score_table,
    table_of,
    task_columns,
    title,
    whole_pool,
)
from benchmark.reports.provenance import command, provenance
from benchmark.results.manifest import read_manifest
from benchmark.results.seconds import MethodSeconds, read_seconds
from benchmark.results.store import ResultStore

_WHOLE_POOL = f"""\
- **The whole pool is scored**: students have not seen the truth of its train split either. Rows that were made from
  that truth ({listing([f"`{row}`" for row in sorted(TRAIN_TRUTH)])}) are scored on the test split alone, and so is
  whatever they are compared with. PGR is score minus floor on the whole pool, divided by ceiling minus floor on the
  test split.
  *Test split alone* is every row's score there."""


def render(store: ResultStore, *others: ResultStore) -> str:
    """The leaderboard of `results/<suite>` as Markdown, and those of other suites below it.

    Tuned results of one of these suites are a section of it.

    Raises:
        W2SError: one of the folders holds no results.
    """
    stores = [store, *others]
    belonging = {base: other for base in stores for other in others if tuned.belongs_to(other, base)}
    intro = Template((Path(__file__).parents[1] / "templates" / "leaderboard.md.txt").read_text(encoding="utf-8"))
    parts = [intro.substitute(resamples=f"{RESAMPLES:,}", cost_unit=COST_UNIT).rstrip()]
    if any(whole_pool(analysis_with_records(suite).cells.values()) for suite in stores):
        parts[0] += f"\n{_WHOLE_POOL}"
    for suite in stores:
        if suite in belonging.values():
            continue
        if suite is not store:
            name = suite.root.name
            about = f"\n\n{load_suite(name).description}." if name in suite_names() else ""
            parts.append(f"# Suite `{name}`{about}")
        parts += _sections(suite, belonging.get(suite))
    return "\n\n".join(parts) + "\n"


def _sections(store: ResultStore, tuned_store: ResultStore | None) -> list[str]:
    """The parts of a suite's leaderboard, each a Markdown section with its heading."""
    analysis = analysis_with_records(store)
    problems, parts = list(analysis.problems), []
    if store.older is not None:
        parts.append(f"**Of an older protocol.** {store.older}")
    if tuned.holds_tuned(store):
        parts.append(tuned.section(store))
    else:
        judged, rest = read_judged(store.root), stress.without_stress(analysis)
        if rest.cells:
            modalities = in_order(cell.evaluation.modality for cell in rest.cells.values())
            parts += [
                _headline(rest, read_seconds(store.root)),
                *(_modality(rest, name) for name in modalities),
                _winners(rest),
            ]
        parts += [stress.section(analysis), judged_section(judged, {record.key for record in analysis.records})]
        parts.append(_weights(analysis))
        problems += judged.problems
        if tuned_store is not None:
            found = analysis_with_records(tuned_store).problems
            problems += [f"{tuned_store.root.name}/{problem}" for problem in found]
            parts.append(tuned.section(tuned_store))
        parts.append(_provenance(analysis, store.root))
    if problems:
        lines = "\n".join(f"- {escape(problem)}" for problem in problems)
        parts.append(f"## Problems\n\nNot used, or not as it should be:\n\n{lines}")
    return [part for part in parts if part]


def summary(store: ResultStore) -> str:
    """The headline tables for the terminal."""
    whole = analysis_with_records(store)
    if tuned.holds_tuned(store):
        return tuned.summary(store)
    analysis = stress.without_stress(whole)
    if not analysis.cells:
        return stress.summary(whole)
    tables = [
        plain(["method", *table.headers], [[row, *table.lines[row]] for row in rows])
        for table in (score_table(analysis), comparison_table(analysis, read_seconds(store.root)))
        for rows in (ranked(analysis), references(analysis))
    ]
    return "\n\n".join(
        [*tables, "mean ± half-width of the 95% interval, in points; means are over families of means over their tasks"]
    )


def _headline(analysis: Analysis, measured: MethodSeconds | None) -> str:
    scores, comparisons = score_table(analysis), comparison_table(analysis, measured)

    def score_lines(rows: Sequence[str]) -> str:
        lines = []
        for row in rows:
            rank, *means = scores.marked(row)
            lines.append([rank, title(analysis, row), f"`{row}`", *means])
        return markdown(["rank", "method", "name", *scores.headers[1:]], lines)

    def comparison_lines(rows: Sequence[str]) -> str:
        return markdown(["name", *comparisons.headers], [[f"`{row}`", *comparisons.marked(row)] for row in rows])

    methods, others = ranked(analysis), references(analysis)
    deviation = chance_deviation(analysis)
    at_chance = deviation and (
        f" `random_supervision` is {number(deviation.mean, sign=True)} points from chance on average "
        f"(standard error {number(deviation.standard_error)}, {deviation.runs} runs)."
    )
    return f"""\
## Methods

{score_lines(methods)}

The columns of one modality leave out the tasks with a broken supervisor.

### How they compare

{comparison_lines(methods)}{_seconds(measured) if measured else ""}

### Canaries and reference rows

{score_lines(others)}

{comparison_lines(others)}

{_oracles(analysis)}{at_chance or ""}"""


def _seconds(measured: MethodSeconds) -> str:
    return (
        f"\n\nSeconds are those of the processor for one seed's training of a method alone, relative to `{COST_UNIT}`; "
        f"measured apart from the results, on {listing(list(measured.tasks))} (medians of {measured.repeats}), "
        f"{escape(measured.date)}, {escape(measured.processor)}."
    )


def _oracles(analysis: Analysis) -> str:
    if "oracle_weights" not in analysis.titles:
        return "`ground_truth` and `best_supervisor` know the truth: an upper bound and an oracle, not methods."
    return (
        "`ground_truth`, `best_supervisor` and `oracle_weights` know the truth: an upper bound and two oracles, not "
        "methods. What `oracle_weights` gains over `ensemble` is all that one weight for each supervisor could gain."
    )


def _modality(analysis: Analysis, modality: str) -> str:
    text = f"## Tasks: {escape(modality)}"
    for condition, name in CONDITION_TITLES.items():
        if not (cells := analysis.select(condition, modality)):
            continue
        table = table_of(analysis, [rank_column(analysis, cells), *task_columns(cells)])
        lines = []
        for row in [*ranked(analysis), *references(analysis)]:
            rank, *scores = table.marked(row)
            lines.append([rank, f"`{row}`{ROLES.get(row, '')}", *scores])
        by_metric: dict[str, list[str]] = {}
        for cell in cells:
            by_metric.setdefault(cell.evaluation.metric.replace("_", " "), []).append(cell.evaluation.task)
        metrics = "; ".join(f"{metric} ({listing(tasks)})" for metric, tasks in by_metric.items())
        text += f"\n\n### {escape(modality)}, {name}\n\n{markdown(['rank', 'method', *table.headers[1:]], lines)}"
        text += f"\n\nMetric: {metrics}."
        if small := [cell.evaluation.task for cell in cells if cell.has_gap is False]:
            text += f" The gap between floor and ceiling is too small for PGR on {listing(small)}."
        guessable = [cell for cell in cells if METRICS[cell.evaluation.metric].uniform_chance]
        floors = [(cell.evaluation, estimate([cell.samples[FLOOR]])) for cell in guessable]
        if weak := [of.task for of, floor in floors if floor.mean - 1 / of.num_classes <= floor.half]:
            text += f" The floor is not above chance (1/K) by more than its interval on {listing(weak)}: differences "
            text += "there say little."
    return text


def _winners(analysis: Analysis) -> str:
    text = "## Who is best where\n\nBy mean score, among methods that ran all seeds of the task; ablations, canaries "
    text += "and reference rows don't compete. Many of these differences are within their intervals."
    for condition, name in CONDITION_TITLES.items():
        if not (cells := analysis.select(condition)):
            continue
        won: dict[str, list[str]] = {}
        for column in task_columns(cells):
            for row in sorted(column.leaders(analysis.competitors)):
                won.setdefault(row, []).append(column.header)
        lines = [
            f"- `{row}` is best on {len(tasks)}: {listing(tasks)}."
            for row, tasks in sorted(won.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
        if losers := sorted(set(analysis.competitors) - set(won)):
            lines.append(f"- Best on none: {listing([f'`{row}`' for row in losers])}.")
        lines += _behind(cells)
        text += f"\n\n### {name[0].upper()}{name[1:]}, {len(cells)} tasks\n\n" + "\n".join(lines)
    return text


def _behind(cells: Sequence[Cell]) -> list[str]:
    """On which tasks the focus is behind the baseline, and by how much."""
    gains = [(cell.evaluation.task, cell.gain(FOCUS, BASELINE)) for cell in cells]
    results = [(task, estimate([gain])) for task, gain in gains if gain]
    behind = [(task, result) for task, result in results if result.mean < -1e-9]
    clear = sum(result.mean < -result.half for _, result in behind)
    clear_ahead = sum(result.mean > result.half for _, result in results)
    where = ": " * bool(behind) + ", ".join(f"{task} ({percent(result, sign=True)})" for task, result in behind)
    text = f"- `{FOCUS}` is behind `{BASELINE}` on {len(behind)} of {len(results)} tasks{where}. By more than the "
    return [f"{text}interval it is behind on {clear} and ahead on {clear_ahead}."] if results else []


def _weights(analysis: Analysis) -> str:
    """Learned supervisor weights against the supervisors' scores, for every method that records weights (M,)."""
    lines = []
    for row in analysis.competitors:
        correlations: dict[Cell, float] = {}
        for cell in analysis.cells.values():
            if not (learned := learned_weights(cell, row)):
                continue
            pairs = [(weights, cell.supervisor_scores[seed]) for seed, weights in learned.items()]
            best = np.mean([weights[scores.argmax()] for weights, scores in pairs])
            worst = np.mean([weights[scores.argmin()] for weights, scores in pairs])
            correlation = weights_correlation(cell, learned)
            if correlation is not None:
                correlations[cell] = correlation
            shown = "–" if correlation is None else f"{round(correlation, 9):+.2f}"
            shares = [f"{round(float(w), 9):.2f}" for w in (1 / len(cell.evaluation.supervisors), best, worst)]
            lines.append([f"`{row}`", cell.evaluation.task, CONDITION_NAMES[cell.evaluation.condition], shown, *shares])
        if correlations:
            mean = float(task_weights([*correlations]) @ [*correlations.values()])
            lines.append([f"`{row}`", "**mean**", "", f"{round(mean, 9):+.2f}", "", "", ""])
    if not lines:
        return ""
    headers = ["method", "task", "condition", "rank correlation", "uniform", "on the best", "on the worst"]
    score = "score" if whole_pool(analysis.cells.values()) else "test score"
    return (
        "## Learned weights against the supervisors' scores\n\n"
        f"Spearman's correlation between the weights at the end of training and the supervisors' {score}s, and the "
        f"weight on the supervisor that is best and worst by {score}; each the mean over seeds, below them over "
        "families of means over their tasks. With three or four supervisors a single correlation says little.\n\n"
        + markdown(headers, lines)
    )


def learned_weights(cell: Cell, row: str) -> dict[int, Floats]:
    """(M,) the weight of each supervisor at the end of training, for each seed whose record has them."""
    members = len(cell.evaluation.supervisors)
    found = {seed: record.diagnostics.get("weights") for seed, record in cell.records.get(row, {}).items()}
    return {
        seed: np.array(weights)
        for seed, weights in found.items()
        if isinstance(weights, list) and len(weights) == members and all(isinstance(w, float) for w in weights)
    }


def weights_correlation(cell: Cell, learned: Mapping[int, Floats]) -> float | None:
    """Rank correlation of weights and the supervisors' scores, mean over seeds; None where it is undefined."""
    found = [rank_correlation(weights, cell.supervisor_scores[seed]) for seed, weights in learned.items()]
    defined = [value for value in found if not np.isnan(value)]
    return float(np.mean(defined)) if defined else None


def _provenance(analysis: Analysis, folder: Path) -> str:
    records, evaluations = analysis.records, [cell.evaluation for cell in analysis.cells.values()]
    made = {name: escape(text) for name, text in provenance(records).items()}

    def versions(found: set[tuple[str, int]]) -> str:
        usual = Counter(version for _, version in sorted(found)).most_common(1)[0][0]
        others = [f"`{name}` {version}" for name, version in sorted(found) if version != usual]
        return f"{usual}" + f", but {listing(others)}" * bool(others)

    methods = len({record.method for record in records})
    submitted = [
        f"`{name}`, developed on: {escape(manifest.statement)}"
        for name, version in sorted({(record.method, record.method_version) for record in records})
        if (manifest := read_manifest(folder / name)) and manifest.method_version == version
    ]
    students = sorted({student for record in records if (student := _student(record))})
    lines = {
        f"{made['records']} records": f"{len(evaluations)} tasks × conditions, {methods} methods and canaries, seeds "
        + made["seeds"],
        "engine version": made["engine version"],
        "method versions": versions({(record.method, record.method_version) for record in records}),
        "task versions": versions({(evaluation.task, evaluation.task_version) for evaluation in evaluations}),
        **({"students": escape(listing(students))} if students else {}),
        **{name: made[name] for name in ("commit", "device", "libraries")},
        **({"submissions": "; ".join(submitted)} if submitted else {}),
    }
    text = "\n".join(f"- {name}: {value}" for name, value in lines.items())
    return f"## How it was made\n\n{text}\n\n{command(folder.name)}"


def _student(record: Record) -> str:
    """What a language model that was the student truly is, and how much of it was trained."""
    chosen: dict[str, Any] = record.hyperparameters.get("student", {})  # type: ignore[assignment]
    if "model_description" not in chosen:
        return ""
    blocks = chosen["lora_blocks"]
    where = "all blocks" if blocks is None else f"the last {blocks} blocks"
    return f"{chosen['model_description']}, as {chosen['objective']}, LoRA of rank {chosen['lora_rank']} on {where}"
