"""`w2s run --tune` from the command line to the table."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.core.names import GRID_SIZE
from benchmark.core.records import Record, digest
from benchmark.results.store import ResultStore
from benchmark.running import unit as execution
from support.command_line import CommandLine, command_line
from support.disturbed import PLUGIN
from support.made_up import make_arrays

METHODS = ("bootstrapping", "co_supervised", "ensemble_confidence", "naive", "raven")
RECIPE = ("--set", "learning_rate=0.01", "--set", "batch_size=16")
ASKED = ("run", "--suite", "smoke", *RECIPE, "--arrays", "mine.npz", "--seeds", "2", "--methods", ",".join(METHODS))
RUNS = Path("runs")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the same was run with and without `--tune`; not to be changed."""
    folder = tmp_path_factory.mktemp("base")
    with command_line(folder) as w2s:
        np.savez("mine.npz", **make_arrays(300, D=32))
        for flags, out in (
            ((), "1 units run, results in runs/arrays-mine\n"),
            (("--tune",), "1 units run, results in runs/arrays-mine-tuned\n"),
        ):
            done = w2s(*ASKED, *flags)
            assert (done.status, done.err, done.out) == (0, "", out)
    return folder


@pytest.fixture
def folder(base: Path, w2s: CommandLine, tmp_path: Path) -> Path:
    """A copy, where the command runs."""
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    return tmp_path


def records(folder: Path) -> dict[tuple[str, int], Record]:
    return {(key.method, key.seed): record for key, record in ResultStore(folder).load().records.items()}


def test_the_first_trial_is_the_untuned_run(base: Path) -> None:
    untuned, tuned = (ResultStore(base / "runs" / name).load() for name in ("arrays-mine", "arrays-mine-tuned"))
    assert len(untuned.records) == len(tuned.records) == 2 * len(METHODS)
    varied = set()
    ordinary = {(key.method, key.seed): record for key, record in untuned.records.items()}
    for key, record in tuned.records.items():
        default = ordinary[key.method, key.seed]
        predictions = tuned.predictions[key].reshape(GRID_SIZE, -1, tuned.predictions[key].shape[1])
        assert digest(predictions[0]) == default.predictions_sha256
        assert record.hyperparameters["trials"][0] == default.hyperparameters  # type: ignore[index, call-overload]
        assert record.metrics["default_accuracy"] == default.metrics["accuracy"]
        assert record.evaluation_sha256 == default.evaluation_sha256
        assert record.cost > 4 * default.cost
        varied |= {key.method} if len({p.tobytes() for p in predictions}) > 1 else set()
    assert {"naive", "bootstrapping"} <= varied


def test_agreement_is_with_the_ensemble_on_the_validation_split(base: Path) -> None:
    """Its parts: shares of the validation examples of all replicas."""
    n_val = 30
    for record in ResultStore(base / "runs" / "arrays-mine-tuned").load().records.values():
        agreements = record.diagnostics["agreement"]
        assert isinstance(agreements, list)
        counts = np.array(agreements) * n_val * (3 if record.kind == "single" else 1)
        np.testing.assert_allclose(counts, counts.round(), atol=1e-6)
        assert max(agreements) > 0.5  # type: ignore[type-var, operator]


def test_run_again_it_does_nothing_and_force_gives_the_same_bytes(folder: Path, w2s: CommandLine) -> None:
    before = files(RUNS / "arrays-mine-tuned")
    assert w2s(*ASKED, "--tune").out == "nothing to do: all is in runs/arrays-mine-tuned\n"
    assert "1 units run" in w2s(*ASKED, "--tune", "--force").out
    assert files(RUNS / "arrays-mine-tuned") == before


def test_another_plan_gives_the_same_predictions_and_choice(folder: Path, w2s: CommandLine) -> None:
    whole = records(RUNS / "arrays-mine-tuned")
    asked = [*ASKED[:-1], "raven", "--tune", "--results", "alone"]
    asked[asked.index("--seeds") + 1] = "1"
    assert w2s(*asked).status == 0
    (found,) = records(Path("alone")).values()
    expected = whole["raven", 0]
    assert found.predictions_sha256 == expected.predictions_sha256
    assert found.metrics == expected.metrics
    assert [found.diagnostics[name] for name in ("agreement", "chosen")] == [
        expected.diagnostics[name] for name in ("agreement", "chosen")
    ]


