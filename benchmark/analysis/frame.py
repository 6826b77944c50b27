"""A suite's results as a tidy table: `benchmark.load_results`."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmark.analysis.cells import CEILING, FLOOR, MEAN_SUPERVISOR, Analysis, Cell, analyse
from benchmark.analysis.statistics import Sample
from benchmark.core.names import CANARIES, OTHER
from benchmark.core.records import Record
from benchmark.results.contents import no_results
from benchmark.results.store import ResultStore


class FrameColumn(NamedTuple):
    """A column's type and what it holds."""

    dtype: str
    about: str


COLUMNS: Mapping[str, FrameColumn] = {
    "task": FrameColumn("str", "name of the task"),
    "condition": FrameColumn("str", "ood: the pool is target data; ind: held-out source data"),
    "method": FrameColumn("str", "name of the method or canary"),
    "seed": FrameColumn("int64", "from 0; rows of one task, condition and seed share pool, stream and initial weights"),
    "title": FrameColumn("str", "the method's title"),
    "kind": FrameColumn("str", "single (a mean over supervisors, each taught alone), ensemble or canary"),
    "method_family": FrameColumn("str", "the method's family; 'other' where it names none, missing for canaries"),
    "canary": FrameColumn("bool", "not a method: a supervision made by the harness, which may know the truth"),
    "ablation": FrameColumn("bool", "a variant of another method"),
    "family": FrameColumn("str", "of tasks on the same data; the tables' means are over families of means over tasks"),
    "modality": FrameColumn("str", "image, text, preference, series (of measurements over time) or arrays"),
    "target": FrameColumn("str", "the shifted domain"),
    "tags": FrameColumn("str", "the task's tags, separated by spaces; missing when there are none"),
    "broken": FrameColumn("bool", "one of its supervisors is broken: no part of the tables' means over all tasks"),
    "base": FrameColumn("str", "of such a task the name of the task as it is, else its own"),
    "classes": FrameColumn("int64", "K"),
    "supervisors": FrameColumn("int64", "M"),
    "metric": FrameColumn("str", "name of the task's own metric"),
    "score": FrameColumn(
        "float64",
        "on the task's own metric, a share from 0 to 1; of a tuned record by the setting that is best on the other "
        "families (by the one that agreement chose where there is no other)",
    ),
    "accuracy": FrameColumn("float64", "a share from 0 to 1"),
    "test_score": FrameColumn(
        "float64",
        "as score, on the test split alone; score is on the whole pool, but of canaries that have seen the truth of "
        "the train split, and of everything in older results, it is this one",
    ),
    "floor": FrameColumn("float64", "score of the mean of the supervisors' soft labels, without a student"),
    "ceiling": FrameColumn(
        "float64", "score of the student trained on the truth, on the test split; missing when it was not run"
    ),
    "gap": FrameColumn("float64", "ceiling minus floor, both on the test split"),
    "mean_supervisor": FrameColumn("float64", "the supervisors' mean score"),
    "majority_class": FrameColumn("float64", "score of the most frequent class of pool-train, on the test split"),
    "pgr": FrameColumn(
        "float64",
        "performance gap recovered on the test split, a ratio of seed means: the mean of this column over seeds is the "
        "PGR of the leaderboard (values are linearised around it); missing where it is undefined or not known",
    ),
    "pgr_mean_supervisor": FrameColumn("float64", "the same with the supervisors' mean score as floor"),
    "failed": FrameColumn("bool", "the score is below the floor, on the test split"),
    "failed_mean_supervisor": FrameColumn("bool", "the score is below the supervisors' mean score"),
    "cost": FrameColumn("int64", "optimizer steps x heads; of a tuned record, of its whole grid"),
    "n_train": FrameColumn("int64", "examples in the pool's train split"),
    "n_test": FrameColumn("int64", "examples in its test split"),
    "setting": FrameColumn("str", "hash of all hyperparameters, 12 hex digits"),
    "engine_version": FrameColumn("int64", "version of the training loop"),
    "task_version": FrameColumn("int64", "version of the task"),
    "method_version": FrameColumn("int64", "version of the method"),
    "data_fingerprint": FrameColumn("str", "hash of the data and supervisors"),
    "commit": FrameColumn("str", "the project's git commit that made the record"),
    "device": FrameColumn("str", "what it was trained on"),
}
DTYPES = {name: column.dtype for name, column in COLUMNS.items()}


def load_results(results: Path) -> pd.DataFrame:
    """See `benchmark.load_results`."""
    analysis = analyse(ResultStore(results).load())
    for problem in analysis.problems:
        warnings.warn(f"{results}: {problem}", stacklevel=3)
    if not analysis.records:
        raise no_results(results, analysis.problems)
    return tidy(analysis)


def tidy(analysis: Analysis) -> pd.DataFrame:
    """One row for each record that the tables are made of, with the columns of `COLUMNS`."""
    records = sorted(analysis.records, key=lambda r: (r.task, r.condition, r.method, r.seed))
    rows = [_row(record, analysis.cells[record.task, record.condition]) for record in records]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(DTYPES)


def _row(record: Record, cell: Cell) -> dict[str, Any]:
    evaluation, seed, method = cell.evaluation, record.seed, record.method

    def of(sample: Sample | None) -> float:
        return float(sample.values[sample.seeds.index(seed)]) if sample and seed in sample.seeds else np.nan

    own = record.model_dump(include=set(COLUMNS))
    return {
        **own,
        "method_family": None if method in CANARIES else record.family or OTHER,
        "canary": method in CANARIES,
        "ablation": record.ablation_of is not None,
        "family": evaluation.family,
        "modality": evaluation.modality,
        "target": evaluation.target,
        "tags": " ".join(evaluation.tags) or None,
        "broken": cell.broken,
        "base": cell.base,
        "classes": evaluation.num_classes,
        "supervisors": len(evaluation.supervisors),
        "metric": evaluation.metric,
        "score": of(cell.score(method)),
        "accuracy": of(cell.accuracies.get(method)),
        "test_score": of(cell.on_test(method)),
        "floor": of(cell.score(FLOOR)),
        "ceiling": of(cell.score(CEILING)),
        "gap": of(cell.gap()),
        "mean_supervisor": of(cell.score(MEAN_SUPERVISOR)),
        "majority_class": of(cell.score("majority_class")),
        "pgr": of(cell.recovered(method)),
        "pgr_mean_supervisor": of(cell.recovered(method, MEAN_SUPERVISOR)),
        "failed": of(cell.failed(method)) == 1,
        "failed_mean_supervisor": of(cell.failed(method, MEAN_SUPERVISOR)) == 1,
    }
