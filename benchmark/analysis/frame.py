"""A suite's results as a tidy table: `benchmark.load_results`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmark.analysis.cells import CEILING, FLOOR, Analysis, Cell, analyse
from benchmark.analysis.statistics import Sample
from benchmark.base.errors import W2SError
from benchmark.core.names import CANARIES
from benchmark.core.records import Record
from benchmark.results.store import ResultStore


class Column(NamedTuple):
    """A column's type and what it holds."""

    dtype: str
    about: str


COLUMNS: Mapping[str, Column] = {
    "task": Column("str", "name of the task"),
    "condition": Column("str", "ood: the pool is target data; ind: held-out source data"),
    "method": Column("str", "name of the method or canary"),
    "seed": Column("int64", "from 0; rows of one task, condition and seed share pool, stream and initial weights"),
    "title": Column("str", "the method's title"),
    "kind": Column("str", "single (a mean over supervisors, each taught alone), ensemble or canary"),
    "canary": Column("bool", "not a method: a supervision made by the harness, which may know the truth"),
    "ablation": Column("bool", "a variant of another method"),
    "modality": Column("str", "image, text, preference or arrays"),
    "target": Column("str", "the shifted domain"),
    "tags": Column("str", "the task's tags, separated by spaces; missing when there are none"),
    "classes": Column("int64", "K"),
    "supervisors": Column("int64", "M"),
    "metric": Column("str", "name of the task's own metric"),
    "score": Column("float64", "on the task's own metric, a share from 0 to 1"),
    "accuracy": Column("float64", "a share from 0 to 1"),
    "floor": Column("float64", "the supervisors' mean score"),
    "ceiling": Column("float64", "score of the student trained on the truth; missing when it was not run"),
    "supervisor_ensemble": Column("float64", "score of the mean of the supervisors' soft labels, without a student"),
    "majority_class": Column("float64", "score of the most frequent class of pool-train"),
    "pgr": Column(
        "float64",
        "performance gap recovered, a ratio of seed means: the mean of this column over seeds is the PGR of the "
        "leaderboard (values are linearised around it); missing where it is undefined or not known",
    ),
    "failed": Column("bool", "the score is below the floor"),
    "cost": Column("int64", "optimizer steps x heads; of a tuned record, of its whole grid"),
    "n_train": Column("int64", "examples in the pool's train split"),
    "n_test": Column("int64", "examples in its test split"),
    "setting": Column("str", "hash of all hyperparameters, 12 hex digits"),
    "engine_version": Column("int64", "version of the training loop"),
    "task_version": Column("int64", "version of the task"),
    "method_version": Column("int64", "version of the method"),
    "data_fingerprint": Column("str", "hash of the data and supervisors"),
    "commit": Column("str", "the project's git commit that made the record"),
    "device": Column("str", "what it was trained on"),
}
DTYPES = {name: column.dtype for name, column in COLUMNS.items()}


def load_results(results: Path) -> pd.DataFrame:
    """See `benchmark.load_results`."""
    analysis = analyse(ResultStore(results).load(), resamples=1)  # no intervals are wanted
    for problem in analysis.problems:
        warnings.warn(f"{results}: {problem}", stacklevel=3)
    if not analysis.records:
        raise W2SError(f"{results}: no results there; make some with `w2s run --results {results}`")
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
        "canary": method in CANARIES,
        "ablation": record.ablation_of is not None,
        "modality": evaluation.modality,
        "target": evaluation.target,
        "tags": " ".join(evaluation.tags) or None,
        "classes": evaluation.num_classes,
        "supervisors": len(evaluation.supervisors),
        "metric": evaluation.metric,
        "score": of(cell.score(method)),
        "accuracy": of(cell.accuracies.get(method)),
        "floor": of(cell.score(FLOOR)),
        "ceiling": of(cell.score(CEILING)),
        "supervisor_ensemble": of(cell.score("supervisor_ensemble")),
        "majority_class": of(cell.score("majority_class")),
        "pgr": of(cell.recovered(method)),
        "failed": of(cell.failed(method)) == 1,
    }
