"""How one method does on a board, in the board's own numbers."""

import re
from pathlib import Path

import pytest

from benchmark.analysis.cells import analysis_of
from benchmark.analysis.format import percent
from benchmark.analysis.statistics import estimate
from benchmark.base.errors import W2SError
from benchmark.reports.headline import broken_table, comparison_table, effect_table, score_table
from benchmark.reports.on_the_board import on_the_board
from benchmark.results.store import ResultStore
from support.snapshots import Snapshots
from support.synthetic import Task, default_tasks, fill, put


def shown(store: ResultStore, name: str, stress: ResultStore | None = None, source: str | None = None) -> str:
    return on_the_board(name, 1, source, store, stress)


def cells(text: str, row: str) -> list[str]:
    """Of the line of a table that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{row} ")]
    return re.split(r"\s{2,}", line.strip())[1:]


def test_it_is_as_it_was(default: ResultStore, made: Path, snapshot: Snapshots) -> None:
    """Of a method, the baseline, an ablation, and one that was not run everywhere; no wider than a terminal."""
    stores = {"raven": default, "ensemble": default, "raven_no_easy": default, "dear": ResultStore(made / "odd")}
    stress = ResultStore(made / "stress")
    texts = [on_the_board(name, 1 + (name == "dear"), None, store, stress) for name, store in stores.items()]
    texts = [text.replace(str(made), "results") for text in texts]
    assert max(map(len, "\n".join(texts).splitlines())) <= 100
    snapshot("on_the_board.txt", "\n\n\n".join(texts) + "\n")


def test_its_numbers_are_those_of_the_tables(default: ResultStore) -> None:
    analysis = analysis_of(default)
    tables = [score_table(analysis), effect_table(analysis), comparison_table(analysis, None)]
    for name in ("raven", "naive", "raven_no_easy"):
        at = {header: text for each in tables for header, text in zip(each.headers, each.lines[name], strict=True)}
        text = shown(default, name)
        rank = at["rank"] if at["rank"] == "–" else f"{at['rank']} of 3"
        expected = ["4", at["all OOD"], rank, at["PGR OOD (4/4 tasks)"], at["failure rate OOD"]]
        assert cells(text, "OOD") == [*expected, at["all OOD, minus ensemble"]]
        assert cells(text, "InD")[1] == at["all InD"]
        broken = broken_table(analysis)
        at = dict(zip(broken.headers, broken.lines[name], strict=True))
        found = cells(text, "broken supervisor")
        assert found[1] == at["broken supervisor OOD"]
        assert found[-3:] == [at["PGR"], at["failure rate"], at["minus ensemble"]]


def test_the_tasks_are_those_of_the_largest_and_smallest_differences(tmp_path: Path) -> None:
    """Three of each at most, and none on the wrong side of 0."""
    store, names = ResultStore(tmp_path), [f"task-{i}" for i in range(7)]
    tasks = [Task(name, test=400) for name in names]
    fill(store, tasks, ("ensemble",), conditions=("ood",))
    for i, task in enumerate(tasks):
        put(store, task, "raven", accuracy=(0.9, 0.85, 0.8, 0.78, 0.6, 0.5, 0.72)[i], conditions=("ood",))
    lines = shown(store, "raven").partition("gains most on")[2].splitlines()[2:5]
    analysis = analysis_of(store)
    gains = {name: estimate([g]) for name in names if (g := analysis.cells[name, "ood"].gain("raven", "ensemble"))}
    ordered = sorted(gains, key=lambda name: -gains[name].mean)
    best = [name for name in ordered if gains[name].mean > 0][:3]
    worst = [name for name in ordered[::-1] if gains[name].mean < 0][:3]
    assert best == names[:3]
    assert worst[:2] == ["task-5", "task-4"]
    for i, line in enumerate(lines):
        assert f"{percent(gains[best[i]], sign=True)}  {best[i]}" in line
        assert i >= len(worst) or f"{percent(gains[worst[i]], sign=True)}  {worst[i]}" in line
    assert len(re.findall("task-", "".join(lines))) == 3 + len(worst)


def test_nothing_is_said_of_another_version(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, [Task("a")], ("ensemble",), conditions=("ood",))
    assert shown(store, "raven") == ""
    put(store, Task("a"), "raven", conditions=("ood",), method_version=2)
    assert shown(store, "raven") == ""
    assert on_the_board("raven", 2, None, store).startswith(f"On the board: {tmp_path}, 3 seeds\n")
    with pytest.raises(W2SError, match="no results"):
        shown(ResultStore(tmp_path / "nowhere"), "raven")


def test_another_source_an_older_protocol_and_what_lacks_are_said(tmp_path: Path) -> None:
    store, tasks = ResultStore(tmp_path), default_tasks()[:2]
    fill(store, tasks, ("ensemble", "ground_truth"))
    put(store, tasks[0], "raven", range(1), conditions=("ood",), source_sha256="a" * 64)
    text = shown(store, "raven", source="a" * 64)
    assert text.splitlines()[0] == f"On the board: {tmp_path}, 1 seed"
    assert "not run, or on fewer seeds: digits InD, digits OOD, solar InD and 1 more" in text
    assert "hardly trained" not in text
    put(store, tasks[1], "ground_truth", accuracy=0.2, conditions=("ood",))
    (tmp_path / "OLDER.md").write_text("of old")
    text = shown(ResultStore(tmp_path), "raven", source="b" * 64)
    assert text.splitlines()[0].endswith(", 1 seed, of an older protocol, made from another source")
    assert "students were hardly trained: digits OOD" in text
