"""From a suite's results to LEADERBOARD.md: a pure function, the same bytes each time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from benchmark.analysis.cells import FLOOR, Analysis, Cell, CellKey, analysis_with_records, task_weights
from benchmark.analysis.chance import chance_deviation
from benchmark.analysis.format import number, percent
from benchmark.analysis.statistics import RESAMPLES, estimate
from benchmark.analysis.weights import learned_weights, weights_correlation
from benchmark.base.text import escape, listing, markdown, plain
from benchmark.core.metrics import METRICS
from benchmark.core.names import CONDITION_NAMES, CONDITION_TITLES, TRAIN_TRUTH
from benchmark.core.records import Record
from benchmark.core.suite import load_suite, suite_names
from benchmark.judging.judgements import read_judged
from benchmark.judging.rates import section as judged_section
from benchmark.reports import claims, method_families, stress, tuned
from benchmark.reports.extras import extras
from benchmark.reports.headline import (
    BASELINE,
    COST_UNIT,
    FOCUS,
    ROLES,
    Table,
    both_conditions,
    broken_cells,
    broken_table,
    by_mean,
    comparison_table,
    effect_table,
    in_order,
    main_condition,
    rank_column,
    ranked,
    references,
    score_table,
    table_of,
    task_columns,
    ties,
    title,
    whole_pool,
)
from benchmark.reports.provenance import command, provenance
from benchmark.results.manifest import read_manifest
from benchmark.results.seconds import MethodSeconds, read_seconds
from benchmark.results.store import ResultStore
from benchmark.results.untrained import untrained

_WHOLE_POOL = f"""\
- **The whole pool is scored**: students have not seen the truth of its train split either. But rows that were made from
  that truth ({listing([f"`{row}`" for row in sorted(TRAIN_TRUTH)])}) are scored on the test split alone, and so is
  whatever is compared with one of them or with the supervisors (PGR, failure rate): a student has been given the
  supervisors' answers to the train split, and is nearer to the truth there than on new examples. *Test split alone*
  is every row's score there."""


def render(store: ResultStore, *others: ResultStore) -> str:
    """The leaderboard of `results/<suite>` as Markdown, and those of other suites below it.

    Tuned results of one of these suites are a section of it.

    Raises:
        W2SError: one of the folders holds no results.
    """
    stores = [store, *others]
    belonging = {base: other for base in stores for other in others if tuned.belongs_to(other, base)}
    intro = Template((Path(__file__).parents[1] / "templates" / "leaderboard.md.txt").read_text(encoding="utf-8"))
    top = "".join(f"{part}\n\n" for part in _top(store))
    parts = [intro.substitute(top=top, resamples=f"{RESAMPLES:,}", cost_unit=COST_UNIT).rstrip()]
    if any(whole_pool(analysis_with_records(suite).cells.values()) for suite in stores):
        parts[0] += f"\n{_WHOLE_POOL}"
    for suite in stores:
        if suite in belonging.values():
            continue
        if suite is not store:
            name = suite.root.name
            about = f"\n\n{load_suite(name).description}." if name in suite_names() else ""
            parts += [f"# Suite `{name}`{about}", *_top(suite)]
        parts += _sections(suite, belonging.get(suite))
    return "\n\n".join(parts) + "\n"


def _top(store: ResultStore) -> list[str]:
    """What is said of a suite before all else: that its protocol is older, and what its results say of claims and
    of families of methods."""
    rest = stress.without_stress(analysis_with_records(store))
    about = (claims, method_families) if rest.cells and not tuned.holds_tuned(store) else ()
    older = "" if store.older is None else f"**Of an older protocol.** {store.older}"
    return [part for part in (older, *(each.section(rest) for each in about)) if part]


def _sections(store: ResultStore, tuned_store: ResultStore | None) -> list[str]:
    """The parts of a suite's leaderboard, each a Markdown section with its heading."""
    analysis = analysis_with_records(store)
    problems, parts = list(analysis.problems), list[str]()
    if tuned.holds_tuned(store):
        parts.append(tuned.section(store))
    else:
        judged, rest = read_judged(store.root), stress.without_stress(analysis)
        if rest.cells:
            modalities = in_order(cell.evaluation.modality for cell in rest.cells.values())
            parts += [_headline(rest, read_seconds(store.root)), _broken(rest)]
            faults = untrained(store.load())
            parts += [*(_modality(rest, name, faults) for name in modalities), _winners(rest)]
        parts += [stress.section(analysis), judged_section(judged, {record.key for record in analysis.records})]
        parts.append(_weights(analysis))
        problems += judged.problems
        if tuned_store is not None:
            found = analysis_with_records(tuned_store).problems
            problems += [f"{tuned_store.root.name}/{problem}" for problem in found]
            parts.append(tuned.section(tuned_store))
            if tuned_store.older not in (None, store.older):
                parts.append(f"**These tuned results are of an older protocol.** {tuned_store.older}")
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
    broken = [broken_table(analysis)] if broken_cells(analysis) else []
    tables = [
        plain(["method", *table.headers], [[row, *table.lines[row]] for row in rows])
        for table in (
            score_table(analysis),
            effect_table(analysis),
            comparison_table(analysis, read_seconds(store.root)),
            *broken,
        )
        for rows in (ranked(analysis), references(analysis))
    ]
    cells = analysis.headline(main_condition(analysis))
    about = "mean ± half-width of the 95% interval, in points; means are over families of means over their tasks"
    said = [text.replace("`", "") for text in (ties(analysis, cells), extras(analysis, both_conditions(analysis)))]
    return "\n\n".join(part for part in (*tables, *said, about) if part)


