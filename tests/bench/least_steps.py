"""How many steps a student needs at least: the ceiling by examples and optimizer steps.

`python tests/bench/least_steps.py TASK ...` cuts each task's train split (out of distribution, two seeds) to so many
examples, trains the student on the truth, and prints its mean score in percent for each number of steps: the suites'
`min_steps` is the number at which ceilings level off. Only the truth is trained on; no method's score is looked at.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch

from benchmark.base.paths import cache_root
from benchmark.core.canaries import canary_data
from benchmark.core.data import Problem, Recipe
from benchmark.core.losses import CrossEntropy
from benchmark.core.problems import build_problem, training_data
from benchmark.core.registry import TASKS
from benchmark.core.scoring import score
from benchmark.core.task import Task
from benchmark.core.training import train
from benchmark.store.cache import Cache

EXAMPLES = (100, 200, 350, 700, 1400, 2800)
STEPS = (30, 60, 125, 250, 500, 1000, 2000, 4000)
BATCH = 128


def cut(problem: Problem, count: int) -> Problem:
    """The same with the first `count` examples of the train split, which is in random order."""

    def first(by_split: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {split: x[:count] if split == "train" else x for split, x in by_split.items()}

    return replace(
        problem,
        features={output: first(own) for output, own in problem.features.items()},
        soft_labels=first(problem.soft_labels),
        truth=replace(problem.truth, labels=first(problem.truth.labels), groups=first(problem.truth.groups)),
    )


def ceiling(task: Task, problem: Problem, steps: int) -> float:
    """Score of the student on the test split, trained on the truth for about so many steps."""
    data, held_out = training_data(task.student, [problem])
    supervision = canary_data(data, [(problem, task.card.metric)], ["ground_truth"])
    epochs = max(1, round(steps / max(1, len(problem.truth.labels["train"]) // BATCH)))
    (trained,) = train([CrossEntropy()], supervision, Recipe(1e-3, epochs, BATCH))
    answers = trained.student.predict(held_out["test"][0])[0].argmax(-1).numpy()
    truth = problem.truth
    return float(
        score(task.card.metric, answers, truth.labels["test"], truth.groups["test"], len(task.card.classes))[0]
    )


def main() -> None:
    torch.set_num_threads(1)
    print("examples", *STEPS, sep="\t")
    for name in sys.argv[1:]:
        task = TASKS[name]
        problems = [build_problem(task, "ood", seed, Cache(cache_root())) for seed in range(2)]
        for count in EXAMPLES:
            if all(len(p.truth.labels["train"]) >= count for p in problems):
                means = [np.mean([ceiling(task, cut(p, count), steps) for p in problems]) for steps in STEPS]
                print(f"{name} {count}", *(f"{100 * mean:.1f}" for mean in means), sep="\t", flush=True)


if __name__ == "__main__":
    main()
