"""`w2s run` with its cache and its results at an address."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.made_up import Blobs, Columns
from support.shaky import Shaky, shaky

from benchmark.api import register_task

ASKED = ("run", "--suite", "smoke", "--tasks", "blobs", "--methods", "naive,ground_truth", "--seeds", "1")


@pytest.fixture
def there(tmp_path: Path) -> Iterator[type[Shaky]]:
    with shaky(tmp_path / "remote") as system:
        yield system


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_results_and_cache_at_an_address_are_those_of_folders(
    w2s: CommandLine, there: type[Shaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_task(Blobs())
    here = w2s(*ASKED, "--results", "here", "--cache", "folder")
    assert here.out == "1 units run, results in here\n"

    remote = w2s(*ASKED, "--results", "shaky://results", "--cache", "shaky://cache/")
    assert (remote.status, remote.err) == (0, "")
    assert remote.out == "1 units run, results in shaky://results\n"
    assert files(there.root / "results") == files(tmp_path / "here")
    assert files(there.root / "cache") == files(tmp_path / "folder")
    assert w2s(*ASKED, "--results", "shaky://results").out == "nothing to do: all is in shaky://results\n"
    assert w2s(*ASKED, "--results", "shaky://results", "--dry-run").out.startswith("0 units to run")

    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "of another machine"))
    Columns.calls.clear()
    other = w2s(*ASKED, "--results", "file://" + str(tmp_path / "other"), "--cache", "shaky://cache")
    assert other.status == 0
    assert Columns.calls == [], "encoded nowhere else"
    assert files(tmp_path / "other") == files(tmp_path / "here")


def test_results_that_can_not_be_sent_are_kept_and_named(
    w2s: CommandLine, there: type[Shaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    register_task(Blobs())
    there.fails = staticmethod(lambda operation, name: operation == "rename" and name.endswith("records.jsonl"))
    failed = w2s(*ASKED, "--results", "shaky://results")
    assert "shaky://results: ground_truth/records.jsonl can't be written (ConnectionError" in failed.refusal
    kept = Path(failed.refusal.rsplit("is kept in ", 1)[1])
    there.fails = staticmethod(lambda operation, name: False)
    assert w2s(*ASKED, "--results", str(kept)).out == f"nothing to do: all is in {kept}\n"


def test_results_that_vanish_end_the_run_and_are_kept_and_named(
    w2s: CommandLine, there: type[Shaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    register_task(Blobs())
    Columns.calls.clear()

    def vanish(operation: str, name: str) -> bool:
        if Columns.calls:  # the unit has begun
            shutil.rmtree(there.root / "results", ignore_errors=True)
        return False

    there.fails = staticmethod(vanish)
    stopped = w2s(*ASKED, "--results", "shaky://results")
    assert stopped.status == 1
    (line,) = stopped.out.splitlines()
    assert line.startswith("stopped: shaky://results: files in it were removed")
    assert not (there.root / "results").exists()
    kept = Path(line.rsplit(" is in ", 1)[1].partition(";")[0])
    assert w2s(*ASKED, "--results", str(kept)).out == f"nothing to do: all is in {kept}\n"


def test_an_address_that_needs_a_package_is_refused_with_its_name(w2s: CommandLine) -> None:
    register_task(Blobs())
    assert "fsspec can't use this address here" in w2s(*ASKED, "--results", "dropbox://x/y").refusal
