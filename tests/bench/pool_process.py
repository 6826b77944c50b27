"""One measurement of a pool, in a process of its own: `python pool_process.py FILE ...` (see test_pool_sizes.py).

Prints a line of JSON: seconds, processor seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

D, K, M, SEEDS = 768, 10, 3, 5


class Enough(Exception):
    """Trained for long enough."""


def make(path: Path, n: int) -> None:
    """An array file of n examples, written block by block."""
    rng = np.random.default_rng(0)
    labels = rng.integers(K, size=n)
    says = np.where(rng.random((n, M)) < 0.6, labels[:, None], rng.integers(K, size=(n, M)))
    scores = 2 * np.eye(K, dtype=np.float32)[says] + rng.standard_normal((n, M, K), np.float32)
    soft_labels = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    kinds = {"features": ("F32", [n, D], 4), "labels": ("I64", [n], 8), "soft_labels": ("F32", [n, M, K], 4)}
    header, start = {}, 0
    for name, (dtype, shape, size) in kinds.items():
        stop = start + size * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    centres = 2 * rng.standard_normal((K, D), np.float32) / D**0.5
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for first in range(0, n, 8192):
            own = labels[first : first + 8192]
            file.write((rng.standard_normal((len(own), D), np.float32) + centres[own]).data)
        file.write(labels.data)
        file.write(np.ascontiguousarray(soft_labels).data)


def run(path: Path, heads: int, epochs: int, limit: float, features: str) -> dict[str, float]:
    """The way of a unit: the pool's problems, training of `heads` heads over all seeds, predictions of the test split.

    Time is counted from the first mark, after a second or an epoch: what a process does once is left out.

    Args:
        limit: stop training after so many seconds; then nothing is predicted.
        features: "usual", which lie in mapped tables if the pool is large; or "in-memory".
    """
    import torch

    from benchmark.arrays import ArrayTask
    from benchmark.core.data import Recipe
    from benchmark.core.problems import build_problem, training_data
    from benchmark.core.registry import METHODS
    from benchmark.core.training import train
    from benchmark.store.cache import Cache

    torch.set_num_threads(1)
    begun = time.perf_counter()
    task = ArrayTask.from_file(path)
    problems = [build_problem(task, "ood", seed, Cache()) for seed in range(SEEDS)]
    data, held_out = training_data(task.student, problems)
    if features == "in-memory":
        data.features["features"] = data.features["features"].whole()
    prepared = time.perf_counter() - begun
    own = heads // SEEDS
    methods = [METHODS["naive"]() for _ in range(own // M)] + [METHODS["ensemble"]() for _ in range(own % M)]
    _warm_up(methods)
    marks: list[tuple[float, float, float]] = []  # seconds, processor seconds, epochs done

    def on_step(share: float) -> None:
        done = share + int(marks[-1][2] if marks else 0) if share < 1 else int(marks[-1][2] if marks else 0) + 1
        marks.append((time.perf_counter(), time.process_time(), float(done)))
        if done < epochs and time.perf_counter() - start[0] > limit:
            raise Enough

    start = time.perf_counter(), time.process_time()
    predicted = 0.0
    try:
        trained = train(methods, data, Recipe(epochs=epochs), on_step)
    except Enough:
        pass
    else:
        begun = time.perf_counter()
        for result in trained:
            for s in range(SEEDS):
                result.student.seed(s).predict(held_out["test"][s]).argmax(-1)
        predicted = time.perf_counter() - begun
    (s0, c0, first), (s1, c1, last) = marks[0], marks[-1]
    seconds, cpu, done = (s1 - s0, c1 - c0, last - first) if last > first else (s1 - start[0], c1 - start[1], last)
    examples = done * data.soft_labels.shape[2]
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "prepare": prepared,
        "epochs": last,
        "microseconds": seconds / examples * 1e6,
        "cpu_microseconds": cpu / examples * 1e6,
        "predict": predicted,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def _warm_up(methods: list[Any]) -> None:
    """What a process does once: imports, and the first call of each kernel."""
    import torch

    from benchmark.core.data import Recipe
    from benchmark.core.training import TrainingData, train
    from benchmark.students.linear import LinearStudent

    labels = torch.full((SEEDS, M, 256, K), 1 / K)
    train(
        [type(m)() for m in methods],
        TrainingData({"features": torch.randn(SEEDS, 256, D)}, labels, tuple(range(SEEDS)), LinearStudent),
        Recipe(epochs=2),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--make", type=int)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=1e9)
    parser.add_argument("--features", default="usual", choices=["usual", "in-memory"])
    given = parser.parse_args()
    if given.make:
        make(given.file, given.make)
    else:
        print(json.dumps(run(given.file, given.heads, given.epochs, given.limit, given.features)))