def _headline(analysis: Analysis, measured: MethodSeconds | None) -> str:
    scores, tables = score_table(analysis), (effect_table(analysis), comparison_table(analysis, measured))
    methods, others = ranked(analysis), references(analysis)
    effects, comparisons = (_lines(table, methods) for table in tables)
    deviation = chance_deviation(analysis)
    at_chance = deviation and (
        f" `random_supervision` is {number(deviation.mean, sign=True)} points from chance on average "
        f"(standard error {number(deviation.standard_error)}, {deviation.runs} runs)."
    )
    parts = [
        "## Methods",
        _ranked_lines(analysis, scores, methods),
        ties(analysis, analysis.headline(main_condition(analysis))),
        extras(analysis, both_conditions(analysis)),
        "Tasks with a broken supervisor are in no column; they have a table of their own."
        * bool(broken_cells(analysis)),
        method_families.table(analysis),
        f"### Against `{BASELINE}`, by family",
        effects,
        "*Families as random*: half-width of the mean's interval if families were random draws. A mean over families "
        "that differ in sign hides two effects.",
        "### How they compare",
        comparisons,
        _seconds(measured) if measured else "",
        "### Canaries and reference rows",
        _ranked_lines(analysis, scores, others),
        *(_lines(table, others) for table in tables),
        f"{_oracles(analysis)}{at_chance or ''}",
    ]
    return "\n\n".join(part for part in parts if part)


def _broken(analysis: Analysis) -> str:
    """Tasks with a broken supervisor, which are in no mean over all tasks; nothing without any."""
    cells = broken_cells(analysis)
    if not cells:
        return ""
    rows, variants = [*by_mean(analysis, cells, analysis.methods), *references(analysis)], len(cells)
    bases = len({cell.base for cell in cells})
    about = f"Tasks in which one supervisor is broken: {variants}. "
    if variants > bases:
        about += f"Those of one base ({bases}) are averaged first, so that every supervisor is broken in each seed. "
    about += "The mean is over families of means over bases; minus, PGR and failure rate are of that mean."
    lines = _ranked_lines(analysis, broken_table(analysis), rows)
    return "\n\n".join(part for part in ("## Broken supervisors", about, lines, ties(analysis, cells)) if part)


def _ranked_lines(analysis: Analysis, table: Table, rows: Sequence[str]) -> str:
    """A table whose first column is the rank, with titles and names."""
    lines = []
    for row in rows:
        rank, *means = table.marked(row)
        lines.append([rank, title(analysis, row), f"`{row}`", *means])
    return markdown(["rank", "method", "name", *table.headers[1:]], lines)


def _lines(table: Table, rows: Sequence[str]) -> str:
    return markdown(["name", *table.headers], [[f"`{row}`", *table.marked(row)] for row in rows])


def _seconds(measured: MethodSeconds) -> str:
    return (
        f"Seconds are those of the processor for one seed's training of a method alone, relative to `{COST_UNIT}`; "
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


def _modality(analysis: Analysis, modality: str, faults: Mapping[CellKey, str]) -> str:
    """One modality's tables; `faults` says where students were hardly trained."""
    text = f"## Tasks: {escape(modality)}"
    for condition, name in CONDITION_TITLES.items():
        if not (cells := analysis.select(condition, modality)):
            continue
        ranked_by = [cell for cell in cells if not cell.broken] or cells
        table = table_of(analysis, [rank_column(analysis, ranked_by), *task_columns(cells)])
        lines = []
        for row in [*by_mean(analysis, ranked_by, analysis.methods), *references(analysis)]:
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
        of = [(cell.evaluation.task, faults.get((cell.evaluation.task, condition))) for cell in cells]
        if hardly := [f"{task}: {fault}" for task, fault in of if fault]:
            text += f" Students were hardly trained, so that methods can't be judged, on {listing(hardly)}."
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
