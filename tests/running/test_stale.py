"""Stale records: named with what was raised, refused by --check, and redone alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.analysis.cells import analysis_of
from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError
from benchmark.core.canaries import GroundTruth
from benchmark.core.code_hash import source_of
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import setting_hash
from benchmark.core.registry import METHODS, register_task
from benchmark.core.suite import load_suite
from benchmark.reports.checks import check
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from benchmark.running import stale as stale_module
from benchmark.running.stale import Place, overview, raised, stale_findings, stale_run
from support.synthetic import Task, entry, evaluation, fill, put

TASK = Task("stale-task")


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    store = ResultStore(tmp_path / "results" / "made-up")
    fill(store, [TASK], ("naive", "raven", "ground_truth", "outside"), range(2), ("ood",))
    return store


def raise_engine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stale_module, "ENGINE_VERSION", ENGINE_VERSION + 1)


def raise_raven(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(METHODS["raven"], "version", METHODS["raven"].version + 1)


def raise_canary(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroundTruth, "version", GroundTruth.version + 1)


def raise_task(patch: pytest.MonkeyPatch) -> None:
    class Raised(ArrayTask):
        version = 2

    register_task(Raised([[0.0]], [[[0.5, 0.5]]], [0], name=TASK.name))


EVERY = {"naive", "raven", "ground_truth", "outside"}
RAISED = {
    "engine": (raise_engine, EVERY, f"engine version {ENGINE_VERSION}, now {ENGINE_VERSION + 1}"),
    "method": (raise_raven, {"raven"}, "raven version 1, now 2"),
    "canary": (raise_canary, {"ground_truth"}, "ground_truth version 1, now 2"),
    "task": (raise_task, EVERY, "stale-task version 1, now 2"),
}


def test_nothing_is_stale_when_nothing_was_raised(store: ResultStore) -> None:
    assert stale_findings(store) == []
    assert [line.split() for line in overview(store)[2:]] == [[name, "2", "1", "0"] for name in sorted(EVERY)]


@pytest.mark.parametrize("what", RAISED)
def test_what_was_raised_is_named_for_each_row(store: ResultStore, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    change, rows, reason = RAISED[what]
    change(monkeypatch)
    findings = stale_findings(store)
    assert {line.split(": ")[1] for line in findings} == rows
    assert all(f"2 stale records ({reason})" in line and "`w2s run --stale" in line for line in findings)
    shown = {line.split()[0]: line for line in overview(store)[2:]}
    for row, line in shown.items():
        assert line.endswith(f"2: {reason}" if row in rows else "  0")


def test_records_of_another_source_are_stale_and_those_that_know_none_are_not(store: ResultStore) -> None:
    for method, source in (("naive", "b" * 64), ("raven", source_of(METHODS["raven"])), ("outside", "b" * 64)):
        put(store, TASK, method, range(1), ("ood",), source_sha256=source)
    (finding,) = stale_findings(store)
    assert "naive: 1 stale records (source of naive changed); run `w2s run --stale --suite SUITE" in finding
    lines = overview(store)
    assert [line.split()[3:] for line in lines[2:6]] == [
        ["0"],
        ["1:", *["source", "of", "naive", "changed"]],
        ["0"],
        ["0"],
    ]
    note = "naive: records of version 1 are of another source than the method has now"
    assert lines[6:] == [note]
    assert analysis_of(store).problems == [note], "on tables and the page"


def test_versions_that_are_higher_than_here_are_not_stale(store: ResultStore) -> None:
    evaluated = evaluation(TASK, "ood", range(1))
    record, _ = entry(TASK, evaluated, "raven", 0, engine_version=9, method_version=9)
    assert raised(record) == []


def test_check_refuses_stale_rows_before_data_are_touched(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    page = store.root.parent.parent / "LEADERBOARD.md"
    assert not any("stale records" in finding for finding in check([store.root], page, stale_findings))
    raise_raven(monkeypatch)
    (finding,) = [finding for finding in check([store.root], page, stale_findings) if "stale records" in finding]
    assert finding.startswith(f"{store.root}: raven: 2 stale records")
    assert finding.endswith(f"run `w2s run --stale --suite SUITE --results {store.root}`")


def test_a_folder_may_say_that_it_is_older_while_it_is(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.root / "OLDER.md").write_text("Tasks have\nchanged since.\n")
    (finding,) = stale_findings(store)
    assert finding == f"{store.root}/OLDER.md: nothing here is older than the code; remove it"
    raise_raven(monkeypatch)
    assert stale_findings(store) == []
    assert "**Of an older protocol.** Tasks have changed since.\n" in render(store)
    (store.root / "OLDER.md").unlink()
    assert "older protocol" not in render(store)


def test_the_command_names_the_suite_and_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_engine(monkeypatch)
    for folder, options in (("smoke", "--suite smoke"), ("language-model-full", "--suite language-model --full")):
        store = ResultStore(tmp_path / folder)
        fill(store, [TASK], ("outside",), range(1), ("ood",))
        (finding,) = stale_findings(store)
        assert finding.endswith(f"run `w2s run --stale {options} --results {store.root} --plugin FILE`")


def test_places_are_narrowed(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_task(monkeypatch)
    suite = load_suite("smoke")

    def places(tasks: list[str], methods: list[str], conditions: tuple[str, ...], seeds: int | None) -> set[Place]:
        return set(stale_run(store, suite, tasks, methods, conditions, seeds).places)

    def at(method: str, seed: int) -> Place:
        return Place(TASK.name, "ood", method, seed)

    assert len(places([], [], ("ood",), None)) == 6
    assert places([], ["raven"], ("ood", "ind"), None) == {at("raven", 0), at("raven", 1)}
    assert places(["stale-*"], ["raven", "naive"], ("ood",), 1) == {at("raven", 0), at("naive", 0)}
    assert places(["digits-*"], [], ("ood",), None) == set()
    assert places([], [], ("ind",), None) == set()
    with pytest.raises(W2SError, match="unknown task 'nothing'"):
        places(["nothing"], [], ("ood",), None)


def test_what_is_not_registered_is_left_out_with_a_line(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_task(monkeypatch)
    assert stale_run(store, load_suite("smoke"), [], [], ("ood",), None).left_out == (
        "not redone: method 'outside' is not registered here; name its file with --plugin",
    )


def test_another_suites_folder_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "language-model")
    fill(store, [TASK], ("naive",), range(1), ("ood",))
    with pytest.raises(W2SError, match="another suite than 'default'; add --suite language-model"):
        stale_run(store, load_suite("default"), [], [], ("ood",), None)


def test_a_stale_record_of_a_setting_that_is_no_more_is_superseded_once_a_new_one_is_there(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_task(monkeypatch)
    raise_raven(monkeypatch)
    run = stale_run(store, load_suite("smoke"), [], ["raven"], ("ood",), None)
    assert run.superseded(store) == []
    newer = Task(TASK.name, version=2)
    evaluated = evaluation(newer, "ood", range(2))
    chosen = {"student": {}, "method": {"alpha": 2}}
    old = {key for key in store.load().records if key.method == "raven"}
    with store.lock():
        store.write_unit(
            evaluated, [entry(newer, evaluated, "raven", 0, method_version=2, hyperparameters=dict(chosen))]
        )
        assert run.superseded(store) == [key for key in sorted(old) if key.seed == 0]
        store.drop(run.superseded(store))
    left = {key for key in ResultStore(store.root).load().records if key.method == "raven"}
    assert {(key.setting, key.seed) for key in left} == {
        (setting_hash(chosen), 0),
        *((key.setting, key.seed) for key in old if key.seed == 1),
    }
    assert {key for key in ResultStore(store.root).load().predictions if key.method == "raven"} == left


def test_list_of_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(W2SError, match="no results there; make some with"):
        overview(ResultStore(tmp_path))


def test_what_needs_current_results_says_why_it_is_refused(store: ResultStore) -> None:
    store.require_current("nothing")
    (store.root / "OLDER.md").write_text("Tasks have\nchanged since.\n")
    with pytest.raises(W2SError) as error:
        store.require_current("no method can be submitted to it now")
    said = f"{store.root} is of an older protocol, so no method can be submitted to it now: Tasks have changed since."
    assert str(error.value) == said
