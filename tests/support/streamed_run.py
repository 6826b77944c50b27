"""A plug-in with a domain that is read in chunks; each chunk's maker leaves its process id in `W2S_TEST_MAKERS`."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmark.api import Task, register_task
from benchmark.core.data import Domain
from benchmark.core.task import Supervisor, TaskCard

SIZES = {"left": 400, "right": 400, "there": 4000}


@dataclass(frozen=True)
class Columns:
    """Features are the inputs."""

    name: str = "columns in chunks"
    outputs: tuple[str, ...] = ("all",)
    fingerprint: str = "chunked columns"
    requires: ClassVar[dict[str, str]] = {}

    def encode(self, inputs: Any, device: str = "cpu") -> dict[str, Any]:
        return {"all": inputs.astype(np.float32)}

    def stream(self, inputs: Any, ranges: Sequence[slice], device: str = "cpu") -> Iterator[dict[str, Any]]:
        for r in ranges:
            with (Path(os.environ["W2S_TEST_MAKERS"]) / f"{r.start}-{r.stop}-{os.getpid()}").open("x"):
                yield self.encode(inputs[r])


@dataclass(frozen=True)
class Nearest:
    """The class of the nearer mean."""

    name: ClassVar[str] = "tests.nearest"
    version: ClassVar[int] = 1

    def fit(self, inputs: Any, labels: Any, num_classes: int, seed: int) -> "Fitted":
        return Fitted(np.stack([inputs[labels == k].mean(0) for k in range(num_classes)]))


class Fitted:
    """Means (K, D)."""

    def __init__(self, means: Any) -> None:
        self.means = means

    def predict_proba(self, inputs: Any) -> Any:
        distance = np.square(inputs[:, None] - self.means).sum(-1)
        return 0.1 + 0.8 * (distance.argmin(1)[:, None] == np.arange(distance.shape[1]))


class Large(Task):
    name = "read-in-chunks"
    encoder = Columns()
    card = TaskCard("image", "made up", ("left", "right"), "there", ("a", "b"), "accuracy", *["none"] * 4)

    def domain(self, name: str) -> Domain:
        rng = np.random.default_rng(len(name))
        labels = rng.integers(2, size=SIZES[name])
        inputs = rng.normal(size=(len(labels), 8)) + labels[:, None]
        return Domain(lambda: inputs, labels, np.arange(len(labels)), name)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        return Supervisor(Nearest(), ("left",)), Supervisor(Nearest(), ("right",))


register_task(Large())
