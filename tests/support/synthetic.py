"""Made-up results: a store written through `write_unit`, in which each method's true accuracy is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.analysis.cells import Analysis, Cell
from benchmark.analysis.example_errors import ExampleErrors
from benchmark.analysis.statistics import Sample
from benchmark.core.corruption import Corruption, base_tags
from benchmark.core.names import ENGINE_VERSION, GRID_SIZE
from benchmark.core.records import Evaluation, Record, SeedEvaluation, digest, setting_hash
from benchmark.core.scoring import compute_metrics
from benchmark.results.store import ResultStore
from benchmark.results.trials import trial_metrics

Ints = NDArray[np.int64]


@dataclass
class Task:
    """A made-up task: pool of examples with shared difficulty, so that seeds and methods resemble one another."""

    name: str
    modality: str = "text"
    metric: str = "balanced_accuracy"
    num_classes: int = 2
    tags: tuple[str, ...] = ()
    members: int = 3
    version: int = 1
    fingerprint: str = "f" * 8
    pool: int = 600
    test: int = 150
    family: str = ""  # its own name when left out
    whole: bool = False  # whether these `test` examples are a pool with its splits, all scored
    labels: Ints = field(init=False)
    groups: Ints = field(init=False)
    ease: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(abs(hash_of(self.name)))
        self.labels = rng.integers(self.num_classes, size=self.pool)
        self.groups = rng.integers(self.pool // 2, size=self.pool)
        self.ease = rng.normal(size=self.pool)

    def chosen(self, condition: str, seed: int) -> Ints:
        rng = np.random.default_rng([seed, condition == "ood", abs(hash_of(self.name))])
        return np.sort(rng.choice(self.pool, self.test, replace=False))

    def answers(self, rows: Ints, accuracy: float, rng: np.random.Generator) -> Ints:
        """Predictions that are right with about the given probability, more often on easy examples."""
        logit = np.log(accuracy / (1 - accuracy)) + 0.5 * self.ease[rows]
        right = rng.random(len(rows)) < 1 / (1 + np.exp(-logit))
        other = (self.labels[rows] + rng.integers(1, self.num_classes, size=len(rows))) % self.num_classes
        return np.where(right, self.labels[rows], other)


def hash_of(text: str) -> int:
    """Like `hash`, but the same in every process."""
    return int.from_bytes(text.encode()[-6:], "little")


def evaluation(task: Task, condition: str, seeds: range) -> Evaluation:
    truths = {}
    for seed in seeds:
        rows = task.chosen(condition, seed)
        rng = np.random.default_rng([seed, 1])
        supervisors = np.stack([task.answers(rows, 0.6 + 0.05 * m, rng) for m in range(task.members)])
        truths[seed] = SeedEvaluation(
            labels=task.labels[rows],
            groups=task.groups[rows],
            supervisors=supervisors,
            ensemble=task.answers(rows, 0.7, rng),
            majority=0,
            splits=np.array([0] * 7 + [1] + [2] * 2, np.uint8)[np.arange(len(rows)) * 10 // len(rows)]
            if task.whole
            else None,
        )
    return Evaluation(
        task=task.name,
        condition=condition,  # type: ignore[arg-type]
        family=task.family or task.name,
        modality=task.modality,
        metric=task.metric,
        num_classes=task.num_classes,
        target="elsewhere",
        tags=task.tags,
        supervisors=tuple(f"s{m}" for m in range(task.members)),
        task_version=task.version,
        data_fingerprint=task.fingerprint,
        seeds=truths,
    )


def analysis_with(scores: dict[tuple[str, str], dict[str, NDArray[np.float64]]], ablations: str = "") -> Analysis:
    """Of each (family, task), OOD, the scores (S,) of every row, the same on every resample; an ablation a letter."""
    cells = {}
    for (family, task), own in scores.items():
        seeds = range(len(next(iter(own.values()))))
        samples = {row: Sample(tuple(seeds), values, values[:, None].repeat(2, 1)) for row, values in own.items()}
        evaluated = evaluation(Task(task, family=family), "ood", seeds)
        cells[task, "ood"] = Cell(evaluated, {}, samples, samples, {}, {evaluated.metric: samples})
    titles = {row: row for own in scores.values() for row in own}
    return Analysis(cells, [], titles, frozenset(ablations), [], ExampleErrors(""))


# name -> (accuracy, kind, ablation of); canaries included
METHODS: dict[str, tuple[float, str, str | None]] = {
    "naive": (0.66, "single", None),
    "ensemble": (0.72, "ensemble", None),
    "raven": (0.76, "ensemble", None),
    "raven_no_easy": (0.74, "ensemble", "raven"),
    "ground_truth": (0.9, "canary", None),
    "best_supervisor": (0.74, "canary", None),
    "random_supervision": (0.5, "canary", None),
}


def entry(
    task: Task, evaluated: Evaluation, method: str, seed: int, accuracy: float | None = None, **changes: Any
) -> tuple[Record, NDArray[Any]]:
    """A record and its predictions; `changes` replace fields of the record."""
    usual, kind, ablation_of = METHODS.get(method, (0.7, "ensemble", None))
    accuracy = accuracy or (1 / task.num_classes if method == "random_supervision" else usual)
    rows = task.chosen(evaluated.condition, seed)
    rng = np.random.default_rng([seed, hash_of(method), hash_of(task.name), evaluated.condition == "ood"])
    predictions = np.stack([task.answers(rows, accuracy, rng) for _ in range(task.members if kind == "single" else 1)])
    hyperparameters = changes.pop("hyperparameters", {"student": {"learning_rate": 1e-3}, "method": {}})
    weights = rng.dirichlet(np.ones(task.members)) if method.startswith("raven") else None
    values: dict[str, Any] = {
        "task": task.name,
        "condition": evaluated.condition,
        "method": method,
        "setting": setting_hash(hyperparameters),
        "seed": seed,
        "title": method.replace("_", " ").title(),
        "kind": kind,
        "ablation_of": ablation_of,
        "metrics": compute_metrics(evaluated, seed, predictions, method),
        "diagnostics": {} if weights is None else {"weights": weights.tolist()},
        "hyperparameters": hyperparameters,
        "cost": 100,
        "n_train": 400,
        "n_test": int(evaluated.seeds[seed].test.sum()),
        "predictions_sha256": digest(predictions),
        "evaluation_sha256": evaluated.seeds[seed].sha256,
        "device": "cpu",
        "libraries": {"numpy": "2.0"},
        "commit": "c0ffee",
        "data_fingerprint": task.fingerprint,
        "engine_version": ENGINE_VERSION,
        "task_version": task.version,
        "method_version": 1,
    }
    return Record(**{**values, **changes}), predictions


def fill(
    store: ResultStore,
    tasks: list[Task],
    methods: tuple[str, ...] = tuple(METHODS),
    seeds: range = range(3),
    conditions: tuple[str, ...] = ("ood", "ind"),
) -> None:
    """Write every unit of these tasks, as the runner does."""
    with store.lock():
        for task in tasks:
            for condition in conditions:
                evaluated = evaluation(task, condition, seeds)
                store.write_unit(evaluated, [entry(task, evaluated, m, seed) for m in methods for seed in seeds])


def put(
    store: ResultStore,
    task: Task,
    method: str,
    seeds: range = range(3),
    conditions: tuple[str, ...] = ("ood", "ind"),
    **changes: Any,
) -> None:
    """Write the results of one method on one task; `changes` are those of `entry`."""
    with store.lock():
        for condition in conditions:
            evaluated = evaluation(task, condition, seeds)
            store.write_unit(evaluated, [entry(task, evaluated, method, seed, **changes) for seed in seeds])


def default_tasks() -> list[Task]:
    return [
        Task("solar", "image", fingerprint="a1"),
        Task("digits", "image", "accuracy", 10, members=4, fingerprint="b2"),
        Task("tweets", "text", fingerprint="c3", family="posts"),
        Task("tweets-broken", "text", fingerprint="c3", tags=("broken",), family="posts"),
        Task("pairs", "preference", "accuracy", fingerprint="d4", family="posts"),
    ]


# --- a page with all that a page can have ----------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script> | **x** `y` [z](http://a)\n## Heading $m$ & \\| 50% \\input{x} #1 {~}^"


class Guessing(Task):
    """A task on which everybody guesses."""

    def answers(self, rows: Ints, accuracy: float, rng: np.random.Generator) -> Ints:
        return rng.integers(self.num_classes, size=len(rows))


def odd(store: ResultStore) -> None:
    """Tasks and methods of which each lacks something, or is something else than the others."""
    flat, mine = Task("flat", pool=900, test=400), Task("mine", "arrays", "worst_group_accuracy")
    mine.groups = mine.groups % 4
    tasks, ood = [flat, mine, Guessing("guessed", "image")], {"conditions": ("ood",)}
    fill(store, tasks, ("naive", "raven"), **ood)
    for task in tasks:
        put(store, task, "hasty", range(2), accuracy=0.95, **ood)
    fill(store, tasks[:2], ("ensemble",), **ood)
    put(store, flat, "ground_truth", accuracy=0.6, **ood)  # too small a gap for PGR
    put(store, mine, "ground_truth", **ood)
    put(store, mine, "lucky", accuracy=0.95, diagnostics={"weights": [1 / 3] * 3}, **ood)
    put(store, flat, "dear", cost=250, method_version=2, title=HOSTILE, **ood)
    language_model = {"model_description": "A model", "objective": "policy", "lora_blocks": 2, "lora_rank": 8}
    options = {"student": language_model, "method": {}}
    put(store, mine, "other", hyperparameters=options, diagnostics={"weights": [[0.1], [0.5]]}, **ood)


# method -> accuracy of each trial; agreements of each, for seeds 0 and 1; seed 2 (of a broken task, 1 too) chooses
# the default
TRIED = {
    "raven": ([0.6, 0.6, 0.6, 0.9, 0.6, 0.6, 0.6, 0.6], [0.5, 0.5, 0.6, 0.8, 0.8, 0.5, 0.5, 0.5]),  # better, chosen
    "naive": ([0.8, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.95], [0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4]),  # worse, chosen
    "raven_no_easy": ([0.7] * 8, [0.5] * 8),
}
SHORT = 5  # the trial that has fewer epochs than the default, and is the default otherwise


def tuned_entry(task: Task, evaluated: Evaluation, method: str, seed: int) -> tuple[Record, NDArray[Any]]:
    """A record of eight trials and their predictions."""
    accuracies, agreements = TRIED[method]
    if seed == 2 or (seed == 1 and "broken" in task.tags):
        agreements = [0.9, *agreements[1:]] if max(agreements) < 0.9 else [0.9] * 8
    rows, rng = task.chosen(evaluated.condition, seed), np.random.default_rng([seed, len(method), len(task.name)])
    replicas = task.members if method == "naive" else 1
    predictions = np.concatenate([np.stack([task.answers(rows, a, rng) for _ in range(replicas)]) for a in accuracies])
    trials = [{"student": {"epochs": 30}, "method": {"option": number}} for number in range(GRID_SIZE)]
    trials[SHORT] = {"student": {"epochs": 9}, "method": {"option": 0}}
    hyperparameters = {"trials": trials}
    number = int(np.argmax(agreements))
    record, _ = entry(
        task,
        evaluated,
        method,
        seed,
        hyperparameters=hyperparameters,
        metrics=trial_metrics(evaluated, seed, predictions, number, method),
        diagnostics={"agreement": agreements, "chosen": number},
        predictions_sha256=digest(predictions),
    )
    return record, predictions


def tuned(store: ResultStore, conditions: tuple[str, ...] = ("ood",), tasks: Sequence[Task] = ()) -> None:
    """Tuned results on these tasks, or on three of the default tasks, which are of two families."""
    with store.lock():
        for task in tasks or (default_tasks()[0], *default_tasks()[3:]):
            for condition in conditions:
                evaluated = evaluation(task, condition, range(3))
                entries = [tuned_entry(task, evaluated, method, seed) for method in TRIED for seed in range(3)]
                store.write_unit(evaluated, entries)


# method -> its accuracy at levels 0, 1, 2, 3; the mean supervisor's is .65 at all
STEADY = {"raven": (0.8, 0.8, 0.8, 0.8), "naive": (0.75, 0.75, 0.5, 0.35), "ensemble": (0.8, 0.55, 0.85, 0.7)}


@dataclass
class Level(Task):
    """A made-up task on the examples of another one, with its own supervisors."""

    base: str = ""

    def __post_init__(self) -> None:
        own, self.name = self.name, self.base
        super().__post_init__()
        self.name = own

    def chosen(self, condition: str, seed: int) -> Ints:
        return Task(self.base, pool=self.pool, test=self.test).chosen(condition, seed)


def level(kind: str, count: int, first: int | None = None) -> Level:
    """The task `pens` with so many supervisors corrupted in this way, from this one on; as it is for 0.

    Without `first` it is as version 1 of the corruptions had it, which drew them by seed.
    """
    if not count:
        return Level(
            "stress-pens", metric="accuracy", tags=base_tags("pens"), base="pens", pool=3000, test=1000, family="pens"
        )
    corruption = Corruption(kind, count, "pens", first or 0)
    name, mark = f"stress-pens-{kind}-{count}", corruption.fingerprint("f" * 8)
    name, tags = (name, corruption.tags[:-1]) if first is None else (f"{name}-{first + 1}", corruption.tags)
    return Level(name, metric="accuracy", tags=tags, base="pens", fingerprint=mark, pool=3000, test=1000, family="pens")


def stressed(
    store: ResultStore,
    kind: str,
    count: int,
    as_if: int | None = None,
    methods: Sequence[str] = (),
    first: int | None = None,
) -> None:
    """Write one level, at which methods are as good as `STEADY` says of it, or of the level `as_if`."""
    task = level(kind, count, first)
    for method in methods or (*STEADY, "ground_truth"):
        accuracy = STEADY[method][count if as_if is None else as_if] if method in STEADY else None
        put(store, task, method, range(5), ("ood",), accuracy=accuracy)


def stress(store: ResultStore) -> None:
    """Curves of random answers at levels 0 to 3, and of copies at 0 and 2."""
    for count in range(4):
        stressed(store, "random", count)
    stressed(store, "copies", 2, as_if=1)


def world(results: Path) -> Path:
    """A suite, its tuned results, one with stress curves and an odd one."""
    fill(ResultStore(results / "default"), default_tasks())
    tuned(ResultStore(results / "default-tuned"))
    odd(ResultStore(results / "odd"))
    stress(ResultStore(results / "stress"))
    return results
