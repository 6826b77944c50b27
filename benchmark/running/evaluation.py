"""What problems leave for scoring, in the order in which predictions of the whole pool are stored."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.core.data import SPLITS, Problem
from benchmark.core.records import Evaluation, SeedEvaluation
from benchmark.core.task import Task


def evaluate(task: Task, problems: Sequence[Problem]) -> Evaluation:
    """Everything that any score of these problems needs besides the students' predictions."""
    return Evaluation(
        task=task.name,
        condition=problems[0].condition,  # type: ignore[arg-type]
        family=task.family,
        modality=task.card.modality,
        metric=task.card.metric,
        num_classes=problems[0].soft_labels["test"].shape[-1],
        target=task.card.target,
        tags=tuple(task.card.tags),
        supervisors=problems[0].supervisors,
        task_version=task.version,
        data_fingerprint=problems[0].fingerprint,
        seeds={p.seed: _truth(p) for p in problems},
    )


def _truth(problem: Problem) -> SeedEvaluation:
    labels, groups, soft_labels = problem.truth.labels, problem.truth.groups, problem.soft_labels
    y = labels["train"]
    return SeedEvaluation(
        labels=whole(labels),
        groups=whole(groups),
        supervisors=whole({split: p.argmax(-1) for split, p in soft_labels.items()}).T,
        ensemble=whole({split: p.mean(1).argmax(-1) for split, p in soft_labels.items()}),
        majority=int(np.bincount(y[y >= 0], minlength=1).argmax()),  # 0 where nothing is known
        splits=np.repeat(np.arange(len(SPLITS), dtype=np.uint8), [len(labels[split]) for split in SPLITS]),
    )


def whole(by_split: Mapping[str, NDArray[Any]], axis: int = 0) -> NDArray[Any]:
    """The pool, in the order of an `Evaluation`."""
    return np.concatenate([by_split[split] for split in SPLITS], axis)
