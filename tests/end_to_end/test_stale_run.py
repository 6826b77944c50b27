"""`w2s run --stale`: redoes what is stale, and nothing that is merely missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmark.core.names import ENGINE_VERSION
from benchmark.core.registry import METHODS, register_task
from benchmark.results.store import ResultStore
from support.command_line import CommandLine
from support.made_up import Blobs

ASKED = ("run", "--suite", "smoke", "--results", "results")


@pytest.fixture
def done(w2s: CommandLine) -> Path:
    """Two methods on a task: seeds 0 and 1 OOD, seed 0 InD."""
    register_task(Blobs())
    run = (*ASKED, "--tasks", "blobs", "--methods", "ensemble,raven", "--seeds")
    assert w2s(*run, "2", "--conditions", "ood").status == 0
    assert w2s(*run, "1", "--conditions", "ind").status == 0
    return Path("results")


def lines(method: str) -> set[str]:
    return set(Path(f"results/{method}/records.jsonl").read_text().splitlines())


def test_nothing_is_stale(w2s: CommandLine, done: Path) -> None:
    shown = w2s(*ASKED, "--stale")
    assert (shown.status, shown.out) == (0, "nothing to redo in results\n")


def test_just_the_stale_records_are_redone(
    w2s: CommandLine, done: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, untouched = lines("raven"), lines("ensemble")
    monkeypatch.setattr(METHODS["raven"], "version", 2)
    listed = w2s("list", "results", "--results", "results").out.splitlines()
    assert [line.split(maxsplit=3)[:4] for line in listed[2:]] == [
        ["ensemble", "3", "1", "0"],
        ["raven", "3", "1", "3: raven version 1, now 2"],
    ]
    checked = w2s("leaderboard", "--results", "results", "--check")
    assert checked.status == 1
    assert "results: raven: 3 stale records (raven version 1, now 2); run `w2s run --stale" in checked.out
    dry = w2s(*ASKED, "--stale", "--dry-run").out.splitlines()
    assert dry == [
        "blobs (ind): raven (seeds 0)",
        "blobs (ood): raven (seeds 0, 1)",
        "2 units to run, results in results",
    ]
    assert w2s(*ASKED, "--stale", "--methods", "ensemble").out == "nothing to redo in results\n"
    assert w2s(*ASKED, "--stale", "--seeds", "1", "--conditions", "ood", "--dry-run").out.startswith(
        "blobs (ood): raven (seeds 0)\n1 units"
    )
    shown = w2s(*ASKED, "--stale")
    assert (shown.status, shown.out) == (0, "2 units run, results in results\n")
    assert lines("ensemble") == untouched
    assert lines("raven") == {line.replace('"method_version":1', '"method_version":2') for line in before}
    assert w2s("list", "results", "--results", "results").out.count("now 2") == 0


PLUGIN = """
from dataclasses import dataclass
from benchmark.api import Method, cross_entropy, register_method

@register_method
@dataclass(eq=False)
class Mine(Method):
    name, version, title, citation, kind = "mine", VERSION, "Mine", "none", "ensemble"
    share: float = SHARE

    def loss(self, logits, batch):
        return self.share * cross_entropy(logits, batch.soft_labels.mean(2))
"""


def test_a_raised_version_with_another_setting_replaces_the_old_records(w2s: CommandLine, done: Path) -> None:
    def plugin(version: int, share: float) -> None:
        Path("mine.py").write_text(PLUGIN.replace("VERSION", str(version)).replace("SHARE", str(share)))

    plugin(1, 0.5)
    run = (*ASKED, "--plugin", "mine.py", "--tasks", "blobs", "--methods", "mine", "--conditions", "ood")
    assert w2s(*run, "--seeds", "2").status == 0
    plugin(2, 0.25)
    assert w2s(*ASKED, "--plugin", "mine.py", "--stale", "--seeds", "1").out == "1 units run, results in results\n"
    found = ResultStore(Path("results")).load().records
    assert sorted((key.seed, record.method_version) for key, record in found.items() if key.method == "mine") == [
        (0, 2),
        (1, 1),
    ]
    assert w2s(*ASKED, "--plugin", "mine.py", "--stale").status == 0
    contents = ResultStore(Path("results")).load()
    mine = {key: record for key, record in contents.records.items() if key.method == "mine"}
    assert [record.method_version for record in mine.values()] == [2, 2]
    assert {key for key in contents.predictions if key.method == "mine"} == set(mine)


def test_what_stale_is_not_combined_with(w2s: CommandLine) -> None:
    for option in (("--force",), ("--pack", "x"), ("--arrays", "x.npz")):
        shown = w2s(*ASKED, "--stale", *option)
        assert shown.status == 2
    assert w2s(*ASKED, "--stale", "--force").refusal.startswith("--stale: not with --force, --arrays or --pack")
    assert w2s("list", "tasks", "--results", "x").refusal == "--results: only with `w2s list results`"


def test_a_method_that_is_not_here_is_left_out(w2s: CommandLine, done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.running import plan, stale, unit

    for module in (plan, stale, unit):
        monkeypatch.setattr(module, "ENGINE_VERSION", ENGINE_VERSION + 1)
    shutil.rmtree("results/ensemble")
    METHODS._items.pop("raven")
    shown = w2s(*ASKED, "--stale")
    assert shown.status == 1
    assert shown.out.splitlines() == [
        "not redone: method 'raven' is not registered here; name its file with --plugin",
        "nothing to redo in results",
    ]
    assert ResultStore(Path("results")).load().records


def test_a_submission_is_left_out_and_its_command_named(
    w2s: CommandLine, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest holds the hash of its records."""
    before = lines("raven")
    monkeypatch.setattr(METHODS["raven"], "version", 2)
    (done / "raven" / "manifest.json").touch()
    again = "w2s submit results/raven/method.py --suite smoke"
    shown = w2s(*ASKED, "--stale")
    assert shown.status == 1
    assert f"not redone: method 'raven' is a submission; run `{again}` and put its folder here\n" in shown.out
    assert lines("raven") == before
    assert f"run `{again.replace('smoke', 'SUITE')}`" in w2s("leaderboard", "--results", "results", "--check").out
