"""What the shipped suites promise of their tasks, as far as it can be known without data."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

import benchmark.assets.packages
from benchmark.core.pools import FEW_SIZES
from benchmark.core.registry import TASKS
from benchmark.core.suite import load_suite
from benchmark.supervisors.classical import Classical
from benchmark.supervisors.cnn import SmallCNN
from benchmark.supervisors.pixels import PixelLogistic
from benchmark.supervisors.tfidf import TfidfClassifier

SUITES = {name: TASKS.select(load_suite(name).tasks) for name in ("default", "stress", "development")}
OWN = sorted(name for suite in ("default", "development") for name in SUITES[suite] if not name.startswith("stress-"))


def families(suite: str, modality: str | None = None) -> set[str]:
    return {TASKS[name].family for name in SUITES[suite] if modality in (None, TASKS[name].card.modality)}


def test_the_default_suite_has_eight_families() -> None:
    assert len(families("default")) >= 8
    assert len(families("default", "image")) >= 3
    assert len(families("default", "preference")) >= 2
    assert max(Counter(TASKS[name].family for name in SUITES["default"]).values()) <= 16


def test_the_development_suite_shares_no_family_with_the_others() -> None:
    assert len(families("development")) >= 4
    assert families("development").isdisjoint(families("default") | families("stress"))
    for modality in ("image", "text", "preference"):
        assert families("development", modality)
        assert any(TASKS[n].corruption and TASKS[n].card.modality == modality for n in SUITES["development"])


def test_the_stress_suite_has_a_task_of_each_modality() -> None:
    assert {TASKS[name].card.modality for name in SUITES["stress"]} == {"image", "text", "preference"}
    assert families("stress") <= families("default")


def test_supervisors_differ_in_learner_budget_domain_and_confidence() -> None:
    supervisors = [s for name in SUITES["default"] for s in TASKS[name].supervisors(0)]
    kinds = {type(s.model) for s in supervisors}
    assert {SmallCNN, PixelLogistic, TfidfClassifier, Classical} <= kinds
    classical = [s.model for s in supervisors if isinstance(s.model, Classical)]
    assert {model.learner for model in classical} == {"logistic", "neighbours", "forest", "boosting"}
    assert any(model.temperature > 1 for model in classical)


@pytest.mark.parametrize("name", OWN)
def test_a_task_is_described_without_its_data(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark.assets.packages, "find_spec", lambda module: None)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "none"))
    task = TASKS[name]
    for field in dataclasses.fields(task.card):
        assert field.name in ("tags", "redistribution") or getattr(task.card, field.name), f"{field.name} is empty"
    assert "\n" not in task.card.shift
    assert task.card.target not in task.card.sources
    assert task.train_sizes == FEW_SIZES
    supervisors = task.supervisors(0)
    assert 3 <= len(supervisors) <= 5
    assert {domain for s in supervisors for domain in s.domains} == set(task.card.sources)
    for seed in range(1, 5):  # number and order are the same for all seeds
        assert [(s.model, s.domains) for s in task.supervisors(seed)] == [(s.model, s.domains) for s in supervisors]
    line = task.missing()
    assert line is not None
    assert line.startswith("not installed: ")
    assert "pip install -c constraints.txt " in line
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_missing_here(name: str) -> None:
    assert TASKS[name].missing() is None
