"""`w2s run --tune` with language models as students: units of a seed, checkpoints, memory of one trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.command_line import CommandLine
from support.tiny import Models
from support.tiny_runs import Tiny

pytest.importorskip("peft")

from benchmark.core.names import GRID_SIZE
from benchmark.running import unit as execution
from benchmark.students.language.student import LanguageStudent


@pytest.fixture
def tiny(w2s: CommandLine, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    monkeypatch.setenv("W2S_TEST_MODELS", str(models.root))
    return Tiny(w2s, tmp_path)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("task", ["tiny-said", "tiny-chosen"])
def test_the_first_trial_is_the_untuned_student(task: str, tiny: Tiny, tmp_path: Path) -> None:
    rate = ("--set", "learning_rate=0.05")
    assert tiny(task, "raven,naive", *rate).status == 0
    untuned = tiny.records
    tiny.results = tmp_path / "tuned"
    assert tiny(task, "raven,naive", "--tune", *rate).status == 0
    contents = tiny.contents
    for key, record in contents.records.items():
        default = untuned[key.method, key.seed]
        predictions = contents.predictions[key]
        replicas = len(predictions) // GRID_SIZE
        pool = len(contents.evaluations[key.task, key.condition].seeds[key.seed].labels)
        assert predictions.shape == (GRID_SIZE * (2 if key.method == "naive" else 1), pool)
        assert record.metrics["default_accuracy"] == pytest.approx(default.metrics["accuracy"])
        trials = {trial.tobytes() for trial in predictions.reshape(GRID_SIZE, replicas, -1)}
        assert len(trials) > 1 or key.method == "raven"
        assert record.diagnostics["sequences"] == default.diagnostics["sequences"]  # the validation split not counted
        agreements = record.diagnostics["agreement"]
        assert isinstance(agreements, list)
        assert len(agreements) == GRID_SIZE
        assert contents.misfit(record) is None


def test_a_killed_tuned_seed_goes_on_where_it_was(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    end, epochs, heads = execution._Epochs.__call__, 0, []
    begin = LanguageStudent.__init__

    def counted(self: LanguageStudent, kind: Any, inputs: Any, seeds: tuple[int, ...], own: int) -> None:
        heads.append(own)
        begin(self, kind, inputs, seeds, own)

    def killed(self: Any, share: float) -> None:
        nonlocal epochs
        end(self, share)
        epochs += share == 1
        if epochs == 18:  # of 2 x 6 + 1 x 6 and more a seed: in the middle of the second
            raise Killed

    asked = ("tiny-said", "raven,bootstrapping", "--tune", "--set", "epochs=2")
    monkeypatch.setattr(execution._Epochs, "__call__", killed)
    with pytest.raises(Killed):
        tiny(*asked)
    monkeypatch.setattr(execution._Epochs, "__call__", end)
    assert tiny.records == {}
    assert len(tiny.checkpoints()) > 1  # of several runs
    monkeypatch.setattr(LanguageStudent, "__init__", counted)
    assert tiny(*asked).status == 0
    assert max(heads) <= 3  # one trial of each method at a time
    assert tiny.checkpoints() == []
    resumed, tiny.results = tiny.records, tmp_path / "whole"
    outcome = tiny(*asked)
    assert outcome.status == 0, outcome
    assert set(tiny.records) == {("raven", 0), ("bootstrapping", 0)}
    for key, record in tiny.records.items():
        assert record.predictions_sha256 == resumed[key].predictions_sha256
        assert record.diagnostics == resumed[key].diagnostics
