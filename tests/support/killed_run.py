"""A run to be killed: a plug-in with tasks and a method that can be held in the middle of a unit.

Environment: `W2S_TEST_HOLD` is a folder in which each unit that begins leaves its process id, under a number; from
`W2S_TEST_HOLD_FROM` on, units wait there until they are killed or there is a file `released`. `W2S_TEST_DATA`
changes the data of the last task. `W2S_TEST_DIES` names a task that kills its process, `W2S_TEST_HANGS` one that never
ends, `W2S_TEST_EXITS` one that calls `sys.exit`. With `W2S_TEST_FORKS` each unit prints, and forks a process that lives
so many seconds more, and one that doesn't wait; both go on as if they were the worker.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmark.api import ArrayTask, Batch, Method, Supervision, cross_entropy, register_method, register_task
from benchmark.core.data import Problem
from benchmark.store.cache import Cache

TASKS = ("kill-a", "kill-b", "kill-c", "kill-d", "kill-e")
PATIENCE = 120  # seconds until a held unit gives up


@register_method
@dataclass(eq=False)
class Held(Method):
    """CE(q, mean p)."""

    name = "held"
    title = citation = "test"
    kind = "ensemble"

    def start(self, supervision: Supervision) -> None:
        if (lives := os.environ.get("W2S_TEST_FORKS")) is not None:
            os.write(1, b"printed by a plug-in\n")
            for seconds in (0, int(lives)):
                if os.fork() == 0:
                    time.sleep(seconds)
                    return
            return
        folder = os.environ.get("W2S_TEST_HOLD")
        if folder is None:
            return
        number = 0
        while True:
            try:
                with (Path(folder) / str(number)).open("x") as file:
                    file.write(str(os.getpid()))
                break
            except FileExistsError:
                number += 1
        until = time.monotonic() + PATIENCE
        while number >= int(os.environ["W2S_TEST_HOLD_FROM"]) and not (Path(folder) / "released").exists():
            if time.monotonic() > until:
                raise TimeoutError("held, and never killed")
            time.sleep(0.05)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels.mean(2))


class Bad(ArrayTask):
    """Kills or keeps the process that asks for its problem."""

    def problem(self, condition: str, seed: int, cache: Cache) -> Problem:
        if os.environ.get("W2S_TEST_DIES") == self.name:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("W2S_TEST_HANGS") == self.name:
            time.sleep(PATIENCE)
        if os.environ.get("W2S_TEST_EXITS") == self.name:
            sys.exit(5)
        return super().problem(condition, seed, cache)


for position, task in enumerate(TASKS):
    last = task == TASKS[-1]
    rng = np.random.default_rng(position + 100 * last * int(os.environ.get("W2S_TEST_DATA", "0")))
    labels = rng.integers(3, size=150)
    says = np.where(rng.random((150, 2)) < 0.7, labels[:, None], rng.integers(3, size=(150, 2)))
    features = rng.normal(size=(150, 16)) + rng.normal(size=(3, 16))[labels]
    register_task(Bad(features, 0.8 * np.eye(3)[says] + 0.2 / 3, labels, name=task))
