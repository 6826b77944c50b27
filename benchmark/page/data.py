"""From a suite's analysis to what the page shows: plain values, in the leaderboard's own numbers and texts."""

import inspect
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmark.analysis.cells import CEILING, FLOOR, MEAN_SUPERVISOR, Analysis, Cell, analysis_of, analysis_with_records
from benchmark.analysis.effects import effect
from benchmark.analysis.format import half_text, number_text, percent
from benchmark.analysis.ranking import ranks
from benchmark.analysis.statistics import Sample
from benchmark.analysis.weights import learned_weights, weights_correlation
from benchmark.core.metrics import METRICS
from benchmark.core.names import CANARIES, CONDITION_NAMES, REFERENCES
from benchmark.core.records import Record
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import load_suite, suite_names
from benchmark.page import payload
from benchmark.reports.claims import claims
from benchmark.reports.extras import extras
from benchmark.reports.headline import (
    BASELINE,
    COST_UNIT,
    FOCUS,
    Column,
    broken_cells,
    family_column,
    in_order,
    main_condition,
    ranked,
    references,
    relative_cost,
    ties,
    uneven,
)
from benchmark.reports.method_families import sentences as families_in_words
from benchmark.reports.provenance import provenance
from benchmark.reports.stress import Curve, curves, level_zero, without_stress
from benchmark.reports.tuned import chosen_elsewhere
from benchmark.results.layout import TUNED
from benchmark.results.store import ResultStore
from benchmark.submissions.reading import read_introduction

_QUANTITIES: dict[str, Callable[[Cell, str], Sample | None]] = {
    "score": Cell.score,
    "gain": lambda cell, row: cell.gain(row, BASELINE),
    "pgr": Cell.recovered,
    "failed": Cell.failed,
    "pgr_mean_supervisor": lambda cell, row: cell.recovered(row, MEAN_SUPERVISOR),
    "failed_mean_supervisor": lambda cell, row: cell.failed(row, MEAN_SUPERVISOR),
}


def page_payload(stores: Sequence[ResultStore]) -> payload.Payload:
    """Everything that the page shows of these folders, in their order.

    Raises:
        W2SError: the first one holds no results; others without any are left out.
    """
    analysis_with_records(stores[0])
    return {"suites": [suite_payload(store) for store in stores if analysis_of(store).records]}


def suite_payload(store: ResultStore) -> payload.Suite:
    """What the page shows of a folder with results; of stress tasks, tables show level 0 and figures the rest."""
    whole = analysis_of(store)
    own, unstressed = level_zero(whole), without_stress(whole)
    by_accuracy = _by_accuracy(own)
    analyses = {"own": own} | ({"accuracy": by_accuracy} if by_accuracy else {})
    name = store.root.resolve().name
    base = name.removesuffix(TUNED)
    about = load_suite(base).description if base in suite_names() else ""
    if about and name != base:
        how = "on the other task families" if whole.transfer else "by agreement on the validation split"
        about = f"the suite `{base}` with the setting of each method chosen {how}"
    if store.older is not None:
        about = ". ".join([*filter(None, [about]), f"Of an older protocol: {store.older}"])
    rows = [*ranked(own), *references(own)]
    view_of = _viewer(own, rows)
    return {
        "name": name,
        "description": about,
        "conditions": [condition for condition in CONDITION_NAMES if own.select(condition)],
        "modalities": in_order(cell.evaluation.modality for cell in own.cells.values()),
        "metrics": list(analyses),
        "baseline": BASELINE,
        "focus": FOCUS,
        "floor": FLOOR,
        "ceiling": CEILING,
        "cost_unit": COST_UNIT,
        "rows": [_row(own, row, store.root / row) for row in rows],
        "tasks": _tasks(own),
        "cells": {"|".join(key): _cell(cell, rows, by_accuracy) for key, cell in own.cells.items()},
        "views": {
            f"{condition}|{choice}|{metric}": view
            for metric, analysis in analyses.items()
            for condition in CONDITION_NAMES
            for choice, view in _views(analysis, condition, view_of).items()
        },
        "stress": [*_broken_curves(own), *(_stress_curve(curve) for curve in curves(whole))],
        "claims": [{"claim": one.claim, "found": one.found} for one in claims(unstressed)],
        "families": [{"claim": about, "found": text} for about, text in families_in_words(unstressed).items()],
        "facts": provenance(whole.records),
        "problems": whole.problems,
    }


