"""A plug-in to disturb runs with: small tasks, tasks of which one part goes wrong, and a method that can be held in the
middle of a unit, or does what it should not.

Environment: `W2S_TEST_DATA` is a number that changes the data of the last small task. `W2S_TEST_HOLD` is a folder in
which each unit that begins leaves its process id, under a number; from `W2S_TEST_HOLD_FROM` on, units wait there until
they are killed or there is a file `released`. `W2S_TEST_WAY` is what the method does: see `Unruly`.
"""

import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.api import Batch, Method, Supervision, Supervisor, cross_entropy, register_method, register_task
from support.disturbed import BAD, TASKS
from support.made_up import Blobs, Centroids, Columns

PATIENCE = 120  # seconds until a held unit gives up
LINGERS = float(os.environ.get("W2S_TEST_LINGERS", "60"))
WAY = os.environ.get("W2S_TEST_WAY", "")


@register_method
@dataclass(eq=False)
class Unruly(Method):
    """CE(q, mean p). It `prints`; it `forks` copies of its process that go on as it does, one of them after
    `W2S_TEST_LINGERS` seconds; it `exits` in the middle; it `seeds` or `draws` from the global random state."""

    name = "unruly"
    title = citation = "test"
    kind = "ensemble"

    def start(self, supervision: Supervision) -> None:
        for seconds in (0, LINGERS) if WAY == "forks" else ():
            os.write(1, b"printed by a plug-in\n")
            if os.fork() == 0:
                time.sleep(seconds)
                return
        if folder := os.environ.get("W2S_TEST_HOLD"):
            held(Path(folder))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if WAY == "prints":
            print("printed by a plug-in")
            print("said by a plug-in", file=sys.stderr)
        if WAY == "exits" and batch.progress > 0.5:
            sys.exit(5)
        if WAY == "seeds":
            random.seed(1)
            np.random.seed(1)  # noqa: NPY002
            torch.manual_seed(1)
        if WAY == "draws":
            random.random(), np.random.random(), torch.rand(3)  # noqa: NPY002
        return cross_entropy(logits, batch.soft_labels.mean(2))


def held(folder: Path) -> None:
    """Wait here, if so many have begun."""
    number = 0
    while True:
        try:
            with (folder / str(number)).open("x") as file:
                file.write(str(os.getpid()))
            break
        except FileExistsError:
            number += 1
    until = time.monotonic() + PATIENCE
    while number >= int(os.environ["W2S_TEST_HOLD_FROM"]) and not (folder / "released").exists():
        if time.monotonic() > until:
            raise TimeoutError("held, and never killed")
        time.sleep(0.02)


for position, name in enumerate(TASKS):
    more = int(os.environ.get("W2S_TEST_DATA", "0")) if name == TASKS[-1] else 0
    register_task(Blobs((80, 80, 120 + position + more), name=name, edition=name))
for way in BAD["supervisor"]:
    bad = Supervisor(Centroids(spoil=way), ("left", "right"))
    register_task(Blobs(name=f"bad-supervisor-{way}", supervisors=[bad, Supervisor(Centroids(), ("right",))]))
for way in BAD["encoder"]:
    register_task(Blobs(name=f"bad-encoder-{way}", encoder=Columns(fingerprint=way, spoil=way)))
