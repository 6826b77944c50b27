"""Grids, trials that train together, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError
from benchmark.core.data import Recipe
from benchmark.core.losses import cross_entropy
from benchmark.core.method import Batch, Method, Supervision, product_grid
from benchmark.core.names import GRID_SIZE
from benchmark.core.records import Record, setting_hash
from benchmark.core.registry import METHODS, register_method, register_task
from benchmark.core.training import NOWHERE, Trained, TrainingData, train
from benchmark.running.method_settings import MethodSetting, Trial
from benchmark.running.tuning import expected_epochs, runs_of, train_trials
from benchmark.running.unit import execute
from benchmark.store.checkpoints import Checkpoints
from benchmark.students.linear import Heads, LinearStudent
from benchmark.testing import make_data
from support.rounding import assert_trained_alike
from support.units import setup_of, unit_of

RECIPE = Recipe(learning_rate=1e-2, epochs=4, batch_size=8)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors are tiny
    yield
    torch.set_num_threads(threads)


def test_a_product_has_the_default_first_and_every_combination_once() -> None:
    grid = product_grid(gamma=(0.0, 0.25, 0.75), epochs_times=(0.3,))
    assert grid[0] == {}
    assert len(grid) == 8
    assert {(s.get("gamma"), s.get("epochs_times")) for s in grid} == {
        (g, e) for g in (None, 0.0, 0.25, 0.75) for e in (None, 0.3)
    }


def test_multiples_of_a_recipe() -> None:
    assert Recipe(1e-3, 30, 128).times() == Recipe(1e-3, 30, 128)
    assert Recipe(1e-3, 30, 128).times(3, 0.3) == Recipe(3e-3, 9, 128)
    assert Recipe(1e-3, 1, 128).times(1, 0.3).epochs == 1
    assert Recipe(1e-3, 30, 128, 500).times(1, 0.3) == Recipe(1e-3, 9, 128, 150)


def grid_with(number: int, setting: Any) -> tuple[Any, ...]:
    """The usual grid with another setting in one place."""
    return (*Method.grid[:number], setting, *Method.grid[number + 1 :])


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Method.grid[:7], "expected 8 settings, the first {} (the default), found 7, the first {}"),
        ((), "expected 8 settings, the first {} (the default), found none"),
        (Method.grid[::-1], "found 8, the first {'learning_rate_times': 10, 'epochs_times': 0.3}"),
        (list(Method.grid), "expected a tuple of mappings"),
        (grid_with(2, "fast"), "expected a tuple of mappings"),
        (grid_with(3, {"epochs_times": 0.3}), "setting 4 of 8: is the same as setting 2"),
        (grid_with(3, {"power": 2}), "setting 4 of 8: is the same as setting 1"),
        (grid_with(3, {"learning_rate_times": 1}), "setting 4 of 8: is the same as setting 1"),
        (grid_with(3, {"powder": 2}), "setting 4 of 8: unknown option 'powder': did you mean 'power'?"),
        (grid_with(3, {"batch_size": 2}), "setting 4 of 8: unknown option 'batch_size'"),
        (grid_with(3, {"power": float("nan")}), "setting 4 of 8: {'power': nan} is no choice of options"),
        (grid_with(3, {"power": {1, 2}}), "is no choice of options (ValueError: power: Object of type set"),
        (grid_with(3, {"epochs_times": 0}), "setting 4 of 8: epochs_times is 0, expected a positive number"),
        (grid_with(3, {"learning_rate_times": True}), "learning_rate_times is True, expected a positive number"),
    ],
)
def test_a_grid_that_is_none_is_refused(grid: Any, message: str) -> None:
    @dataclass(eq=False)
    class Odd(Method):
        name = "odd"
        title = citation = "test"
        kind = "ensemble"
        power: Any = 2

    Odd.grid = grid
    with pytest.raises(W2SError) as error:
        register_method(Odd)
    assert str(error.value).startswith("method Odd: grid: ")
    assert message in str(error.value)
    assert "odd" not in METHODS.names()


def test_every_method_has_eight_settings_and_the_hash_of_the_default_stays() -> None:
    for method in METHODS:
        tuned = MethodSetting.of(method.name, RECIPE, {"blocks": 2}, tune=True)
        assert [trial.number for trial in tuned.trials] == list(range(GRID_SIZE))
        found: Any = tuned.hyperparameters["trials"]
        assert found[0] == MethodSetting.of(method.name, RECIPE, {"blocks": 2}).hyperparameters
        assert len({setting_hash(one) for one in found}) == GRID_SIZE
        (alone,) = MethodSetting.of(method.name, RECIPE).trials
        assert (alone.options, alone.recipe) == ({}, RECIPE)


def grids(*names: str) -> list[Trial]:
    return [trial for name in names for trial in MethodSetting.of(name, RECIPE, tune=True).trials]


def values(trained: Trained) -> list[Tensor]:
    heads = trained.student
    assert isinstance(heads, Heads)
    return [heads.weight, *([] if heads.bias is None else [heads.bias]), *trained.diagnostics.values()]


def assert_alike(found: Trained, expected: Trained, data: TrainingData) -> None:
    """Heads and diagnostics are the same but for rounding in nine steps and more, of features, classes, examples."""
    one, other, roundings = found.student, expected.student, 2 * 9 * (5 + 3 + 8)
    assert isinstance(one, Heads)
    assert isinstance(other, Heads)
    heads = other.weight.shape[1]
    (start,) = LinearStudent(data.features["own"], 3, data.seeds, heads).split([heads])
    assert_trained_alike([one.weight, one.bias], [other.weight, other.bias], [start.weight, start.bias], roundings)
    assert found.diagnostics.keys() == expected.diagnostics.keys()
    for name, value in expected.diagnostics.items():
        assert_trained_alike([found.diagnostics[name]], [value], [0 * value], roundings)


@pytest.mark.parametrize("apart", [False, True])
def test_trials_together_are_each_trial_alone(apart: bool) -> None:
    """Of methods of one stage and of several, with state of their own and without."""
    names = ("raven_per_sample", "raven", "naive", "confidence", "bayesian", "bootstrapping", "co_supervised")
    data = make_data()
    trials = grids(*names)
    runs = runs_of(trials, apart)
    assert all(len({trial.recipe for trial in run}) == 1 for run in runs)
    if apart:
        assert all(len({trial.method for trial in run}) == len(run) for run in runs)
    together = train_trials(runs, data, lambda share: None, NOWHERE, report=pytest.fail)
    assert list(together) == sorted(names)
    for trial in trials:
        (alone,) = train([trial.instance()], data, trial.recipe)
        found = together[trial.method][trial.number]
        assert found.steps == alone.steps
        assert_alike(found, alone, data)


def test_settings_differ_in_what_they_train() -> None:
    """Else the test above says nothing."""
    trials = MethodSetting.of("confidence", RECIPE, tune=True).trials
    trained = train_trials(runs_of(trials, False), make_data(), lambda share: None, NOWHERE, report=pytest.fail)
    weights = [one.student.weight for one in trained["confidence"]]  # type: ignore[attr-defined]
    assert all(not torch.allclose(a, b, atol=1e-4) for i, a in enumerate(weights) for b in weights[:i])


def test_the_time_left_counts_every_run_and_stage() -> None:
    ended: list[float] = []
    runs = runs_of(
        [t for name in ("ensemble", "bootstrapping") for t in MethodSetting.of(name, RECIPE, tune=True).trials], False
    )
    train_trials(runs, make_data(), lambda share: ended.append(share) if share == 1 else None, NOWHERE, pytest.fail)
    assert len(ended) == expected_epochs(runs, 8)


def test_a_killed_run_of_several_trials_goes_on_with_each_ones_state(tmp_path: Path) -> None:
    """Several instances of one method in one checkpoint; a stage of each has one of its own."""

    class Killed(BaseException):
        pass

    trials = grids("raven", "co_supervised")
    runs, data = runs_of(trials, False), make_data()
    whole = train_trials(runs, data, lambda share: None, NOWHERE, report=pytest.fail)
    for stop in (2, 5, 9):
        ended = 0

        def killed(share: float, stop: int = stop) -> None:
            nonlocal ended
            ended += share == 1
            if ended == stop:
                raise Killed

        with pytest.raises(Killed):
            train_trials(runs, data, killed, Checkpoints.of(tmp_path, {"test": 1}), report=pytest.fail)
    resumed = train_trials(runs, data, lambda s: None, Checkpoints.of(tmp_path, {"test": 1}), report=pytest.fail)
    for name, expected in whole.items():
        for one, other in zip(expected, resumed[name], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(values(one), values(other), strict=True))


def test_a_method_that_fails_in_one_setting_is_reported_once_and_the_others_go_on() -> None:
    @register_method
    @dataclass(eq=False)
    class Fragile(Method):
        """CE(q, mean p); fails with three pieces."""

        name = "fragile"
        title = citation = "test"
        kind = "ensemble"
        grid = product_grid(pieces=(2, 3, 4), epochs_times=(0.3,))
        pieces: int = 1

        def start(self, supervision: Supervision) -> None:
            if self.pieces == 3:
                raise ValueError("three")

        def loss(self, logits: Tensor, batch: Batch) -> Tensor:
            return cross_entropy(logits, batch.soft_labels.mean(2))

    lines: list[str] = []
    runs = runs_of(
        [t for name in ("fragile", "ensemble") for t in MethodSetting.of(name, RECIPE, tune=True).trials], False
    )
    trained = train_trials(runs, make_data(), lambda share: None, NOWHERE, lambda error: lines.append(str(error)))
    assert list(trained) == ["ensemble"]
    assert len(trained["ensemble"]) == GRID_SIZE
    assert lines == ["method 'fragile': ValueError: three"]


@dataclass(eq=False)
class Contrarian(Method):
    """CE(q, t): t is the class after the supervisors' (each example's mean), `turns` times."""

    name = "contrarian"
    title = citation = "test"
    kind = "ensemble"
    turns: int = 1
    grid = (*({"turns": turns} if turns != 1 else {} for turns in (1, 2, 3)), *({"turns": t} for t in range(4, 9)))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch.soft_labels.mean(2).roll(self.turns, -1))


def run_tuned(name: str, seeds: tuple[int, ...], folder: Path) -> dict[int, tuple[Record, np.ndarray]]:
    recipe = Recipe(3e-2, 15, 32)
    unit = unit_of("liars", "ood", (((name,), seeds),), recipe, tune=True)
    result = execute(unit, setup_of(folder, recipe, tune=True))
    assert result.failures == []
    return {record.seed: (record, predictions) for record, predictions in result.entries}


def test_the_choice_is_by_agreement_and_not_by_the_truth(tmp_path: Path) -> None:
    """Supervisors who always name the class before the right one: the default is right, imitation is chosen."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    features = 4 * np.eye(3)[labels] + rng.normal(size=(300, 3)) / 2
    says = np.repeat(((labels - 1) % 3)[:, None], 2, 1)
    register_method(Contrarian)
    register_task(ArrayTask(features, 0.8 * np.eye(3)[says] + 0.2 / 3, labels, name="liars"))
    found = run_tuned("contrarian", (0, 1), tmp_path)
    for record, predictions in found.values():
        assert predictions.shape == (GRID_SIZE, len(labels))
        agreements = record.diagnostics["agreement"]
        assert isinstance(agreements, list)
        assert record.diagnostics["chosen"] == 2  # three turns: the supervisors' own class
        assert agreements[2] == max(agreements) > 0.9 > 0.1 > agreements[0]  # type: ignore[type-var]
        assert record.metrics["accuracy"] < 0.1
        assert record.metrics["default_accuracy"] > 0.9
        assert record.metrics["oracle_accuracy"] > 0.9
        assert record.hyperparameters == MethodSetting.of("contrarian", Recipe(3e-2, 15, 32), tune=True).hyperparameters
    alone = run_tuned("contrarian", (1,), tmp_path)
    assert alone[1][0].diagnostics["chosen"] == found[1][0].diagnostics["chosen"]
    np.testing.assert_array_equal(alone[1][1], found[1][1])