def test_the_table_and_its_check(folder: Path, w2s: CommandLine) -> None:
    done = w2s("leaderboard", "--results", "runs/arrays-mine-tuned")
    assert done.status == 0
    assert "default chosen" in done.out
    assert all(name in done.out for name in METHODS)
    assert w2s("leaderboard", "--results", "runs/arrays-mine-tuned", "--check").status == 0
    w2s("leaderboard", "--results", "runs/arrays-mine")
    page = Path("runs/arrays-mine/LEADERBOARD.md").read_text()
    assert "## Equal tuning budget" in page
    assert "## Methods" in page
    assert w2s("leaderboard", "--results", "runs/arrays-mine", "--check").status == 0
    lines = Path("runs/arrays-mine-tuned/raven/records.jsonl")
    lines.write_text(re.sub(r'"oracle_accuracy":[\d.]+', '"oracle_accuracy":0.123', lines.read_text()))
    done = w2s("leaderboard", "--results", "runs/arrays-mine", "--check")
    assert done.status == 1
    assert "runs/arrays-mine-tuned/raven/records.jsonl: raven on mine/ood, seed 0: metrics.oracle_accuracy" in done.out


def test_tuned_and_other_results_do_not_mix(folder: Path, w2s: CommandLine) -> None:
    before = files(RUNS)
    for flags, results, holds in (
        (["--tune"], "runs/arrays-mine", "holds results without --tune"),
        ([], "runs/arrays-mine-tuned", "holds tuned results"),
    ):
        refusal = w2s(*ASKED, *flags, "--results", results).refusal
        assert f"{results}: {holds}; name another folder with --results" in refusal
    assert files(RUNS) == before


def test_canaries_are_left_out_and_said_to_be_when_they_were_named(folder: Path, w2s: CommandLine) -> None:
    asked = [*ASKED[:-1], "raven,ground_truth", "--tune", "--results", "canaries"]
    assert w2s(*asked).out == (
        "--tune: canaries are not tuned, left out: ground_truth\n1 units run, results in canaries\n"
    )
    assert {method for method, _ in records(Path("canaries"))} == {"raven"}
    asked[-4] = "ground_truth"
    result = w2s(*asked)
    assert result.status == 2
    assert "error: --tune: found canaries only" in result.err


def test_what_a_dry_run_and_a_description_say(folder: Path, w2s: CommandLine) -> None:
    assert "1 units to run, 8 settings a method, results in" in w2s(*ASKED, "--tune", "--force", "--dry-run").out
    described = " ".join(w2s("describe", "ensemble_confidence").out.split())
    assert "default; epochs_times=0.3; max_confidence=0.25; max_confidence=0.25, epochs_times=0.3" in described
    assert "--replies: not with --tune" in w2s(*ASKED, "--tune", "--replies", "2").refusal


def test_a_kill_loses_the_unit_in_flight_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of the second of two units."""

    class Killed(BaseException):
        pass

    asked = ["run", "--suite", "smoke", "--plugin", PLUGIN, "--tasks", "kill-a,kill-b", "--methods", "naive,unruly"]
    asked += ["--seeds", "2", "--tune", "--results"]

    def run(results: str) -> str:
        with command_line(tmp_path) as w2s:
            return w2s(*asked, results).out

    end, begun = execution._Epochs.__call__, 0

    def killed(self: Any, share: float) -> None:
        nonlocal begun
        end(self, share)
        begun += share == 1
        if begun == 40:  # of 32 a unit: 6 x 4 + 2 x 4
            raise Killed

    monkeypatch.setattr(execution._Epochs, "__call__", killed)
    with pytest.raises(Killed):
        run("killed")
    monkeypatch.setattr(execution._Epochs, "__call__", end)
    first = ResultStore(tmp_path / "killed").load()
    assert not first.problems
    assert {key.task for key in first.records} == {"kill-a"}
    assert "1 units run" in run("killed")
    assert "2 units run" in run("whole")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
