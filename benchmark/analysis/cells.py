"""From what a suite's folder holds to samples per (task, condition) and row, from which every table is made."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from benchmark.analysis.bootstrap import draw
from benchmark.analysis.statistics import (
    RESAMPLES,
    Estimate,
    Sample,
    difference,
    estimate,
    failure,
    gap_defined,
    improvement,
    recovered_gap,
)
from benchmark.base.seeding import numpy_rng
from benchmark.core.metrics import METRICS, Floats, Split
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.core.records import Evaluation, Record
from benchmark.core.scoring import metric_names, reference_predictions
from benchmark.results.contents import Contents
from benchmark.results.layout import RECORDS
from benchmark.results.store import ResultStore
from benchmark.results.trials import Which, expected_metrics, picked

FLOOR, CEILING = "mean_supervisor", "ground_truth"
TOLERANCE = 1e-9  # a stored metric may differ from its recomputation by this
Unit = tuple[str, str]  # (task, condition)


@dataclass(frozen=True, eq=False)
class Cell:
    """One (task, condition).

    Attributes:
        records: by method and seed; one setting a method.
        samples: scores (the task's own metric) of every row: methods, canaries, reference rows.
        accuracies: plain accuracy of every row, on the same resamples.
        supervisor_scores: (M,) for each seed.
    """

    evaluation: Evaluation
    records: dict[str, dict[int, Record]]
    samples: dict[str, Sample]
    accuracies: dict[str, Sample]
    supervisor_scores: dict[int, NDArray[np.float64]]

    def score(self, row: str) -> Sample | None:
        return self.samples.get(row)

    def gain(self, row: str, over: str) -> Sample | None:
        """Score minus another row's, paired."""
        a, b = self.samples.get(row), self.samples.get(over)
        return difference(a, b) if a and b else None

    def improved(self, row: str, over: str) -> Sample | None:
        """Whether its score is higher than another row's, for each seed."""
        a, b = self.samples.get(row), self.samples.get(over)
        return improvement(a, b) if a and b else None

    def recovered(self, row: str) -> Sample | None:
        """PGR; None where it is undefined or not known."""
        student, ceiling = self.samples.get(row), self.samples.get(CEILING)
        return recovered_gap(student, self.samples[FLOOR], ceiling) if student and ceiling else None

    def failed(self, row: str) -> Sample | None:
        student = self.samples.get(row)
        return failure(student, self.samples[FLOOR]) if student else None

    @property
    def has_gap(self) -> bool | None:
        """Whether PGR is defined here; None while the ceiling is not known."""
        ceiling = self.samples.get(CEILING)
        return gap_defined(self.samples[FLOOR], ceiling) if ceiling else None

    def full(self, row: str) -> bool:
        """Whether the row has a score for every seed of the task."""
        return row in self.samples and len(self.samples[row].seeds) == len(self.evaluation.seeds)


@dataclass(frozen=True, eq=False)
class Analysis:
    """All cells of a suite, and what could not be used.

    Attributes:
        records: those that the cells are made of.
        titles: of every row. ablations: rows that are variants of another method.
        problems: invalid lines, records that don't fit, metrics that differ from their recomputation.
    """

    cells: dict[Unit, Cell]
    records: list[Record]
    titles: dict[str, str]
    ablations: frozenset[str]
    problems: list[str]

    @property
    def methods(self) -> list[str]:
        """Names of the methods, canaries left out."""
        return [row for row in self.titles if row not in CANARIES and row not in REFERENCES]

    @property
    def competitors(self) -> list[str]:
        """Methods that are not an ablation of another."""
        return [row for row in self.methods if row not in self.ablations]

    def select(self, condition: str, modality: str | None = None, broken: bool | None = None) -> list[Cell]:
        """Cells of a condition, of one modality, with or without those tagged "broken"."""
        return [
            cell
            for (_, where), cell in self.cells.items()
            if where == condition
            and modality in (None, cell.evaluation.modality)
            and broken in (None, "broken" in cell.evaluation.tags)
        ]

    @staticmethod
    def over(cells: Sequence[Cell], quantity: Callable[[Cell], Sample | None]) -> Estimate | None:
        """Mean of a quantity over the cells where it is known; None when there is none."""
        samples = [sample for sample in map(quantity, cells) if sample is not None]
        return estimate(samples) if samples else None


def analyse(contents: Contents, resamples: int = RESAMPLES, which: Which = "chosen") -> Analysis:
    """Score everything from predictions, with bootstrap resamples; a pure function of the contents.

    `which` says what stands for a tuned method: the trial that was chosen, the default or the oracle's. Resamples do
    not depend on it, so that samples of several are paired.
    """
    records, problems = _usable(contents)
    grouped: dict[Unit, dict[str, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        grouped[record.task, record.condition][record.method][record.seed] = record
    cells = {
        unit: _cell(contents, contents.evaluations[unit], grouped[unit], resamples, which)
        for unit in sorted(contents.evaluations)
    }
    titles = {record.method: record.title for record in sorted(records, key=lambda record: record.key)}
    return Analysis(
        cells=cells,
        records=records,
        titles={**dict(sorted(titles.items())), **REFERENCES},
        ablations=frozenset(record.method for record in records if record.ablation_of),
        problems=[*contents.problems, *problems],
    )


_analysed: WeakKeyDictionary[ResultStore, tuple[int, Analysis]] = WeakKeyDictionary()


def analysis_of(store: ResultStore) -> Analysis:
    """`analyse` what a store holds; done once until the store is written to."""
    contents = store.load()
    if store not in _analysed or _analysed[store][0] != store.revision:
        _analysed[store] = store.revision, analyse(contents)
    return _analysed[store][1]


def _usable(contents: Contents) -> tuple[list[Record], list[str]]:
    """Records that count: they fit, are of the newest engine and method, and of one setting a method and unit."""
    problems: list[str] = []
    fitting: list[Record] = []
    fits = {key: contents.misfit(record) for key, record in contents.records.items()}
    newest = _newest(record for key, record in contents.records.items() if fits[key] is None)
    for key, record in sorted(contents.records.items()):
        if reason := fits[key] or _stale(record, newest):
            problems.append(f"{record.method}/{RECORDS}: {key}: {reason}")
            continue
        fitting.append(record)
        evaluation = contents.evaluations[record.task, record.condition]
        expected = expected_metrics(evaluation, record, contents.predictions[key])
        for name in sorted(expected.keys() | record.metrics.keys()):
            stored, computed = record.metrics.get(name), expected.get(name)
            if stored is None or computed is None or abs(stored - computed) > TOLERANCE:
                text = f"metrics.{name}: found {_show(stored)}, its predictions give {_show(computed)}"
                problems.append(f"{record.method}/{RECORDS}: {key}: {text}")

    settings: dict[tuple[str, str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in fitting:
        settings[record.task, record.condition, record.method][record.setting].append(record)
    chosen: list[Record] = []
    for (task, condition, method), by_setting in settings.items():
        used = max(by_setting, key=lambda setting: (len(by_setting[setting]), setting))
        chosen += by_setting[used]
        if len(by_setting) > 1:
            others = ", ".join(sorted(by_setting.keys() - {used}))
            text = f"{method} on {task}/{condition}: several settings; the tables use {used}, not {others}"
            problems.append(f"{method}/{RECORDS}: {text}")
    return chosen, problems


def _newest(records: Iterable[Record]) -> dict[str, int]:
    """Highest version of the engine (under "") and of each method."""
    newest: dict[str, int] = defaultdict(int)
    for record in records:
        newest[""] = max(newest[""], record.engine_version)
        newest[record.method] = max(newest[record.method], record.method_version)
    return newest


def _stale(record: Record, newest: dict[str, int]) -> str | None:
    """Results of different versions are not compared: those older than the newest here are left out."""
    if record.engine_version != newest[""]:
        return f"engine_version: found {record.engine_version}, others here are of {newest['']}; run it again"
    if record.method_version != newest[record.method]:
        return f"method_version: found {record.method_version}, others are of {newest[record.method]}; run it again"
    return None


def _show(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"


def _cell(
    contents: Contents, evaluation: Evaluation, records: dict[str, dict[int, Record]], resamples: int, which: Which
) -> Cell:
    """Scores and bootstrap replicates of every row; all replicas of all rows of a seed are one matrix."""
    splits: list[Split] = []
    rows_of: list[dict[str, slice]] = []
    for seed, truth in sorted(evaluation.seeds.items()):
        blocks = {
            row: picked(evaluation, by[seed], contents.predictions[by[seed].key], which)
            for row, by in sorted(records.items())
            if seed in by
        }
        blocks |= reference_predictions(truth)
        ends = np.cumsum([len(block) for block in blocks.values()])
        rows_of.append({row: slice(end - len(blocks[row]), end) for row, end in zip(blocks, ends, strict=True)})
        splits.append(Split.of(np.concatenate(list(blocks.values())), truth.labels, truth.groups))
    # Tasks with the same test examples (a task and its broken sister, the levels of a stress curve) share resamples.
    rng = numpy_rng("bootstrap", _examples(evaluation))
    drawn = draw(evaluation.metric, splits, resamples, rng)

    seeds = sorted(evaluation.seeds)
    samples: dict[str, dict[str, Sample]] = {}
    supervisor_scores: dict[int, NDArray[np.float64]] = {}
    for metric in metric_names(evaluation.metric):
        scores = [METRICS[metric].score(split) for split in splits]
        replicates = [draws.scores(metric, split) for draws, split in zip(drawn, splits, strict=True)]
        samples[metric] = {}
        for row in [*sorted(records), *REFERENCES]:
            at = [i for i in range(len(seeds)) if row in rows_of[i]]
            values = np.array([scores[i][rows_of[i][row]].mean() for i in at])
            resampled: Floats = np.array([replicates[i][rows_of[i][row]].mean(0) for i in at], np.float32)
            samples[metric][row] = Sample(tuple(seeds[i] for i in at), values, resampled)
        if metric == evaluation.metric:
            supervisor_scores |= {seed: scores[i][rows_of[i][FLOOR]] for i, seed in enumerate(seeds)}
    return Cell(evaluation, records, samples[evaluation.metric], samples["accuracy"], supervisor_scores)


def _examples(evaluation: Evaluation) -> str:
    """Hash of the test examples of all seeds, as far as resampling sees them: their labels and groups."""
    parts = [part for _, truth in sorted(evaluation.seeds.items()) for part in (truth.labels, truth.groups)]
    return hashlib.sha256(b"|".join(part.tobytes() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Deviation:
    """How far `random_supervision` is from chance: mean difference, its standard error, and how many are allowed."""

    mean: float
    standard_error: float
    allowed: float
    runs: int

    @property
    def suspicious(self) -> bool:
        return abs(self.mean) > self.allowed * self.standard_error + TOLERANCE


def chance_deviation(analysis: Analysis) -> Deviation | None:
    """Mean over (task, condition, seed) of `random_supervision`'s score minus chance; None for fewer than two.

    Chance is 1/K: uniform labels and `nn.Linear`'s initial weights treat all classes alike, so each example is
    predicted as each class with probability 1/K over the draws, and expected accuracy, like expected balanced accuracy,
    is 1/K whatever the classes' shares. That is the mean score of the K constant predictions; the majority class alone
    would score higher on unbalanced pools. For a metric without such a value (see `Metric.uniform_chance`), accuracy
    stands in.

    Each seed draws labels anew, so every (task, condition, seed) is one observation and the standard error comes from
    their spread. Tasks with the same test split (a task and its broken variant, which differ in supervisors only) would
    repeat one observation; one of them counts.
    """
    seen: set[bytes] = set()
    observations: list[float] = []
    for cell in analysis.cells.values():
        records = cell.records.get("random_supervision")
        pool = b"|".join(truth.labels.tobytes() for truth in cell.evaluation.seeds.values())
        if not records or pool in seen:
            continue
        seen.add(pool)
        metric, chance = cell.evaluation.metric, 1 / cell.evaluation.num_classes
        if METRICS[metric].uniform_chance:
            observations += list(cell.samples["random_supervision"].values - chance)
        else:
            observations += [record.metrics["accuracy"] - chance for record in records.values()]
    runs = len(observations)
    if runs < 2:
        return None
    error = float(np.std(observations, ddof=1) / np.sqrt(runs))
    return Deviation(float(np.mean(observations)), error, allowed_errors(runs), runs)


def allowed_errors(runs: int) -> float:
    """Three standard errors, or for few runs as many as are exceeded by chance as rarely: 0.27% of the time."""
    return float(t.ppf(norm.cdf(3), runs - 1))
