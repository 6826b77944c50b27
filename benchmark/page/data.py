"""From a suite's analysis to what the page shows: plain values, in the leaderboard's own numbers and texts."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.analysis.cells import CEILING, FLOOR, Analysis, Cell, analysis_of
from benchmark.analysis.format import percent
from benchmark.analysis.ranking import ranks
from benchmark.analysis.statistics import Sample, rank_correlation
from benchmark.base.errors import W2SError
from benchmark.base.text import listing
from benchmark.core.metrics import METRICS, Split
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.core.records import Record
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import load_suite, suite_names
from benchmark.page import payload
from benchmark.reports.headline import (
    BASELINE,
    COST_UNIT,
    FOCUS,
    Column,
    in_order,
    main_condition,
    ranked,
    references,
    relative_cost,
)
from benchmark.reports.leaderboard import CONDITIONS, learned_weights
from benchmark.reports.stress import Curve, curves, uncorrupted
from benchmark.results.layout import TUNED
from benchmark.results.store import ResultStore
from benchmark.submissions.reading import read_introduction

Quantity = Callable[[Cell, str], Sample | None]
SUPERVISORS: dict[str, bool | None] = {"all": None, "sound": False, "broken": True}
_QUANTITIES: dict[str, Quantity] = {
    "score": lambda cell, row: cell.score(row),
    "gain": lambda cell, row: cell.gain(row, BASELINE) if row != BASELINE else None,
    "pgr": lambda cell, row: cell.recovered(row),
    "failed": lambda cell, row: cell.failed(row),
}


def page_payload(stores: Sequence[ResultStore]) -> payload.Payload:
    """Everything that the page shows of these folders, in their order.

    Raises:
        W2SError: the first one holds no results; others without any are left out.
    """
    first = stores[0]
    problems = analysis_of(first).problems
    if not analysis_of(first).records:
        why = f" ({problems[0]})" if problems else ""
        raise W2SError(f"{first.root}: no results there{why}; make some with `w2s run --results {first.root}`")
    return {"suites": [suite_payload(store) for store in stores if analysis_of(store).records]}


def suite_payload(store: ResultStore) -> payload.Suite:
    """What the page shows of a folder with results; of stress tasks, tables show level 0 and figures the rest."""
    whole = analysis_of(store)
    own = uncorrupted(whole)
    by_accuracy = _by_accuracy(own)
    analyses = {"own": own} | ({"accuracy": by_accuracy} if by_accuracy else {})
    name = store.root.resolve().name
    rows = [*ranked(own), *references(own)]
    means = _Means(rows)
    return {
        "name": name,
        "description": _description(name),
        "conditions": [condition for condition in CONDITIONS if own.select(condition)],
        "modalities": in_order(cell.evaluation.modality for cell in own.cells.values()),
        "metrics": list(analyses),
        "baseline": BASELINE,
        "focus": FOCUS,
        "floor": FLOOR,
        "ceiling": CEILING,
        "cost_unit": COST_UNIT,
        "rows": [_row(own, row, store.root / row) for row in rows],
        "tasks": _tasks(own),
        "cells": {"|".join(unit): _cell(cell, rows, by_accuracy) for unit, cell in own.cells.items()},
        "views": {
            f"{condition}|{key}|{metric}": view
            for metric, analysis in analyses.items()
            for condition in CONDITIONS
            for key, view in _views(analysis, condition, means).items()
        },
        "stress": [_stress_curve(curve) for curve in curves(whole)],
        "facts": _facts(whole),
        "problems": whole.problems,
    }


def _description(name: str) -> str:
    suite = name.removesuffix(TUNED)
    if suite not in suite_names():
        return ""
    if name.endswith(TUNED):
        return f"the suite `{suite}` with the setting of each method chosen on the validation split"
    return load_suite(name).description


def _by_accuracy(own: Analysis) -> Analysis | None:
    """The same analysis with accuracy in the place of the tasks' own metrics; None if they all are accuracy."""
    swapped = {}
    for unit, cell in own.cells.items():
        if cell.evaluation.metric != "accuracy":
            splits = {s: Split.of(t.supervisors, t.labels, t.groups) for s, t in cell.evaluation.seeds.items()}
            swapped[unit] = replace(
                cell,
                evaluation=cell.evaluation.model_copy(update={"metric": "accuracy"}),
                samples=cell.accuracies,
                supervisor_scores={seed: METRICS["accuracy"].score(split) for seed, split in splits.items()},
            )
    return replace(own, cells={**own.cells, **swapped}) if swapped else None


