"""Nothing that a method can reach from its arguments holds the truth, or a test input."""

from __future__ import annotations

import contextlib
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.arrays import ArrayTask
from benchmark.core.canaries import canary_data
from benchmark.core.data import Problem, Recipe
from benchmark.core.method import Batch, Method, Supervision, Trainer, cross_entropy
from benchmark.core.problems import build_problem, training_data
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Recipes
from benchmark.core.training import train
from benchmark.running.plan import Unit
from benchmark.running.unit import Setup, execute
from benchmark.store.cache import Cache
from benchmark.students.frozen import LinearHead

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


def make_task() -> ArrayTask:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=200)
    soft_labels = rng.dirichlet(np.ones(3), size=(200, 2))
    return ArrayTask(rng.normal(size=(200, 4)), soft_labels, labels, rng.integers(9, size=200), name="sealed")


def make_problems() -> list[Problem]:
    return [build_problem(make_task(), "ood", seed, Cache()) for seed in (0, 1)]


@pytest.mark.parametrize("tune", [False, True])
def test_a_hostile_method_finds_no_truth(tune: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through everything that a run of `w2s run` does, canaries included, and `--tune`."""
    hostile = [Hostile(), HostileStaged()]
    for method in hostile:
        monkeypatch.setitem(METHODS._items, method.name, _Given(method))
    monkeypatch.setitem(TASKS._items, "sealed", make_task())
    if tune:  # eight trials; one that trains in stages sees all that there is
        hostile = hostile[1:]
    names = (*(method.name for method in hostile), *(() if tune else ("ground_truth",)))
    unit = Unit("sealed", "ood", ((names, (0, 1)),))
    result = execute(unit, Setup("cpu", tmp_path, Recipes(Recipe(epochs=2, batch_size=32)), tune=tune))
    assert not result.failures
    assert len(result.entries) == 2 * len(names)
    problems = make_problems()
    for method in hostile:
        loot = method.loot
        assert holds(loot, problems[0].soft_labels["train"].transpose(1, 0, 2)[0]), "the walk finds what it may see"
        for problem in problems:
            for split in ("train", "val", "test"):
                labels = problem.truth.labels[split]
                assert not holds(loot, labels), f"{method.name} found the truth of {split}"
                assert not holds(loot, np.eye(3)[labels]), f"{method.name} found the one-hot truth of {split}"
                assert not holds(loot, problem.truth.groups[split])
            for split in ("val", "test"):
                assert not holds(loot, problem.soft_labels[split])
                assert not holds(loot, problem.soft_labels[split].transpose(1, 0, 2)[0])
                for features in problem.features.values():
                    assert not holds(loot, features[split][:5])
                (as_read,) = training_data(LinearHead(None), [problem], held_out=(split,))[1][split]
                assert not holds(loot, as_read[0][:5].numpy()), f"{method.name} found the inputs of {split}"


class _Given:
    """Stands for a method's class in the registry and always gives the same instance."""

    def __init__(self, method: Hostile) -> None:
        self._method = method
        self.kind, self.version, self.title, self.ablation_of = method.kind, method.version, method.title, None
        self.fit, self.grid = type(method).fit, method.grid

    def __call__(self, **options: Any) -> Hostile:
        return self._method


def test_the_walk_would_find_a_leak() -> None:
    """The same hostile method beside the truth, as it would be if canaries trained in the methods' own run."""
    problems = make_problems()
    data, _ = training_data(LinearHead(None), problems)
    hostile = HostileStaged()
    train([hostile], canary_data(data, problems, "accuracy", ["ground_truth"]), Recipe(epochs=1, batch_size=32))
    assert holds(hostile.loot, np.eye(3)[problems[0].truth.labels["train"]])


def test_soft_labels_are_copies() -> None:
    """A method that writes into its supervision cannot change the problem that is scored."""
    problems = make_problems()
    before = problems[0].soft_labels["train"].copy()
    data, _ = training_data(LinearHead(None), problems)
    data.soft_labels.zero_()
    np.testing.assert_array_equal(problems[0].soft_labels["train"], before)
