"""The smoke suite on the real data and encoders, with the user's ordinary cache."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmark.base.versions import libraries
from benchmark.core.names import CANARIES
from benchmark.core.problems import data_fingerprint
from benchmark.core.records import Record
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.scoring import compute_metrics, reference_predictions, score
from benchmark.core.suite import load_suite
from benchmark.results.contents import Contents
from benchmark.results.store import ResultStore
from support.command_line import without_untrained
from support.forked_runs import Forker

SUITE = load_suite("smoke")
SHIPPED = METHODS.select(list(SUITE.methods))  # before any test registers its own
UNITS = [(task, condition) for task in TASKS.select(list(SUITE.tasks)) for condition in SUITE.conditions]


@dataclass(frozen=True)
class Smoke:
    """What the suite left."""

    forker: Forker
    results: Path
    contents: Contents

    def w2s(self, *arguments: str) -> str:
        """Standard output of a command that must succeed."""
        ended = self.forker.run(*arguments, "--results", "results", folder=str(self.results.parent))
        assert (ended.status, without_untrained(ended.err)) == (0, ""), ended
        return ended.out

    def records(self, task: str, method: str) -> list[Record]:
        found = [r for key, r in sorted(self.contents.records.items()) if (r.task, r.method) == (task, method)]
        assert len(found) == SUITE.seeds
        return found

    def mean(self, task: str, method: str) -> float:
        """Mean of the task's own metric over seeds."""
        metric = TASKS[task].card.metric
        return float(np.mean([record.metrics[metric] for record in self.records(task, method)]))

    def floor(self, task: str) -> float:
        """Mean score of the supervisors over seeds."""
        (given,) = [e for e in self.contents.evaluations.values() if e.task == task]
        scores = []
        for truth in given.seeds.values():
            predictions = reference_predictions(truth)["mean_supervisor"]
            scores.append(score(given.metric, predictions, truth.labels, truth.groups, given.num_classes))
        return float(np.mean(scores))


@pytest.fixture(scope="module")
def smoke(forker: Forker, smoke_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """The suite, run as a user runs it; a copy of what it left."""
    results = shutil.copytree(smoke_results, tmp_path_factory.mktemp("smoke") / "results")
    return Smoke(forker, results, ResultStore(results).load())


def test_every_method_and_canary_is_recorded_for_every_unit_and_seed(smoke: Smoke) -> None:
    assert smoke.contents.problems == []
    assert set(CANARIES) < set(SHIPPED)
    assert len(SHIPPED) >= 19
    found = {(r.task, r.condition, r.method, r.seed) for r in smoke.contents.records.values()}
    expected = {(*unit, method, seed) for unit in UNITS for method in SHIPPED for seed in range(SUITE.seeds)}
    assert found == expected
    assert len(smoke.contents.records) == len(expected)
    assert len({unit[0] for unit in UNITS}) == 3
    assert {TASKS[task].card.modality for task, _ in UNITS} == {"image", "text", "preference"}


def test_records_fit_their_predictions_and_are_in_range(smoke: Smoke) -> None:
    for key, record in smoke.contents.records.items():
        assert smoke.contents.misfit(record) is None
        evaluation = smoke.contents.evaluations[record.task, record.condition]
        assert record.metrics == compute_metrics(evaluation, record.seed, smoke.contents.predictions[key], key.method)
        own = {"accuracy", TASKS[record.task].card.metric}
        assert record.metrics.keys() == {*own, *(f"test_{name}" for name in own)}
        assert all(0 <= value <= 1 and math.isfinite(value) for value in record.metrics.values())
        truth = evaluation.seeds[record.seed]
        assert record.n_test == truth.test.sum() >= 100
        assert record.n_train == (truth.splits == 0).sum()
        assert record.cost > 0
        assert record.data_fingerprint == data_fingerprint(TASKS[record.task])
        assert record.libraries.items() >= libraries("torch", "scikit-learn").items()
        supervisors = len(evaluation.supervisors)
        replicas = supervisors if record.kind == "single" else 1
        assert smoke.contents.predictions[key].shape == (replicas, len(truth.labels))


def test_learned_weights_are_recorded_and_lie_on_the_simplex(smoke: Smoke) -> None:
    for task, _ in UNITS:
        for record in smoke.records(task, "raven"):
            weights = np.array(record.diagnostics["weights"])
            assert weights.shape == (len(TASKS[task].supervisors(0)),)
            assert weights.min() >= 0
            assert weights.sum() == pytest.approx(1, abs=1e-4)


def test_canaries_are_where_they_must_be(smoke: Smoke) -> None:
    for task, _ in UNITS:
        ceiling, floor = smoke.mean(task, "ground_truth"), smoke.floor(task)
        assert ceiling > floor + 0.05, task
        assert smoke.mean(task, "best_supervisor") <= ceiling + 0.02
        random = smoke.mean(task, "random_supervision")
        assert abs(random - 0.5) < 0.15, "two classes, metrics for which chance is a half"
        assert random < ceiling - 0.05
        for record in smoke.records(task, "best_supervisor"):
            assert record.diagnostics["supervisor"] in range(len(TASKS[task].supervisors(0)))


def test_the_adversarial_supervisor_is_worse_than_the_others(smoke: Smoke) -> None:
    (task,) = [task for task, _ in UNITS if "-broken-" in task]
    (evaluation,) = [e for e in smoke.contents.evaluations.values() if e.task == task]
    assert "broken" in evaluation.tags
    broken, honest = [], []
    for seed, truth in evaluation.seeds.items():
        for supervisor, said in zip(TASKS[task].supervisors(seed), truth.supervisors, strict=True):
            (broken if supervisor.adversarial else honest).append((said == truth.labels).mean())
    assert len(broken) == SUITE.seeds
    assert np.mean(broken) < np.mean(honest) - 0.08


def test_running_again_does_nothing(smoke: Smoke) -> None:
    before = {path: path.stat().st_mtime_ns for path in smoke.results.rglob("*.*")}
    again = smoke.w2s("run", "--suite", "smoke")
    assert again == "nothing to do: all is in results\n"
    assert {path: path.stat().st_mtime_ns for path in smoke.results.rglob("*.*")} == before


def test_the_leaderboard_renders_and_checks_out(smoke: Smoke) -> None:
    shown = smoke.w2s("leaderboard")
    text = (smoke.results / "LEADERBOARD.md").read_text()
    for method in SHIPPED:
        title = method if method in CANARIES else METHODS[method].title
        assert title in text or method in text, f"{method} has a row"
    for task, _ in UNITS:
        assert task in text
    assert "nan" not in text.lower().replace("finance", "").split()
    assert shown
    checked = smoke.w2s("leaderboard", "--check")
    assert "all adds up" in checked
    assert (smoke.results / "LEADERBOARD.md").read_text() == text


def test_the_ordinary_cache_was_used(smoke_results: Path) -> None:
    """So that the next test run is warm; the tests' own folder holds results only."""
    assert sorted(os.listdir(smoke_results.parent)) == ["made", "results"]