def _by_accuracy(own: Analysis) -> Analysis | None:
    """The same analysis with accuracy in the place of the tasks' own metrics; None if they all are accuracy."""
    swapped = {
        key: replace(
            cell,
            evaluation=cell.evaluation.model_copy(update={"metric": "accuracy"}),
            samples=cell.accuracies,
        )
        for key, cell in own.cells.items()
        if cell.evaluation.metric != "accuracy"
    }
    return replace(own, cells={**own.cells, **swapped}) if swapped else None


def _broken_curves(analysis: Analysis) -> list[payload.Curve]:
    """Of each task that has variants with a broken supervisor: as it is, and the mean of its variants."""
    by_base: dict[str, list[Cell]] = {}
    for cell in broken_cells(analysis):
        by_base.setdefault(cell.base, []).append(cell)
    found: list[payload.Curve] = []
    for base, variants in by_base.items():
        starts = [cell for cell in analysis.headline(main_condition(analysis)) if cell.evaluation.task == base]
        for row in (*ranked(analysis), *references(analysis)):
            levels = [Analysis.over(cells, lambda cell, row=row: cell.score(row)) for cells in (starts, variants)]  # type: ignore[misc]
            if points := [(_points(level.mean), _half(level.half)) for level in levels if level]:
                found.append(
                    {
                        "base": base,
                        "kind": "one of them broken, each in turn",
                        "method": row,
                        "levels": [number for number, level in enumerate(levels) if level],
                        "means": [mean for mean, _ in points],
                        "halves": [half for _, half in points],
                    }
                )
    return found


def _stress_curve(curve: Curve) -> payload.Curve:
    return {
        "base": curve.base,
        "kind": curve.kind,
        "method": curve.method,
        "levels": [point.level for point in curve.points],
        "means": [_points(point.score.mean) for point in curve.points],
        "halves": [_half(point.score.half) for point in curve.points],
    }


def _views(
    analysis: Analysis, condition: str, view: Callable[[tuple[Cell, ...]], payload.View]
) -> dict[str, payload.View]:
    """By "modality|supervisors": means over every choice of tasks that the filters allow."""
    views = {}
    modalities = in_order(cell.evaluation.modality for cell in analysis.select(condition))
    for supervisors, own in {
        "sound": analysis.headline(condition),
        "broken": broken_cells(analysis, condition),
    }.items():
        for modality in ("", *modalities):
            if cells := [cell for cell in own if modality in ("", cell.evaluation.modality)]:
                views[f"{modality}|{supervisors}"] = view(tuple(cells))
    return views


