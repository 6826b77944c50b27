"""`w2s run` with its cache at an address; results go to a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.api import register_task
from support.command_line import CommandLine, without_untrained
from support.made_up import Blobs, Columns
from support.shaky import Shaky, shaky
from support.verdict import entries

ASKED = ("run", "--suite", "smoke", "--tasks", "blobs", "--methods", "naive,ground_truth", "--seeds", "1")


@pytest.fixture
def there(tmp_path: Path) -> Iterator[type[Shaky]]:
    with shaky(tmp_path / "remote") as system:
        yield system


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_a_cache_at_an_address_is_that_of_a_folder(
    w2s: CommandLine, there: type[Shaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_task(Blobs())
    here = w2s(*ASKED, "--results", "here", "--cache", "folder")
    assert here.out == "1 units run, results in here\n"

    remote = w2s(*ASKED, "--results", "mine", "--cache", "shaky://cache/")
    assert (remote.status, without_untrained(remote.err)) == (0, "")
    assert files(tmp_path / "mine") == files(tmp_path / "here")
    assert entries(there.root / "cache") == entries(tmp_path / "cache")
    assert files(there.root / "cache").keys() == files(tmp_path / "folder").keys()

    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "of another machine"))
    Columns.calls.clear()
    other = w2s(*ASKED, "--results", "other", "--cache", "shaky://cache")
    assert other.status == 0
    assert Columns.calls == [], "encoded nowhere else"
    assert files(tmp_path / "other") == files(tmp_path / "here")


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--stale",)])
def test_results_at_an_address_are_refused_with_what_does_it_instead(
    w2s: CommandLine, tmp_path: Path, options: tuple[str, ...]
) -> None:
    register_task(Blobs())
    refusal = w2s(*ASKED, "--results", "s3://bucket/results", *options).refusal
    assert "--results s3://bucket/results: expected a folder" in refusal
    assert "aws s3 sync" in refusal
    assert not (tmp_path / "s3:").exists()


def test_an_address_that_needs_a_package_is_refused_with_its_name(w2s: CommandLine) -> None:
    register_task(Blobs())
    assert "dropbox://x/y: fsspec can't use this address here" in w2s(*ASKED, "--cache", "dropbox://x/y").refusal
