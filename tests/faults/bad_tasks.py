"""A plug-in: a task of the smoke suite with a supervisor or an encoder that goes wrong in each of several ways."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from benchmark.api import Domain, Supervisor, Task, register_task
from benchmark.core.registry import TASKS

REAL = "sentiment-to-tweets"
PARTS = ("supervisor", "encoder")
WAYS = ("raises", "hangs", "nan", "shape", "dtype", "exits")
FOREVER = 3600


def spoiled(values: np.ndarray[Any, Any], way: str) -> Any:
    """What comes out instead of good values."""
    if way == "raises":
        raise RuntimeError("made to fail")
    if way == "exits":
        raise SystemExit(5)
    if way == "hangs":
        time.sleep(FOREVER)
    if way == "nan":
        values[len(values) // 2] = np.nan
    if way == "shape":
        return values[:-1]
    return values.astype(str) if way == "dtype" else values


@dataclass(frozen=True)
class BadModel:
    """Says that all classes are as likely."""

    way: str
    name: ClassVar[str] = "tests.bad-model"
    version: ClassVar[int] = 1

    def fit(self, inputs: Any, labels: Any, num_classes: int, seed: int) -> BadModel:
        return self

    def predict_proba(self, inputs: Any) -> Any:
        n = len(inputs[0]) if isinstance(inputs, tuple) else len(inputs)
        return spoiled(np.full((n, 2), 0.5), self.way)


@dataclass(frozen=True)
class BadEncoder:
    """One dimension, always the same."""

    way: str
    outputs: tuple[str, ...] = ("all",)
    requires: ClassVar[dict[str, str]] = {}

    @property
    def name(self) -> str:
        return f"bad-{self.way}"

    @property
    def fingerprint(self) -> str:
        return self.name

    def encode(self, inputs: Any, device: str = "cpu") -> dict[str, Any]:
        return {"all": spoiled(np.ones((len(inputs), 1), np.float32), self.way)}


class Bad(Task):
    """The real task, but for one part."""

    def __init__(self, part: str, way: str) -> None:
        real = TASKS[REAL]
        self.name, self.card, self._part, self._way = f"bad-{part}-{way}", real.card, part, way
        self.encoder = BadEncoder(way) if part == "encoder" else real.encoder
        self._real = real

    def domain(self, name: str) -> Domain:
        return self._real.domain(name)

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        first, *others = self._real.supervisors(seed)
        return [replace(first, model=BadModel(self._way)) if self._part == "supervisor" else first, *others]


TASKS.discover()  # plug-ins are loaded before what is shipped
for part in PARTS:
    for way in WAYS:
        register_task(Bad(part, way))