def _viewer(analysis: Analysis, rows: Sequence[str]) -> Callable[[tuple[Cell, ...]], payload.View]:
    """What gives the view of some cells: many choices of filters come to the same ones, and all share their samples."""
    quantities = {name: cache(quantity) for name, quantity in _QUANTITIES.items()}

    def means(name: str, cells: Sequence[Cell], plain: bool = False) -> dict[str, payload.Interval]:
        sign, share = name == "gain", name.startswith("failed")
        return _intervals(Column(name, cells, quantities[name], sign=sign, share=share, plain=plain), rows)

    @cache
    def view(cells: tuple[Cell, ...]) -> payload.View:
        with_gap = [cell for cell in cells if cell.has_gap]
        gains = {row: effect(cells, lambda cell, row=row: quantities["gain"](cell, row)) for row in rows}  # type: ignore[misc]
        return {
            "tasks": len({(cell.base, cell.broken) for cell in cells}),
            "families": len({cell.evaluation.family for cell in cells}),
            "gap_tasks": len(with_gap),
            "score": means("score", cells),
            "plain": means("score", cells, plain=True) if uneven(cells) else {},
            "gain": means("gain", cells),
            "pgr": means("pgr", with_gap),
            "failed": means("failed", cells),
            "pgr_mean_supervisor": means(
                "pgr_mean_supervisor", [cell for cell in cells if cell.gap_over(MEAN_SUPERVISOR)]
            ),
            "failed_mean_supervisor": means("failed_mean_supervisor", cells),
            "heterogeneity": {
                row: (half_text(found.random_half), number_text(found.spread)) for row, found in gains.items() if found
            },
            "rank": ranks(analysis, cells),
            "ties": ties(analysis, cells),
            "extras": extras(analysis, cells),
        }

    return view


def _intervals(column: Column, rows: Sequence[str]) -> dict[str, payload.Interval]:
    """By row, where the column has a value."""
    found: dict[str, payload.Interval] = {}
    for row in rows:
        if result := column.value(row):
            text = percent(result, column.sign, len(column.cells), column.runs)
            found[row] = _points(result.mean), _half(result.half), text, int(not column.full(row))
    return found


def _points(share: float) -> float:
    """A share in percent, with as many digits as sorting and drawing need."""
    return round(100 * float(share), 3)


def _half(half: float) -> float | None:
    return _points(half) if math.isfinite(half) else None


def _cell(cell: Cell, rows: Sequence[str], by_accuracy: Analysis | None) -> payload.PayloadCell:
    evaluation = cell.evaluation
    records = [record for by_seed in cell.records.values() for record in by_seed.values()]
    values: payload.PayloadCell = {
        "n_train": records[0].n_train if records else 0,
        "n_test": int(next(iter(evaluation.seeds.values())).test.sum()) if evaluation.seeds else 0,
        "seeds": sorted(evaluation.seeds),
        "has_gap": cell.has_gap,
        "cost": {row: round(np.mean([r.cost for r in by.values()])) for row, by in sorted(cell.records.items())},
        "weights": {row: weights for row in sorted(cell.records) if (weights := _weights(cell, row))},
        "own": _scores(cell, rows),
    }
    if by_accuracy and evaluation.metric != "accuracy":
        values["accuracy"] = _scores(by_accuracy.cells[evaluation.task, evaluation.condition], rows)
    return values


def _scores(cell: Cell, rows: Sequence[str]) -> payload.Scores:
    seeds = sorted(cell.evaluation.seeds)

    def on_cell(name: str) -> dict[str, payload.Interval]:
        return _intervals(Column(name, [cell], _QUANTITIES[name], sign=name == "gain"), rows)

    failed = {row: sample for row in rows if (sample := cell.failed(row))}
    by_seed = {row: dict(zip(sample.seeds, sample.values, strict=True)) for row, sample in cell.samples.items()}
    metric = METRICS[cell.evaluation.metric]
    return {
        "score": on_cell("score"),
        "gain": on_cell("gain"),
        "pgr": on_cell("pgr"),
        "failed": {row: (int(sample.values.sum()), len(sample.seeds)) for row, sample in failed.items()},
        "seeds": {
            row: [_points(by_seed[row][seed]) if seed in by_seed[row] else None for seed in seeds]
            for row in rows
            if row in by_seed
        },
        "supervisors": [[_points(score) for score in cell.supervisor_scores[seed]] for seed in seeds],
        "chance": _points(1 / cell.evaluation.num_classes) if metric.uniform_chance else None,
    }


def _weights(cell: Cell, row: str) -> payload.Weights | None:
    """Learned weights of a row, if it records any."""
    if not (learned := learned_weights(cell, row)):
        return None
    correlation = weights_correlation(cell, learned)
    return {
        "values": [
            [round(float(w), 4) for w in learned[seed]] if seed in learned else None
            for seed in sorted(cell.evaluation.seeds)
        ],
        "correlation": None if correlation is None else round(correlation, 4),
    }