def _stress_curve(curve: Curve) -> payload.Curve:
    return {
        "base": curve.base,
        "kind": curve.kind,
        "method": curve.method,
        "levels": list(curve.levels),
        "means": [_points(mean) for mean in curve.means],
        "halves": [_points(half) if math.isfinite(half) else None for half in curve.halves],
    }


# --- means over tasks ------------------------------------------------------------------------------------------------


def _views(analysis: Analysis, condition: str, means: _Means) -> dict[str, payload.View]:
    """By "modality|supervisors": means over every choice of tasks that the filters allow."""
    views = {}
    modalities = in_order(cell.evaluation.modality for cell in analysis.select(condition))
    for modality in ("", *modalities):
        for supervisors, broken in SUPERVISORS.items():
            if cells := analysis.select(condition, modality or None, broken):
                views[f"{modality}|{supervisors}"] = means.over(analysis, cells)
    return views


class _Means:
    """Views by what they are over: many choices of filters come to the same cells, and all share their samples."""

    def __init__(self, rows: Sequence[str]) -> None:
        self._rows = rows
        self._views: dict[tuple[Cell, ...], payload.View] = {}
        self._samples: dict[tuple[Cell, str, str], Sample | None] = {}

    def over(self, analysis: Analysis, cells: Sequence[Cell]) -> payload.View:
        if (key := tuple(cells)) not in self._views:
            self._views[key] = self._view(analysis, cells)
        return self._views[key]

    def _view(self, analysis: Analysis, cells: Sequence[Cell]) -> payload.View:
        with_gap = [cell for cell in cells if cell.has_gap]
        return {
            "tasks": len(cells),
            "gap_tasks": len(with_gap),
            "score": self._quantity("score", cells),
            "gain": self._quantity("gain", cells),
            "pgr": self._quantity("pgr", with_gap),
            "failed": self._quantity("failed", cells),
            "rank": ranks(analysis, cells),
        }

    def _quantity(self, name: str, cells: Sequence[Cell]) -> dict[str, payload.Interval]:
        def sample(cell: Cell, row: str) -> Sample | None:
            if (key := (cell, name, row)) not in self._samples:
                self._samples[key] = _QUANTITIES[name](cell, row)
            return self._samples[key]

        column = Column(name, cells, sample, sign=name == "gain", share=name == "failed")
        return {row: interval for row in self._rows if (interval := _interval(column, row))}


def _interval(column: Column, row: str) -> payload.Interval | None:
    result = column.value(row)
    if result is None:
        return None
    half = _points(result.half) if math.isfinite(result.half) else None
    text = percent(result, column.sign, len(column.cells), column.runs)
    return _points(result.mean), half, text, int(not column.full(row))


def _points(share: float) -> float:
    """A share in percent, with as many digits as sorting and drawing need."""
    return round(100 * float(share), 3)


# --- one (task, condition) -------------------------------------------------------------------------------------------