def test_agreement_is_the_mean_over_replicas_and_ties_go_to_the_first(tmp_path: Path) -> None:
    """Each replica learns one of two stubborn supervisors; with both of them the ensemble says what the first says."""

    @register_method
    class Indifferent(Contrarian):
        name = "indifferent"
        kind = "single"

        def loss(self, logits: Tensor, batch: Batch) -> Tensor:
            return cross_entropy(logits, batch.soft_labels[:, :, 0])

    rng = np.random.default_rng(0)
    soft_labels = np.broadcast_to([[0.98, 0.01, 0.01], [0.1, 0.8, 0.1]], (200, 2, 3))
    register_task(ArrayTask(rng.normal(size=(200, 3)), soft_labels, rng.integers(3, size=200), name="liars"))
    ((record, _),) = run_tuned("indifferent", (0,), tmp_path).values()
    assert record.diagnostics["agreement"] == [0.5] * GRID_SIZE
    assert record.diagnostics["chosen"] == 0


def test_training_that_diverges_is_never_chosen(tmp_path: Path) -> None:
    @register_method
    @dataclass(eq=False)
    class Exploding(Method):
        """The default ignores the supervisors; with any force it imitates them, until it is not a number."""

        name = "exploding"
        title = citation = "test"
        kind = "ensemble"
        grid = ({}, *({"force": force} for force in range(1, 8)))
        force: int = 0

        def loss(self, logits: Tensor, batch: Batch) -> Tensor:
            loss = cross_entropy(logits, batch.soft_labels.mean(2)) * (1 if self.force == 2 else 1e-3)
            return loss * float("nan") if self.force == 5 and batch.progress == 1 else loss

    rng = np.random.default_rng(0)
    labels = np.zeros(200, np.int64)  # NaN predicts class 0, with which everybody agrees
    soft_labels = np.broadcast_to([0.9, 0.1], (200, 2, 2))
    register_task(ArrayTask(rng.normal(size=(200, 4)), soft_labels, labels, name="liars"))
    ((record, predictions),) = run_tuned("exploding", (0,), tmp_path).values()
    agreements = record.diagnostics["agreement"]
    assert isinstance(agreements, list)
    assert (predictions[5] == 0).all()
    assert agreements[5] == 0
    assert agreements.count(0) == 1