def _row(analysis: Analysis, name: str, folder: Path) -> payload.Row:
    records = [record for record in analysis.records if record.method == name]
    roles: dict[payload.Role, Collection[str]] = {
        "ablation": analysis.ablations,
        "canary": CANARIES,
        "reference": REFERENCES,
    }
    version = records[0].method_version if records else None
    citation, description, developed_on = _about(name, version, folder)
    cost = relative_cost(name, analysis.select(main_condition(analysis)))
    return {
        "name": name,
        "title": analysis.titles[name],
        "role": next((role for role, names in roles.items() if name in names), "method"),
        "kind": records[0].kind if records else "",
        "family": next((column.text(name) for column in family_column(analysis)), "")
        if name in analysis.methods
        else "",
        "version": version,
        "ablation_of": records[0].ablation_of if records else None,
        "citation": citation,
        "description": description,
        "developed_on": developed_on,
        "tuned": chosen_elsewhere(analysis, name),
        "settings": _settings(records),
        "cost": None if cost is None else round(cost, 4),
    }


def _about(name: str, version: int | None, folder: Path) -> tuple[str, str, str]:
    """Citation, description and what it was developed on: a submission's own, which is anybody's text, or the installed
    method's, of which the last is ""; of this version. A submission's title is the records', as `w2s validate` sees to.
    """
    submitted = read_introduction(folder)
    if submitted and submitted[0].method_version == version:
        manifest, about = submitted
        return manifest.citation, about.get("description", ""), manifest.statement
    known = METHODS[name] if name in METHODS.names() else None
    if known is None or known.version != version:
        return "", "", ""
    return known.citation, inspect.getdoc(known) or "", ""


def _settings(records: Sequence[Record]) -> list[payload.Setting]:
    """Distinct settings, each with the tasks that it was used on, if there is more than one."""
    tasks: dict[str, set[str]] = {}
    for record in records:
        tasks.setdefault(record.setting, set()).add(record.task)
    chosen = {record.setting: record.hyperparameters for record in records}
    options = {
        setting: {
            f"{part}.{option}": json.dumps(value, ensure_ascii=False, sort_keys=True)
            for part, values in sorted(hyperparameters.items())
            for option, value in (values if isinstance(values, dict) else {"": values}).items()
        }
        for setting, hyperparameters in sorted(chosen.items())
    }
    return [{"options": options[key], "tasks": sorted(tasks[key]) if len(options) > 1 else []} for key in options]


def _tasks(analysis: Analysis) -> list[payload.Task]:
    """One entry a task, by modality and name."""
    evaluations = {cell.evaluation.task: cell.evaluation for cell in analysis.cells.values()}
    order = in_order(evaluation.modality for evaluation in evaluations.values())
    return [
        {
            "name": name,
            "family": evaluation.family,
            "modality": evaluation.modality,
            "target": evaluation.target,
            "broken": "broken" in evaluation.tags,
            "metric": evaluation.metric.replace("_", " "),
            "num_classes": evaluation.num_classes,
            "supervisors": list(evaluation.supervisors),
            "card": _card(name, evaluation.task_version),
        }
        for name, evaluation in sorted(
            evaluations.items(), key=lambda item: (order.index(item[1].modality), "broken" in item[1].tags, item[0])
        )
    ]


def _card(name: str, version: int) -> payload.Card | None:
    task = TASKS[name] if name in TASKS.names() else None
    if task is None or task.version != version:
        return None
    card = task.card
    return {
        "shift": card.shift,
        "sources": list(card.sources),
        "classes": list(card.classes),
        "licence": card.licence + f"; not to be handed on: {card.redistribution}" * bool(card.redistribution),
        "citation": card.citation,
        "size": card.size,
    }
