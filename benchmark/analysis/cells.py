"""From what a suite's folder holds to samples per (task, condition) and row, from which every table is made."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, get_args
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from benchmark.analysis.bootstrap import Draws, draw
from benchmark.analysis.example_errors import ExampleErrors
from benchmark.analysis.statistics import (
    RESAMPLES,
    Estimate,
    Sample,
    difference,
    estimate,
    failure,
    family_weights,
    gap_defined,
    improvement,
    recovered_gap,
)
from benchmark.analysis.transfer import best_elsewhere
from benchmark.base.seeding import numpy_rng
from benchmark.core.code_hash import source_findings
from benchmark.core.metrics import METRICS, Floats, Scores, Split
from benchmark.core.names import CANARIES, REFERENCES, TRAIN_TRUTH, Family
from benchmark.core.records import Evaluation, Record, RecordKey
from benchmark.core.scoring import compute_metrics, metric_names, reference_predictions, score
from benchmark.results.contents import Contents, no_results
from benchmark.results.layout import RECORDS
from benchmark.results.store import ResultStore
from benchmark.results.trials import (
    CHOSEN,
    Which,
    expected_metrics,
    is_tuned,
    metric_faults,
    of_trial,
    trial_numbers,
    trial_scores,
)

FLOOR, CEILING = "supervisor_ensemble", "ground_truth"  # of PGR and failures
MEAN_SUPERVISOR = "mean_supervisor"  # the other floor, named so wherever it stands
BROKEN = "broken"  # a tag, and the end of a broken sister's name
CellKey = tuple[str, str]  # (task, condition)
Metrics = Mapping[str, float]
Choices = Mapping[tuple[str, str], int]  # by method and family, the trial that is best on the other families
_Row = tuple[Which | None, str]  # a trial of a tuned method, or all of an ordinary one


@dataclass(frozen=True, eq=False)
class Cell:
    """One (task, condition).

    Attributes:
        records: by method and seed; one setting a method.
        samples: scores (the task's own metric) of every row: methods, canaries, reference rows. They are on the whole
            pool, but on the test split for rows of `TRAIN_TRUTH`, which have seen the truth of the train split.
            Of a tuned method they are those of the setting that is best on the other families; of the one that was
            chosen by agreement where there is no other family.
        accuracies: plain accuracy of every row, on the same resamples.
        trials: of tuned methods, by what chose the trial, scores on the same resamples.
        test: by metric (the task's own, accuracy), scores of every row on the test split alone. An older evaluation is
            of that split alone, and these are the only scores that there are.
    """

    evaluation: Evaluation
    records: dict[str, dict[int, Record]]
    samples: dict[str, Sample]
    accuracies: dict[str, Sample]
    trials: dict[Which, dict[str, Sample]]
    test: dict[str, dict[str, Sample]]

    @cached_property
    def supervisor_scores(self) -> dict[int, Scores]:
        """(M,) the supervisors' scores for each seed."""
        classes, seeds = self.evaluation.num_classes, sorted(self.evaluation.seeds.items())
        return {s: score(self.evaluation.metric, t.supervisors, t.labels, t.groups, classes) for s, t in seeds}

    def score(self, row: str, which: Which | None = None) -> Sample | None:
        """A row's score; `which` says by which trial of a tuned method, None for one without where there is none."""
        return (self.samples if which is None else self.trials.get(which, {})).get(row)

    def accuracy(self, row: str) -> Sample | None:
        return self.accuracies.get(row)

    def on_test(self, row: str) -> Sample | None:
        """A row's score on the test split alone."""
        return self.test[self.evaluation.metric].get(row)

    def gain(self, row: str, over: str) -> Sample | None:
        """Score minus another row's, paired; on the test split where one of them has seen the train split's truth."""
        return self._of(difference, row, over) if row != over else None

    def improved(self, row: str, over: str) -> Sample | None:
        """Whether its score is higher than another row's, for each seed."""
        return self._of(improvement, row, over) if row != over else None

    def gap(self, floor: str = FLOOR) -> Sample | None:
        """Ceiling minus a floor, on the test split; None while the ceiling is not known."""
        return self._of(difference, CEILING, floor)

    def recovered(self, row: str, floor: str = FLOOR) -> Sample | None:
        """PGR; None where it is undefined or not known."""
        gain, gap = self._of(difference, row, floor), self.gap(floor)
        return recovered_gap(gain, gap) if gain and gap else None

    def failed(self, row: str, floor: str = FLOOR) -> Sample | None:
        """Whether its score is below the floor, for each seed."""
        return self._of(failure, row, floor)

    def _of(self, quantity: Callable[..., Sample | None], *rows: str) -> Sample | None:
        """Of these rows' scores on examples on which they can be compared.

        That is the test split if one of them has seen the train split's truth, or is the supervisors themselves: a
        student has been given their answers to the train split, and says more of them there than of new examples.
        """
        whole = (TRAIN_TRUTH | REFERENCES.keys()).isdisjoint(rows)
        samples = self.samples if whole else self.test[self.evaluation.metric]
        return quantity(*(samples[row] for row in rows)) if all(row in samples for row in rows) else None

    @property
    def has_gap(self) -> bool | None:
        """Whether PGR is defined here; None while the ceiling is not known."""
        return self.gap_over(FLOOR)

    def gap_over(self, floor: str) -> bool | None:
        """The same of PGR from any floor."""
        return gap_defined(self.gap(floor)) if CEILING in self.samples else None

    @property
    def broken(self) -> bool:
        """Whether one of its supervisors is broken."""
        return _broken(self.evaluation)

    @property
    def base(self) -> str:
        """Of a task with a broken supervisor the name of the task as it is; of any other its own."""
        return _base(self.evaluation)

    @cached_property
    def pool(self) -> str:
        """The same for all tasks that have one and the same pool, as broken sisters and stress variants of a task do.

        It is a hash of the first seed's truth, so that tasks of which some seeds were not run are known again.
        """
        return truth_hash(self.evaluation, sorted(self.evaluation.seeds)[:1])

    def full(self, row: str) -> bool:
        """Whether the row has a score for every seed of the task."""
        return row in self.samples and len(self.samples[row].seeds) == len(self.evaluation.seeds)


@dataclass(frozen=True, eq=False)
class Analysis:
    """All cells of a suite, and what could not be used.

    Attributes:
        records: those that the cells are made of.
        titles: of every row. ablations: rows that are variants of another method. method_families: of the methods whose
            records name one.
        transfer: of a tuned method, by family, the number of the setting that is best on the other families; there is
            none for the only family.
        problems: invalid lines, records that don't fit, metrics that differ from their recomputation.
        errors: what is known of the cells' errors from test examples.
    """

    cells: dict[CellKey, Cell]
    records: list[Record]
    titles: dict[str, str]
    ablations: frozenset[str]
    problems: list[str]
    errors: ExampleErrors
    transfer: Choices = field(default_factory=dict)
    method_families: Mapping[str, Family] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """Names of the methods, canaries left out."""
        return [row for row in self.titles if row not in CANARIES and row not in REFERENCES]

    @property
    def competitors(self) -> list[str]:
        """Methods that are not an ablation of another."""
        return [row for row in self.methods if row not in self.ablations]

    def headline(self, condition: str) -> list[Cell]:
        """What means over all tasks are over: cells without a broken supervisor; all, where all have one."""
        return self.select(condition, broken=False) or self.select(condition)

    def select(self, condition: str, modality: str | None = None, broken: bool | None = None) -> list[Cell]:
        """Cells of a condition, of one modality, with or without those that have a broken supervisor."""
        return [
            cell
            for (_, where), cell in self.cells.items()
            if where == condition and modality in (None, cell.evaluation.modality) and broken in (None, cell.broken)
        ]

    @staticmethod
    def over(cells: Sequence[Cell], quantity: Callable[[Cell], Sample | None], plain: bool = False) -> Estimate | None:
        """Mean of a quantity over the cells where it is known, by `task_weights`; None when there is none.

        The variance of paired differences is pooled over tasks that share no pool.
        """
        known = {cell: sample for cell in cells if (sample := quantity(cell)) is not None}
        if not known:
            return None
        blocks = [cell.pool for cell in known] if all(sample.paired for sample in known.values()) else None
        return estimate([*known.values()], task_weights([*known], plain), blocks)


def task_weights(cells: Sequence[Cell], plain: bool = False) -> Floats:
    """(T,) what each cell counts in a mean: over families of means over their tasks; in a plain one all tasks count
    alike. Tasks that break one supervisor each of the same base are one task."""
    units = [(cell.base, cell.broken) for cell in cells]
    return family_weights(["" if plain else cell.evaluation.family for cell in cells], units)


def _broken(evaluation: Evaluation) -> bool:
    return BROKEN in evaluation.tags


def _base(evaluation: Evaluation) -> str:
    if not _broken(evaluation):
        return evaluation.task
    said = dict(tag.split("=", 1) for tag in evaluation.tags if "=" in tag)
    return said.get("base", evaluation.task.removesuffix(f"-{BROKEN}"))


def truth_hash(evaluation: Evaluation, seeds: Sequence[int]) -> str:
    """Hash of the test labels and groups of some seeds, in this order."""
    parts = [part for seed in seeds for part in (evaluation.seeds[seed].labels, evaluation.seeds[seed].groups)]
    return hashlib.sha256(b"|".join(part.tobytes() for part in parts)).hexdigest()


def analyse(contents: Contents) -> Analysis:
    """Score everything from predictions; resamples are made when an error that is not known is asked for."""
    records, metrics, problems = _usable(contents)
    errors = ExampleErrors(_identity(contents))
    grouped: dict[CellKey, dict[str, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in sorted(records, key=lambda record: record.key):
        grouped[record.task, record.condition][record.method][record.seed] = record
    transfer = _transfer(contents, records)
    titles = {record.method: record.title for record in sorted(records, key=lambda record: record.key)}
    return Analysis(
        cells={
            key: _cell(contents, key, grouped[key], metrics, errors, transfer) for key in sorted(contents.evaluations)
        },
        records=records,
        titles={**dict(sorted(titles.items())), **REFERENCES},
        ablations=frozenset(record.method for record in records if record.ablation_of),
        problems=[*contents.problems, *problems],
        errors=errors,
        transfer=transfer,
        method_families={record.method: record.family for record in records if record.family},
    )


def _transfer(contents: Contents, records: Sequence[Record]) -> Choices:
    """The settings that transfer tuning chooses: by scores on the tasks that means over all tasks are over, under the
    main condition, of all seeds."""
    tuned = [record for record in records if is_tuned(record)]
    families = {(record.method, contents.evaluations[record.task, record.condition].family) for record in tuned}
    for only in (lambda r: r.condition == "ood", lambda r: not _broken(contents.evaluations[r.task, r.condition])):
        having = {record.method for record in tuned if only(record)}
        tuned = [record for record in tuned if only(record) or record.method not in having]
    scores: dict[str, dict[CellKey, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    for record in tuned:
        key = record.task, record.condition
        of_record = trial_scores(contents.evaluations[key], record.seed, contents.predictions[record.key])
        scores[record.method][key].append(of_record)
    chosen: dict[tuple[str, str], int] = {}
    for method, left_out in sorted(families):
        evaluations = [contents.evaluations[key] for key in scores[method]]
        number = best_elsewhere(
            left_out,
            np.array([np.mean(own, axis=0) for own in scores[method].values()]),
            [evaluation.family for evaluation in evaluations],
            [_base(evaluation) for evaluation in evaluations],
        )
        if number is not None:
            chosen[method, left_out] = number
    return chosen


_analysed: WeakKeyDictionary[ResultStore, tuple[int, Analysis]] = WeakKeyDictionary()


def analysis_of(store: ResultStore) -> Analysis:
    """`analyse` what a store holds; done once until the store is written to."""
    contents = store.load()
    if store not in _analysed or _analysed[store][0] != store.revision:
        _analysed[store] = store.revision, analyse(contents)
    return _analysed[store][1]


def analysis_with_records(store: ResultStore) -> Analysis:
    """As `analysis_of`.

    Raises:
        W2SError: there are no results that can be used.
    """
    analysis = analysis_of(store)
    if not analysis.records:
        raise no_results(store.root, analysis.problems)
    return analysis


def keep_errors(*stores: ResultStore) -> None:
    """Keep for other commands what was computed of these stores' errors."""
    for store in stores:
        analysis_of(store).errors.keep()


def _usable(contents: Contents) -> tuple[list[Record], dict[RecordKey, Metrics], list[str]]:
    """Records that count: they fit, are of the newest engine and method, and of one setting a method and cell. And the
    metrics by their predictions, and what is wrong."""
    problems: list[str] = []
    metrics: dict[RecordKey, Metrics] = {}
    settings: dict[tuple[str, str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    misfits = {key: contents.misfit(record) for key, record in contents.records.items()}
    newest: dict[tuple[str, str], int] = defaultdict(int)
    for key, record in contents.records.items():
        if misfits[key] is None:
            for of, version in _versions(record).items():
                newest[of] = max(newest[of], version)
    for key, record in sorted(contents.records.items()):
        where = f"{record.method}/{RECORDS}: {key}"
        older = (
            f"{of[0]}: found {version}, others here are of {newest[of]}; run it again"
            for of, version in _versions(record).items()
            if version != newest[of]
        )
        if reason := misfits[key] or next(older, None):
            problems.append(f"{where}: {reason}")
            continue
        settings[record.task, record.condition, record.method][record.setting].append(record)
        evaluation = contents.evaluations[record.task, record.condition]
        metrics[key] = expected_metrics(evaluation, record, contents.predictions[key])
        problems += [f"{where}: {fault}" for fault in metric_faults(record, metrics[key])]
    chosen: list[Record] = []
    for (task, condition, method), by_setting in settings.items():
        used = max(by_setting, key=lambda setting: (len(by_setting[setting]), setting))
        chosen += by_setting[used]
        if len(by_setting) > 1:
            others = ", ".join(sorted(by_setting.keys() - {used}))
            text = f"{method} on {task}/{condition}: several settings; the tables use {used}, not {others}"
            problems.append(f"{method}/{RECORDS}: {text}")
    return chosen, metrics, problems + source_findings(chosen)


def _versions(record: Record) -> dict[tuple[str, str], int]:
    """Results of different versions of these, the engine and its own method, are not compared."""
    return {("engine_version", ""): record.engine_version, ("method_version", record.method): record.method_version}


def _identity(contents: Contents) -> str:
    """Hash of all that resamples are made from: truth, supervisors and predictions by their own hashes."""
    truths = [
        (
            *(key, evaluation.metric, evaluation.family, evaluation.tags),
            [(seed, truth.sha256) for seed, truth in sorted(evaluation.seeds.items())],
        )
        for key, evaluation in sorted(contents.evaluations.items())
    ]
    records = [
        (key, record.predictions_sha256, record.diagnostics.get(CHOSEN), *record.versions)
        for key, record in sorted(contents.records.items())
    ]
    return hashlib.sha256(repr((RESAMPLES, truths, records)).encode()).hexdigest()


def _cell(
    contents: Contents,
    key: CellKey,
    records: dict[str, dict[int, Record]],
    metrics: Mapping[RecordKey, Metrics],
    errors: ExampleErrors,
    transfer: Choices,
) -> Cell:
    """Scores of every row, and their bootstrap replicates when they are needed."""
    evaluation = contents.evaluations[key]
    own, truths = evaluation.metric, dict(sorted(evaluation.seeds.items()))
    blocks: dict[int, dict[_Row, NDArray[Any]]] = {seed: {} for seed in truths}
    scores: dict[_Row, dict[int, Metrics]] = defaultdict(dict)
    for row, by_seed in sorted(records.items()):
        for seed, record in by_seed.items():
            predictions = contents.predictions[record.key]
            if not is_tuned(record):
                blocks[seed][None, row], scores[None, row][seed] = predictions, metrics[record.key]
                continue
            tried, chosen = trial_scores(evaluation, seed, predictions), transfer.get((row, evaluation.family))
            for which, number in trial_numbers(record, tried, chosen).items():
                block = blocks[seed][which, row] = of_trial(predictions, number)
                scores[which, row][seed] = compute_metrics(evaluation, seed, block, row)
    for seed, truth in truths.items():
        for row, block in reference_predictions(truth).items():
            blocks[seed][None, row] = block
            scores[None, row][seed] = compute_metrics(evaluation, seed, block, row)
    replicates = cache(lambda test: _replicates(evaluation, blocks, test))

    def samples(metric: str, which: Which | None, test: bool = False) -> dict[str, Sample]:
        """By row that has such a trial; on the test split, where `test` is asked for or a row has seen the truth of the
        train split."""
        named = f"test_{metric}" if test else metric

        def drawn(row: str) -> dict[_Row, Floats]:
            return replicates(evaluation.whole and (test or row in TRAIN_TRUTH))[metric]

        return {
            at[1]: Sample(
                seeds=tuple(by_seed),
                values=np.array([found[named] for found in by_seed.values()]),
                resampled=lambda at=at: drawn(at[1])[at],  # type: ignore[misc]
                name="/".join((*key, named, at[0] or "", at[1])),
                errors=errors,
            )
            for at, by_seed in scores.items()
            if at[0] == which
        }

    def shown(metric: str, test: bool = False) -> dict[str, Sample]:
        """By row, of a tuned method by the trial that stands for it."""
        return samples(metric, None, test) | samples(metric, "agreement", test) | samples(metric, "transfer", test)

    whole = {metric: shown(metric) for metric in metric_names(own)}
    return Cell(
        evaluation=evaluation,
        records=records,
        samples=whole[own],
        accuracies=whole["accuracy"],
        trials={which: samples(own, which) for which in get_args(Which)},
        test={metric: shown(metric, test=True) for metric in whole} if evaluation.whole else whole,
    )


def _replicates(
    evaluation: Evaluation, blocks: Mapping[int, Mapping[_Row, NDArray[Any]]], test: bool
) -> dict[str, dict[_Row, Floats]]:
    """By metric and row, (S, B) for the seeds that the row has; all replicas of all rows of a seed are one matrix.

    Args:
        blocks: for each seed, the predictions (R, n) of every row.
        test: whether on the test split alone, whose examples weigh as they do in the whole pool.
    """
    truths = [evaluation.seeds[seed] for seed in blocks]
    splits = [
        Split.of(np.concatenate(list(rows.values())), truth.labels, truth.groups)
        for rows, truth in zip(blocks.values(), truths, strict=True)
    ]
    drawn = _drawn(evaluation, splits)
    if test:
        parts = [truth.test[truth.labels >= 0] for truth in truths]
        splits = [split.part(part) for split, part in zip(splits, parts, strict=True)]
        drawn = [draws.of(part) for draws, part in zip(drawn, parts, strict=True)]
    found: dict[str, dict[_Row, Floats]] = {}
    for metric in metric_names(evaluation.metric):
        means: dict[_Row, list[Floats]] = defaultdict(list)
        for draws, split, rows in zip(drawn, splits, blocks.values(), strict=True):
            ends = np.cumsum([len(block) for block in rows.values()])
            scores = np.split(draws.scores(metric, split), ends[:-1])
            for row, own in zip(rows, scores, strict=True):
                means[row].append(own.mean(0))
        found[metric] = {row: np.array(own, np.float32) for row, own in means.items()}
    return found


_last_drawn: dict[tuple[str, str], list[Draws]] = {}


def _drawn(evaluation: Evaluation, splits: Sequence[Split]) -> list[Draws]:
    """Tasks with the same examples (a task and its broken sister, the levels of a stress curve) share resamples.

    Those of the last are kept, as the next is often its sister.
    """
    examples = truth_hash(evaluation, sorted(evaluation.seeds))
    key = examples, METRICS[evaluation.metric].resampled
    if key not in _last_drawn:
        _last_drawn.clear()
        _last_drawn[key] = draw(evaluation.metric, splits, RESAMPLES, numpy_rng("bootstrap", examples))
    return _last_drawn[key]
