"""Methods that look for the truth in all that they can reach."""

from __future__ import annotations

import contextlib
import hashlib
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.core.losses import cross_entropy
from benchmark.core.method import Batch, Method, Supervision, Trainer

SKIP = (types.ModuleType, type, str, bytes, int, float, bool, type(None))


def reachable(*roots: Any) -> list[Any]:
    """Every object that attributes, items, closures, bound methods, view bases and gradients' graphs lead to."""
    seen: dict[int, Any] = {}
    todo = list(roots)
    while todo:
        item = todo.pop()
        if isinstance(item, SKIP) or id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            todo += list(item)
        if isinstance(item, np.ndarray):
            todo.append(item.base)
        if isinstance(item, types.FunctionType):
            todo += [cell.cell_contents for cell in item.__closure__ or ()] + list(item.__defaults__ or ())
        todo += list(getattr(item, "__dict__", {}).values())
        names = [n for c in type(item).__mro__ for n in np.atleast_1d(getattr(c, "__slots__", ()))]
        for name in ["__self__", "__func__", "_base", "grad", "grad_fn", "next_functions", "variable", "base", *names]:
            with warnings.catch_warnings(), contextlib.suppress(Exception):  # whatever a hostile walk trips over
                warnings.simplefilter("ignore")
                todo.append(getattr(item, str(name), None))
        if isinstance(item, Tensor) or type(item).__name__.endswith(("Backward0", "Backward1")):
            for name in dir(item):
                if name.startswith("_saved"):
                    with contextlib.suppress(Exception):
                        todo.append(getattr(item, name))
    return list(seen.values())


class Loot:
    """Copies of the numbers of all arrays and tensors that were found, each once."""

    def __init__(self) -> None:
        self._found: dict[bytes, np.ndarray] = {}
        self._all: np.ndarray | None = None

    def add(self, items: list[Any]) -> None:
        for item in items:
            if isinstance(item, Tensor) and not item.is_sparse:
                self._keep(item.detach().numpy())
                behind = torch.empty(0, dtype=item.dtype).set_(item.untyped_storage())  # what lies behind a view
                self._keep(behind.numpy())
            elif isinstance(item, np.ndarray):
                self._keep(item)

    def _keep(self, array: np.ndarray) -> None:
        if array.dtype.kind in "fiub":
            flat = np.ascontiguousarray(array, np.float64).ravel()
            self._found.setdefault(hashlib.sha256(flat.tobytes()).digest(), flat)
            self._all = None

    def holds(self, secret: np.ndarray) -> bool:
        """Whether any array contains the secret's numbers, in order, as a run of its flattened values."""
        if self._all is None:  # one after the other, with something between that equals nothing
            self._all = np.concatenate([np.append(flat, np.nan) for flat in self._found.values()])
        wanted = np.ascontiguousarray(secret, np.float64).ravel()
        places = np.arange(max(0, len(self._all) - len(wanted) + 1))
        for i, number in enumerate(wanted):
            places = places[self._all[places + i] == number]
            if not len(places):
                return False
        return True


class Hostile(Method):
    name = "hostile"
    title = citation = "test"
    kind = "ensemble"

    def __init__(self) -> None:
        self.loot = Loot()
        self.trials = 0

    def start(self, supervision: Supervision) -> None:
        self.trials += 1
        self.look(supervision)

    def look(self, *roots: Any) -> None:
        if self.trials == 1:  # one of several trials is enough, and later ones would find its loot
            self.loot.add(reachable(*roots))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.progress == 1:
            self.look(logits, batch)
        return cross_entropy(logits, batch.soft_labels.mean(2))

    def after_epoch(self, epoch: int, predict: Callable[[], Tensor]) -> None:
        self.look(predict, predict())


class HostileReader(Hostile):
    """It is given all that a method may ask for."""

    name = "hostile_reader"
    uses = ("features", "source_scores")


class HostileFeatures(Hostile):
    name = "hostile_features"
    uses = ("features",)


class HostileStaged(Hostile):
    name = "hostile_staged"

    def fit(self, trainer: Trainer) -> None:
        trainer.fit()
        self.look(trainer, trainer.fit, trainer.predict)
        trainer.fit(warm_start=True, variant=1, average=0.5)
        self.look(trainer)


class Given:
    """Stands for a method's class in the registry and always gives the same instance."""

    def __init__(self, method: Hostile) -> None:
        self._method = method

    def __call__(self, **options: Any) -> Hostile:
        return self._method

    def __getattr__(self, name: str) -> Any:
        return getattr(type(self._method), name)
