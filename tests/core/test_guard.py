"""A write into what methods are given is found and named, and others are bit for bit what they are without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.base.errors import MethodFailed
from benchmark.core.data import Recipe
from benchmark.core.guard import SomeoneWrote, Wrote
from benchmark.core.method import Batch, Method, Supervision
from benchmark.core.recording import Tape
from benchmark.core.registry import METHODS, register_method
from benchmark.core.training import NOWHERE, TrainingData, train
from benchmark.running.method_settings import Trial
from benchmark.running.tuning import train_trials
from benchmark.testing import make_data
from support.made_up import registries_restored
from support.scribbler import HOW, NAMES, WHERE, Scribbler, SingleScribbler, StagedScribbler
from support.trained import Ensemble

RECIPE = Recipe(learning_rate=1e-2, epochs=3, batch_size=16)  # 4 steps an epoch
OTHERS = ("confidence", "naive", "raven", "bootstrapping")  # others are before and after whoever writes
DATA = make_data(classes=3, examples=64)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with registries_restored():
        for method in (Scribbler, SingleScribbler, StagedScribbler):
            register_method(method)
        yield


def trained(names: tuple[str, ...], data: TrainingData = DATA, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """What each method's trial gives, as bytes, and the failures; data must stay as they are."""
    before, failed = data.soft_labels.clone(), list[MethodFailed]()
    trials = [Trial(name, 0, options if "scribbler" in name else {}, RECIPE) for name in names]
    results = train_trials([trials], data, lambda share: None, NOWHERE, failed.append)
    assert torch.equal(data.soft_labels, before)
    assert all(isinstance(error, Wrote) for error in failed)
    found = {
        name: [x.numpy().tobytes() for x in (own.student.weight, *own.diagnostics.values())]  # type: ignore[attr-defined]
        for name, (own,) in results.items()
    }
    return found, list(map(str, failed))


ALONE = trained(OTHERS)[0]


def assert_named(line: str, name: str, what: str, how: str) -> None:
    assert line.startswith(f"method '{name}': writes into ")
    assert what in line
    assert how == "storage" or line.count(" and ") == 0


@settings(max_examples=40)
@given(st.sampled_from(WHERE), st.sampled_from(sorted(HOW)), st.booleans(), st.sampled_from((0.0, 0.6)))
def test_whoever_writes_is_named_and_the_others_are_what_they_are_without_it(
    where: str, how: str, single: bool, late: float
) -> None:
    if where == "logits" and how in ("data", "numpy", "storage"):
        late = 0.0  # an own part of logits spoils nobody else; it is looked at in an epoch's first step
        if single:  # and is a copy
            return
    if where == "index" and single and how in ("data", "numpy", "storage"):  # a copy, too
        return
    name = "a_single_scribbler" if single else "a_scribbler"
    found, (line,) = trained((*OTHERS[:2], name, *OTHERS[2:]), where=where, how=how, late=late)
    assert_named(line, name, NAMES[where], how)
    assert found == ALONE


@pytest.mark.parametrize("how", HOW)
def test_a_write_after_a_stage(how: str) -> None:
    found, (line,) = trained((*OTHERS[:2], "a_staged_scribbler", *OTHERS[2:]), where="nowhere", how=how)
    assert_named(line, "a_staged_scribbler", "supervision.soft_labels", how)
    assert found == ALONE


def test_a_write_before_stages_that_are_trained_one_by_one() -> None:
    _, (line,) = trained(("bootstrapping", "a_staged_scribbler"), where="start", how="data")
    assert_named(line, "a_staged_scribbler", "supervision.soft_labels", "data")


@pytest.mark.parametrize("how", HOW)
def test_a_write_of_one_that_trains_alone(how: str) -> None:
    found, (line,) = trained(("a_scribbler",), where="soft labels", how=how)
    assert (found, line.split(":")[0]) == ({}, "method 'a_scribbler'")


@pytest.mark.parametrize("how", sorted(HOW.keys() - {"numpy"}))
@pytest.mark.parametrize("where", ["logits", "soft labels", "index", "whole in loss", "after_step"])
def test_a_recording_holds_no_such_write(where: str, how: str) -> None:
    """Found in the step that is watched before anything is recorded."""
    with pytest.raises(Wrote, match=f"^method 'a_scribbler': writes into .*{NAMES[where]}"):
        train([Ensemble(), Scribbler(where, how)], DATA, RECIPE, recorder=Tape())


@pytest.mark.parametrize("how", ["operation", "data"])
def test_a_write_that_begins_later_than_the_recording(how: str) -> None:
    """The share of steps is asked for, so the step in which it begins is watched again."""
    with pytest.raises(Wrote, match=r"^method 'a_scribbler': writes into batch\.soft_labels"):
        train([Ensemble(), Scribbler("soft labels", how, 0.6)], DATA, RECIPE, recorder=Tape())


class Hidden(Scribbler):
    """Reads a value, so that it is trained beside a recording; its write is none that an operation makes."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        assert float(logits.sum()) is not None
        return super().loss(logits, batch)


def test_a_write_beside_a_recording() -> None:
    with pytest.raises(Wrote, match=r"^method 'a_scribbler': writes into batch\.soft_labels"):
        train([Ensemble(), Hidden("soft labels", "numpy")], DATA, RECIPE, recorder=Tape())


def test_of_several_methods_it_shows_who_wrote_around_the_counters_when_they_are_watched_closely() -> None:
    def methods() -> list[Method]:
        return [Ensemble(), Scribbler("soft labels", "data", 0.6), METHODS["naive"]()]

    with pytest.raises(SomeoneWrote, match="soft_labels"):
        train(methods(), DATA, RECIPE)
    with pytest.raises(Wrote, match="method 'a_scribbler'"):
        train(methods(), DATA, RECIPE, closely=True)


def test_what_a_method_makes_itself_is_its_own() -> None:
    """Copies, state, and labels that are NaN from the start, as the targets of a training that diverged."""

    class Tidy(Ensemble):
        def start(self, supervision: Supervision) -> None:
            self.table = supervision.soft_labels.clone().mul_(2)

        def loss(self, logits: Tensor, batch: Batch) -> Tensor:
            self.table.zero_()
            scaled = logits * 2
            scaled += 1
            return super().loss(scaled, replace(batch, soft_labels=batch.soft_labels.clone().clamp_(0.1)))

    train([Tidy(), Ensemble()], DATA, RECIPE)
    train([Tidy(), Ensemble()], DATA, RECIPE, recorder=Tape())
    train([Ensemble()], replace(DATA, soft_labels=torch.full_like(DATA.soft_labels, torch.nan)), RECIPE)
