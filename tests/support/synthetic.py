"""Made-up results: a store written through `write_unit`, in which each method's true accuracy is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.records import Evaluation, Record, SeedEvaluation, digest, setting_hash
from benchmark.core.scoring import compute_metrics
from benchmark.results.store import ResultStore

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
        )
    return Evaluation(
        task=task.name,
        condition=condition,  # type: ignore[arg-type]
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


def entry(task: Task, evaluated: Evaluation, method: str, seed: int, **changes: Any) -> tuple[Record, NDArray[Any]]:
    """A record and its predictions; `changes` replace fields of the record."""
    accuracy, kind, ablation_of = METHODS.get(method, (0.7, "ensemble", None))
    if method == "random_supervision":
        accuracy = 1 / task.num_classes
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
        "metrics": compute_metrics(evaluated, seed, predictions),
        "diagnostics": {} if weights is None else {"weights": weights.tolist()},
        "hyperparameters": hyperparameters,
        "cost": 100,
        "n_train": 400,
        "n_test": task.test,
        "predictions_sha256": digest(predictions),
        "evaluation_sha256": evaluated.seeds[seed].sha256,
        "device": "cpu",
        "libraries": {"numpy": "2.0"},
        "commit": "c0ffee",
        "data_fingerprint": task.fingerprint,
        "engine_version": 1,
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


def default_tasks() -> list[Task]:
    return [
        Task("solar", "image", fingerprint="a1"),
        Task("digits", "image", "accuracy", 10, members=4, fingerprint="b2"),
        Task("tweets", "text", fingerprint="c3"),
        Task("tweets-broken", "text", fingerprint="c3", tags=("broken",)),
        Task("pairs", "preference", "accuracy", fingerprint="d4"),
    ]
