"""What is kept of the bootstrap: computed once for all commands, never stale, and never needed."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmark.analysis import cells, example_errors
from benchmark.analysis.cells import analysis_of, keep_errors
from benchmark.analysis.example_errors import ExampleErrors
from benchmark.analysis.statistics import estimate
from benchmark.base import versions
from benchmark.page.render import page
from benchmark.reports.comparison import compare_rows
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from benchmark.store.cache import Cache
from support.synthetic import Task, fill, odd, put, tuned

METHODS = ("naive", "ensemble", "raven", "ground_truth")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(example_errors, "Cache", Cache)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The task whose resamples are made, each time."""
    found: list[str] = []

    def replicates(evaluation: object, blocks: object, test: bool) -> object:
        found.append(evaluation.task)  # type: ignore[attr-defined]
        return real(evaluation, blocks, test)  # type: ignore[arg-type]

    real = cells._replicates
    monkeypatch.setattr(cells, "_replicates", replicates)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(ResultStore(tmp_path / "demo"), [Task("a"), Task("b")], METHODS, conditions=("ood",))
    return tmp_path / "demo"


def shown(root: Path) -> tuple[str, str, str]:
    """What three commands show of a folder, as they would in processes of their own."""
    stores = [ResultStore(root) for _ in range(3)]
    texts = render(stores[0]), compare_rows(stores[1], "raven", "naive"), page([stores[2]])
    keep_errors(*stores)
    return texts


def test_errors_are_computed_once_and_kept(
    root: Path, cache: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = shown(root)
    assert sorted(set(drawn)) == ["a", "b"]
    drawn.clear()
    moved = Path(shutil.copytree(root, root.parent / "moved" / "demo"))
    assert shown(moved) == fresh
    assert drawn == []
    changes = {"raven": {"accuracy": 0.9}, "other": {}}
    for method, change in changes.items():
        put(ResultStore(root), Task("a"), method, conditions=("ood",), **change)
        kept, drawn[:] = render(ResultStore(root)), []
        monkeypatch.setattr(example_errors, "Cache", partial(Cache, root / "none"))
        assert render(ResultStore(root)) == kept, "other contents, other errors"
        assert sorted(drawn) == ["a", "b"]
        monkeypatch.setattr(example_errors, "Cache", Cache)


def test_every_quantity_has_a_name_of_its_own(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where methods lack tasks and seeds, too: what is known under a name is what would be computed."""

    def compared(self: ExampleErrors, name: str, compute: Callable[[], Any]) -> float:
        np.testing.assert_equal(get(self, name, compute), float(compute()))
        return get(self, name, compute)

    get = ExampleErrors.get
    monkeypatch.setattr(ExampleErrors, "get", compared)
    odd(ResultStore(tmp_path / "odd"))
    tuned(ResultStore(tmp_path / "tuned"))
    for name in ("odd", "tuned"):
        store = ResultStore(tmp_path / name)
        render(store)
        page([store])
        compare_rows(store, "raven", "naive")
    sample = analysis_of(ResultStore(tmp_path / "odd")).cells["flat", "ood"].samples["raven"]
    assert estimate([sample]).example_error != estimate([sample.on((0, 1))]).example_error


def test_only_what_is_needed_is_resampled(root: Path, cache: Path, drawn: list[str]) -> None:
    analysis = analysis_of(ResultStore(root))
    assert analysis.cells["a", "ood"].samples["raven"].mean > 0.5
    assert drawn == []
    estimate([analysis.cells["a", "ood"].samples["raven"]])
    assert drawn == ["a"]


def test_another_version_of_code_or_library_computes_anew(
    root: Path, cache: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(root)
    for change in (
        lambda: monkeypatch.setattr(example_errors, "_version", lambda: "another"),
        lambda: monkeypatch.setattr(versions, "_version", lambda name: "0.1"),
    ):
        change()
        drawn.clear()
        shown(root)
        assert drawn


@pytest.mark.parametrize("spoil", ["torn", "altered"])
def test_a_broken_entry_is_said_and_made_again(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    fresh = shown(root)
    (path,) = (cache / "analyses").iterdir()
    if spoil == "torn":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        save_file({**load_file(path), "errors": load_file(path)["errors"] + 1}, path)
    assert shown(root)[:2] == fresh[:2]
    assert f"cache: analyses/{path.name} is broken" in capsys.readouterr().err
    shown(root)
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_done_without(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = shown(root)
    capsys.readouterr()
    (tmp_path / "file").touch()
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "file"))
    assert shown(root) == fresh
    said = capsys.readouterr().err.splitlines()
    assert said
    assert all(line.startswith("cache: could not write") for line in said)
