"""Made-up inputs for tests: arrays, a small task with domains, and registries that forget.

`tests/conftest.py` puts this folder on the path.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.api import Task
from benchmark.core.data import Domain
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.task import Supervisor, TaskCard

Floats = NDArray[np.float64]


@contextmanager
def registries_restored() -> Iterator[None]:
    """What is registered inside is forgotten outside."""
    METHODS.discover()
    TASKS.discover()
    saved = [(r, dict(r._items), dict(r._origin), dict(r.broken)) for r in (METHODS, TASKS)]
    plugins = _plugins()
    try:
        yield
    finally:
        for registry, items, origin, broken in saved:
            registry._items, registry._origin, registry.broken = items, origin, broken
        for name in _plugins() - plugins:
            del sys.modules[name]


def _plugins() -> set[str]:
    return {name for name in sys.modules if name.startswith("w2s_plugin_")}


def make_arrays(
    N: int = 120, M: int = 3, K: int = 3, D: int = 128, *, pairs: bool = False, seed: int = 0, right: float = 0.7
) -> dict[str, NDArray[Any]]:
    """`features`, `soft_labels` and `labels` of a task that is learned in some 50 steps of the default recipe.

    Each supervisor is right in about the given share.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(2 if pairs else K, size=N)
    if pairs:
        features = rng.normal(size=(N, 2, D))
        features[np.arange(N), labels] += rng.normal(size=D)
    else:
        features = rng.normal(size=(N, D)) + rng.normal(size=(K, D))[labels]
    says = np.where(rng.random((N, M)) < right, labels[:, None], rng.integers(K, size=(N, M)))
    soft_labels = 0.8 * np.eye(K)[says] + 0.2 / K
    return {"features": features.astype(np.float32), "soft_labels": soft_labels, "labels": labels}


def _go_wrong(way: str) -> None:
    """What no values come out of."""
    if way == "raises":
        raise RuntimeError("made to fail")
    if way == "exits":
        raise SystemExit(5)
    if way == "hangs":
        time.sleep(3600)
    if way == "dies":
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Columns:
    """An encoder whose features are its inputs; `calls` holds the number of inputs of each call."""

    name: str = "columns"
    outputs: tuple[str, ...] = ("first two", "all")
    fingerprint: str = "columns-1"
    spoil: str = ""
    requires: ClassVar[dict[str, str]] = {}
    calls: ClassVar[list[int]] = []

    def encode(self, inputs: Floats, device: str = "cpu") -> dict[str, NDArray[Any]]:
        self.calls.append(len(inputs))
        _go_wrong(self.spoil)
        features = inputs.astype(np.float64 if self.spoil == "dtype" else np.float32)
        if self.spoil == "nan":
            features[3, 1] = np.nan
        if self.spoil == "rows":
            features = features[:-1]
        if self.spoil == "dimensions":
            features = features[:, None]
        if self.spoil == "outputs":
            return {"all": features}
        return {"first two": features[..., :2].copy(), "all": features}


@dataclass(frozen=True)
class Centroids:
    """A weak model: softmax of minus the distances to the classes' means; for pairs, of projections on a difference.

    `seen` holds the ids (column 0 of the inputs) that each fit was given.
    """

    temperature: float = 1.0
    spoil: str = ""
    name: ClassVar[str] = "tests.centroids"
    version: ClassVar[int] = 1
    seen: ClassVar[list[NDArray[np.int64]]] = []

    def fit(self, inputs: Any, labels: NDArray[np.int64], num_classes: int, seed: int) -> FittedCentroids:
        _go_wrong(self.spoil)
        noise = np.random.default_rng(seed).normal(size=(num_classes, 3)) / 4
        if isinstance(inputs, tuple):
            self.seen.append(np.concatenate([part[:, 0] for part in inputs]).astype(np.int64))
            sides = np.stack(inputs, 1)[..., 1:]
            rows = np.arange(len(labels))
            difference = (sides[rows, labels] - sides[rows, 1 - labels]).mean(0)
            return FittedCentroids(difference[None] + noise[:1], self.temperature, self.spoil)
        self.seen.append(inputs[:, 0].astype(np.int64))
        for k in set(labels.tolist()) & set(range(num_classes)):
            noise[k] += inputs[labels == k, 1:].mean(0)
        return FittedCentroids(noise, self.temperature, self.spoil)


