"""Runs through the command line: dry ones, those that end early, and what is not there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from benchmark.arrays import ArrayTask
from benchmark.assets import packages as fetch
from benchmark.base.errors import NotAvailable, Vanished, W2SError
from benchmark.core.data import Domain
from benchmark.core.registry import METHODS, register_task
from benchmark.results.store import ResultStore
from benchmark.running.plan import Unit
from benchmark.running.runner import Workforce
from benchmark.running.setup import Setup
from benchmark.running.unit import execute
from support.command_line import CommandLine
from support.made_up import Blobs, make_arrays
from tasks import _vader


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """60 examples, 3 supervisors and 3 classes."""
    np.savez(tmp_path / "mine.npz", **make_arrays(60))  # type: ignore[arg-type]
    return tmp_path / "mine.npz"


def test_dry_run_says_what_would_run_and_touches_nothing(w2s: CommandLine, arrays: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    shown = w2s("run", "--arrays", arrays, "--methods", "raven*,ground_truth", "--seeds", "3", "--dry-run")
    raven = [name for name in METHODS.names() if name.startswith("raven")]
    assert len(raven) > 1
    assert shown.status == 0
    assert shown.out.splitlines() == [
        f"mine (ood): {', '.join(sorted([*raven, 'ground_truth']))} (seeds 0, 1, 2)",
        "1 units to run, results in runs/arrays-mine",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_dry_run_downloads_nothing(w2s: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the small archive that a run would fetch through pip; the empty cache of the test lacks it."""
    _vader.rated_texts.cache_clear()
    _vader._source_files.cache_clear()
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_, **__: pytest.fail("pip ran"))
    shown = w2s("run", "--tasks", "sentiment-to-nyt", "--methods", "ensemble", "--dry-run")
    assert shown.status == 1
    assert "sentiment-to-nyt (ood): ensemble (seeds 0" in shown.out
    (line,) = [line for line in shown.out.splitlines() if line.startswith("not run: ")]
    for words in ("sentiment-to-nyt", "vaderSentiment 0.5", "2.4 MB", "licence MIT", "SHA-256 5d97c37f", "with pip"):
        assert words in line
    assert not (tmp_path / "cache" / "downloads").exists()


def test_dry_run_leaves_out_what_is_done(w2s: CommandLine, arrays: Path) -> None:
    asked = ["run", "--arrays", arrays, "--suite", "smoke", "--methods", "ensemble", "--seeds", "1"]
    assert w2s(*asked).status == 0
    assert w2s(*asked, "--dry-run").out == "0 units to run, results in runs/arrays-mine\n"
    more = w2s(*asked[:-1], "2", "--dry-run")
    assert more.out.splitlines()[0] == "mine (ood): ensemble (seeds 1)"
    assert "ensemble (seeds 0)" in w2s(*asked, "--dry-run", "--force").out


# ---- runs that end early


@pytest.mark.parametrize(
    ("ending", "status", "last"),
    [
        (KeyboardInterrupt(), 130, "stopped: 1 units run, 1 failed, 1 left, results in results; the same command goes"),
        (W2SError("node 1.2.3.4 can't take part"), 2, "error: node 1.2.3.4 can't take part"),
        (
            Vanished("results: files in it were removed"),
            1,
            "stopped: results: files in it were removed; the",
        ),
    ],
    ids=["interrupted", "no node", "vanished"],
)
def test_a_run_that_ends_early_says_what_is_done_and_what_has_failed(
    w2s: CommandLine, monkeypatch: pytest.MonkeyPatch, ending: BaseException, status: int, last: str
) -> None:
    def outcomes(self: Workforce, plan: Sequence[Unit], setup: Setup, say: Any) -> Iterator[Any]:
        yield plan[0], execute(plan[0], setup)
        yield plan[1], W2SError("made to fail")
        raise ending

    monkeypatch.setattr(Workforce, "outcomes", outcomes)
    for name in "abc":
        register_task(ArrayTask(**make_arrays(60), name=name))
    shown = w2s("run", "--suite", "smoke", "--tasks", "a,b,c", "--methods", "naive", "--results", "results")
    assert shown.status == status
    lines = (shown.out + shown.err).splitlines()
    assert lines[-2] == "b (ood): made to fail"
    assert lines[-1].startswith(last)
    assert {record.task for record in ResultStore(Path("results")).load().records.values()} == {"a"}


# ---- what is not there


