"""Methods that look for the truth in all that they can reach."""

from __future__ import annotations

import contextlib
import types
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.core.method import Batch, Method, Supervision, Trainer, cross_entropy

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


def as_arrays(items: list[Any]) -> list[np.ndarray]:
    found = [item.detach().numpy() for item in items if isinstance(item, Tensor) and not item.is_sparse]
    found += [item for item in items if isinstance(item, np.ndarray)]
    for item in [item for item in items if isinstance(item, Tensor)]:  # what lies behind a view
        storage = item.untyped_storage()
        if item.dtype == torch.float32 and len(storage) % 4 == 0:
            found.append(torch.frombuffer(bytearray(storage.tolist()), dtype=torch.float32).numpy())
    return found


def holds(arrays: list[np.ndarray], secret: np.ndarray) -> bool:
    """Whether any array contains the secret's numbers, in order, as a run of its flattened values."""
    wanted = np.ascontiguousarray(secret, np.float64).ravel()
    for array in arrays:
        if array.size < wanted.size or array.dtype.kind not in "fiub":
            continue
        flat = np.ascontiguousarray(array, np.float64).ravel()
        for start in np.flatnonzero(flat[: flat.size - wanted.size + 1] == wanted[0]):
            if np.array_equal(flat[start : start + wanted.size], wanted):
                return True
    return False


class Hostile(Method):
    name = "hostile"
    title = citation = "test"
    kind = "ensemble"

    def __init__(self) -> None:
        self.loot: list[np.ndarray] = []
        self.trials = 0

    def start(self, supervision: Supervision) -> None:
        self.trials += 1
        self.look(supervision)

    def look(self, *roots: Any) -> None:
        if self.trials == 1:  # one of several trials is enough, and later ones would find its loot
            self.loot += as_arrays(reachable(*roots))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.progress == 1:
            self.look(logits, batch)
        return cross_entropy(logits, batch.soft_labels.mean(2))


class HostileStaged(Hostile):
    name = "hostile_staged"

    def fit(self, trainer: Trainer) -> None:
        trainer.fit()
        self.look(trainer, trainer.fit, trainer.predict)
        trainer.fit()


class Given:
    """Stands for a method's class in the registry and always gives the same instance."""

    def __init__(self, method: Hostile) -> None:
        self._method = method
        self.kind, self.version, self.title, self.ablation_of = method.kind, method.version, method.title, None
        self.fit, self.grid = type(method).fit, method.grid

    def __call__(self, **options: Any) -> Hostile:
        return self._method