@dataclass(frozen=True)
class FittedCentroids:
    """(K, 3) means, or (1, 3) the direction of what is preferred."""

    means: Floats
    temperature: float
    spoil: str

    def predict_proba(self, inputs: Any) -> Floats:
        if isinstance(inputs, tuple):
            scores = np.stack([part[:, 1:] @ self.means[0] for part in inputs], -1)
        else:
            scores = -np.square(inputs[:, None, 1:] - self.means).sum(-1)
        p = np.exp((scores - scores.max(-1, keepdims=True)) / self.temperature)
        p /= p.sum(-1, keepdims=True)
        if self.spoil == "nan":
            p[2, 0] = np.nan
        if self.spoil == "negative":
            p[2, :2] += (-2, 2)
        if self.spoil == "sum":
            p[2] *= 1.1
        if self.spoil == "classes":
            p = np.concatenate([p, np.zeros((len(p), 1))], -1)
        if self.spoil == "rows":
            p = p[:-1]
        if self.spoil == "columns":
            p = p[:, 0]
        if self.spoil == "dtype":
            return p.astype(str)
        return p


class Blobs(Task):
    """Two sources and a target: inputs (n, 4) are an id that is unique over domains, then three informative columns.

    Args:
        sizes: examples of left, right and target.
        group_size: examples of one group.
        unused: share of examples that the task leaves out.
        ratings: make it a preference task.
    """

    DOMAINS = ("left", "right", "there")

    def __init__(
        self,
        sizes: Sequence[int] = (150, 120, 130),
        *,
        name: str = "blobs",
        group_size: int = 1,
        unused: float = 0.0,
        ratings: bool = False,
        encoder: Columns | None = None,
        supervisors: Sequence[Supervisor] | None = None,
        edition: str = "1",
    ) -> None:
        self.name = name
        self.encoder = encoder or Columns()
        self._sizes, self._edition, self._ratings = dict(zip(self.DOMAINS, sizes, strict=True)), edition, ratings
        self._group_size, self._unused = group_size, unused
        self._supervisors = supervisors or (
            Supervisor(Centroids(), ("left",), size=40),
            Supervisor(Centroids(), ("right",)),
            Supervisor(Centroids(temperature=2.0), ("left", "right"), size=60),
        )
        self.loads: list[str] = []
        self.card = TaskCard(
            modality="preference" if ratings else "image",
            shift="left and right to there",
            sources=self.DOMAINS[:2],
            target=self.DOMAINS[2],
            classes=("first", "second") if ratings else ("a", "b", "c"),
            metric="accuracy",
            licence="none",
            citation="none",
            requires="nothing",
            size=f"{sum(sizes)} made-up examples",
        )

    def domain(self, name: str) -> Domain:
        position, n = self.DOMAINS.index(name), self._sizes[name]
        rng = np.random.default_rng(position)
        groups = rng.permutation(n) // self._group_size
        left_out = rng.random(n) < self._unused
        inputs = rng.normal(size=(n, 4))
        inputs[:, 0] = 10_000 * position + np.arange(n)
        if self._ratings:
            ratings = rng.uniform(-4, 4, size=n)
            inputs[:, 1] += ratings
            labels: NDArray[Any] = np.where(left_out, np.nan, ratings)
        else:
            classes = rng.integers(3, size=n)
            inputs[np.arange(n), 1 + classes] += 2
            labels = np.where(left_out, -1, classes)

        def load() -> Floats:
            self.loads.append(name)
            return inputs

        return Domain(load, labels, groups, f"{name}-{n}-{self._edition}")

    def supervisors(self, seed: int) -> Sequence[Supervisor]:
        return self._supervisors