def test_a_task_that_exits_is_named_and_the_others_run(w2s: CommandLine) -> None:
    class Exits(Blobs):
        def domain(self, name: str) -> Domain:
            sys.exit(0)

    register_task(Exits(name="exits"))
    register_task(ArrayTask(**make_arrays(60), name="present"))
    shown = w2s("run", "--suite", "smoke", "--tasks", "exits,present", "--methods", "ensemble", "--results", "results")
    assert shown.status == 1
    assert shown.out.splitlines() == ["1 units run, results in results", "not run: exits: SystemExit: 0"]


def test_what_this_machine_lacks_is_said_and_is_no_zero(w2s: CommandLine) -> None:
    class Lacking(Blobs):
        def missing(self) -> str | None:
            return "not installed: elpv-dataset; run: pip install elpv-dataset"

    register_task(Lacking(name="lacking"))
    register_task(ArrayTask(**make_arrays(60), name="present"))
    asked = ["run", "--suite", "smoke", "--tasks", "lacking,present", "--methods", "ensemble", "--conditions", "ood"]
    shown = w2s(*asked, "--results", "results")
    assert shown.status == 1
    assert shown.out.splitlines() == [
        "1 units run, results in results",
        "not run: lacking: not installed: elpv-dataset; run: pip install elpv-dataset",
    ]
    contents = ResultStore(Path("results")).load()
    assert {record.task for record in contents.records.values()} == {"present"}
    assert set(contents.evaluations) == {("present", "ood")}
    assert "lacking" not in Path("results/ensemble/records.jsonl").read_text()
    again = w2s(*asked, "--results", "results")
    assert again.status == 1, "still not run"
    assert again.out.startswith("nothing to do: all is in results\nnot run: lacking")
    alone = w2s("run", "--suite", "smoke", "--tasks", "lacking", "--methods", "ensemble", "--results", "none")
    assert (alone.status, alone.out.splitlines()[0]) == (1, "0 units run, results in none"), "not: all is there"
    assert "  available    no: not installed: elpv-dataset" in w2s("describe", "lacking").out


def test_so_are_data_that_turn_out_not_to_be_there(w2s: CommandLine) -> None:
    """As `sentiment-*` and `preference-*` do without a network: `missing()` knows of packages only."""

    class Offline(Blobs):
        def domain(self, name: str) -> Any:
            raise NotAvailable("vaderSentiment 0.5: cannot be fetched; run: pip download vaderSentiment")

    register_task(Offline(name="offline"))
    register_task(ArrayTask(**make_arrays(60), name="present"))
    asked = ["run", "--suite", "smoke", "--tasks", "offline,present", "--methods", "ensemble", "--conditions", "ood"]
    shown = w2s(*asked, "--results", "results")
    assert shown.status == 1
    assert any(line.startswith("not run: offline: vaderSentiment 0.5") for line in shown.out.splitlines())
    assert {record.task for record in ResultStore(Path("results")).load().records.values()} == {"present"}


def test_a_plugin_task_whose_data_cannot_be_made_is_reported(w2s: CommandLine) -> None:
    class Faulty(Blobs):
        def domain(self, name: str) -> Any:
            raise ZeroDivisionError("division by zero")

    register_task(Faulty(name="faulty"))
    shown = w2s("run", "--suite", "smoke", "--tasks", "faulty", "--methods", "ensemble", "--results", "results")
    assert shown.status in (1, 2)
    assert "faulty" in shown.out + shown.err


def test_a_missing_package_of_a_shipped_task_is_named_with_the_command(
    w2s: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.assets import packages as fetch

    find_spec: Callable[..., Any] = fetch.find_spec
    monkeypatch.setattr(fetch, "find_spec", lambda name: None if name == "elpv_dataset" else find_spec(name))
    shown = w2s("run", "--tasks", "solar-mono-to-poly", "--methods", "ensemble", "--results", "results")
    assert shown.status == 1
    (line,) = [line for line in shown.out.splitlines() if line.startswith("not run: ")]
    assert line.startswith("not run: solar-mono-to-poly: not installed: elpv-dataset; run: pip install")
    assert ResultStore(Path("results")).load().records == {}
    assert "elpv-dataset" in w2s("describe", "solar-mono-to-poly").out


# ---- the results folder


def test_a_results_folder_that_another_run_writes_to(w2s: CommandLine, arrays: Path, tmp_path: Path) -> None:
    asked = ["run", "--arrays", arrays, "--suite", "smoke", "--methods", "ensemble", "--results", "results"]
    (tmp_path / "results").mkdir()
    with FileLock(tmp_path / "results" / ".lock"):
        assert w2s(*asked).refusal == (
            "results: another run is writing here; wait until it ends, or name another folder with --results"
        )
    assert w2s(*asked).status == 0