def _cell(cell: Cell, rows: Sequence[str], by_accuracy: Analysis | None) -> payload.Cell:
    evaluation = cell.evaluation
    records = [record for by_seed in cell.records.values() for record in by_seed.values()]
    values: payload.Cell = {
        "n_train": records[0].n_train if records else 0,
        "n_test": len(next(iter(evaluation.seeds.values())).labels) if evaluation.seeds else 0,
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
        column = Column(name, [cell], _QUANTITIES[name], sign=name == "gain")
        return {row: interval for row in rows if (interval := _interval(column, row))}

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
    """Learned weights of a row, if it records any; see `leaderboard.learned_weights`."""
    members = len(cell.evaluation.supervisors)
    found = {seed: learned_weights(record, members) for seed, record in sorted(cell.records[row].items())}
    learned = {seed: weights for seed, weights in found.items() if weights is not None}
    if not learned:
        return None
    correlations = [rank_correlation(weights, cell.supervisor_scores[seed]) for seed, weights in learned.items()]
    defined = [value for value in correlations if math.isfinite(value)]
    return {
        "values": [
            [round(float(w), 4) for w in learned[seed]] if seed in learned else None
            for seed in sorted(cell.evaluation.seeds)
        ],
        "correlation": round(float(np.mean(defined)), 4) if defined else None,
    }


# --- rows, tasks, how it was made ------------------------------------------------------------------------------------


def _row(analysis: Analysis, name: str, folder: Path) -> payload.Row:
    records = [record for record in analysis.records if record.method == name]
    role: payload.Role = "method"
    if name in analysis.ablations:
        role = "ablation"
    elif name in CANARIES:
        role = "canary"
    elif name in REFERENCES:
        role = "reference"
    version = records[0].method_version if records else None
    citation, description = _about(name, version, folder)
    cost = relative_cost(name, analysis.select(main_condition(analysis)))
    return {
        "name": name,
        "title": analysis.titles[name],
        "role": role,
        "kind": records[0].kind if records else "",
        "version": version,
        "ablation_of": records[0].ablation_of if records else None,
        "citation": citation,
        "description": description,
        "settings": _settings(records),
        "cost": None if cost is None else round(cost, 4),
    }


def _about(name: str, version: int | None, folder: Path) -> tuple[str, str]:
    """Citation and description: a submission's own, which is anybody's text, or the installed method's; both of this
    version. A submission's title is the records', as `w2s validate` sees to."""
    submitted = read_introduction(folder)
    if submitted and submitted[0].method_version == version:
        manifest, about = submitted
        return manifest.citation, about.get("description", "")
    known = METHODS[name] if name in METHODS.names() else None
    if known is None or known.version != version:
        return "", ""
    return known.citation, inspect.getdoc(known) or ""


def _settings(records: Sequence[Record]) -> list[payload.Setting]:
    """Distinct settings, each with the tasks that it was used on, if there is more than one."""
    tasks: dict[str, set[str]] = {}
    options: dict[str, dict[str, str]] = {}
    for record in records:
        tasks.setdefault(record.setting, set()).add(record.task)
        options[record.setting] = {
            f"{part}.{option}": json.dumps(value, ensure_ascii=False, sort_keys=True)
            for part, values in sorted(record.hyperparameters.items())
            for option, value in (values if isinstance(values, dict) else {"": values}).items()
        }
    several = len(options) > 1
    return [{"options": options[key], "tasks": sorted(tasks[key]) if several else []} for key in sorted(options)]


def _tasks(analysis: Analysis) -> list[payload.Task]:
    """One entry a task, by modality and name."""
    evaluations = {cell.evaluation.task: cell.evaluation for cell in analysis.cells.values()}
    order = in_order(evaluation.modality for evaluation in evaluations.values())
    return [
        {
            "name": name,
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
    licence = task.card.licence
    if task.card.redistribution:
        licence += f"; not to be handed on: {task.card.redistribution}"
    return {
        "shift": task.card.shift,
        "sources": list(task.card.sources),
        "classes": list(task.card.classes),
        "licence": licence,
        "citation": task.card.citation,
        "size": task.card.size,
    }


def _facts(analysis: Analysis) -> dict[str, str]:
    records = analysis.records

    def several(values: Sequence[object]) -> str:
        return listing([str(value) for value in sorted(set(values), key=str)])

    return {
        "records": f"{len(records):,}",
        "seeds": listing([str(seed) for seed in sorted({record.seed for record in records})]),
        "engine version": several([record.engine_version for record in records]),
        "commit": several([record.commit for record in records]),
        "device": several([record.device for record in records]),
        "libraries": several([f"{name} {value}" for record in records for name, value in record.libraries.items()]),
    }
