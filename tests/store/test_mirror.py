"""Caches and checkpoints at an address: what one machine puts there another finds, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.base.errors import NotAvailable
from benchmark.store import cache as cache_module
from benchmark.store.cache import Arrays, Cache
from benchmark.store.checkpoints import Checkpoints
from benchmark.store.mirror import Mirror, split_address
from benchmark.store.stored_rows import StoredRows
from support.shaky import Shaky, shaky

ADDRESS = "shaky://there"
KEY = {"recipe": "made up"}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[type[Shaky]]:
    with shaky(tmp_path / "remote") as system:
        yield system


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_plain_paths_and_file_addresses_are_folders() -> None:
    assert split_address(None) == (None, None)
    assert split_address("a/b") == (Path("a/b"), None)
    assert split_address("file:///a/b") == (Path("/a/b"), None)
    assert split_address("memory://a/b/") == (None, "memory://a/b")


def test_an_address_that_fsspec_can_not_use_is_refused() -> None:
    with pytest.raises(NotAvailable, match="nowhere://x: fsspec can't use this address here"):
        split_address("nowhere://x")


class Builder:
    """Builds the same array, and counts."""

    def __init__(self) -> None:
        self.built: list[int] = []

    def __call__(self) -> Arrays:
        self.built.append(0)
        return {"x": np.arange(19.0)}

    def parts(self, ranges: list[slice]) -> Iterator[Arrays]:
        for r in ranges:
            self.built.append(r.start)
            yield {"x": np.arange(19.0)[r]}


def test_an_entry_is_built_once_for_all_machines(there: type[Shaky], tmp_path: Path) -> None:
    build = Builder()
    for machine in ("a", "b", "c"):
        found = Cache(tmp_path / machine, ADDRESS).get("features", KEY, build)
        np.testing.assert_array_equal(found["x"], np.arange(19.0))
    assert len(build.built) == 1


def test_what_is_here_already_is_put_there_for_the_others(there: type[Shaky], tmp_path: Path) -> None:
    build = Builder()
    Cache(tmp_path / "a").get("features", KEY, build)
    Cache(tmp_path / "a", ADDRESS).get("features", KEY, build)
    Cache(tmp_path / "b", ADDRESS).get("features", KEY, build)
    assert len(build.built) == 1


@pytest.mark.parametrize("damage", ["there", "here", "line"])
def test_a_broken_entry_is_built_again_wherever_it_lies(
    there: type[Shaky], tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build, first = Builder(), Cache(tmp_path / "a", ADDRESS)
    first.get("features", KEY, build)
    at = first.path("features", KEY)
    for path in (there.root / "there" / at.relative_to(first.root), at):
        if damage in (path.parts[-3], "there" if "remote" in path.parts else "here"):
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    if damage == "line":
        there.fails = staticmethod(lambda operation, name: True)
    machine = "a" if damage == "here" else "b"
    found = Cache(tmp_path / machine, ADDRESS).get("features", KEY, build)
    np.testing.assert_array_equal(found["x"], np.arange(19.0))
    assert len(build.built) == (1 if damage == "here" else 2)
    said = capsys.readouterr().err
    assert ("the line broke" in said) == (damage == "line")
    there.fails = staticmethod(lambda operation, name: False)
    if damage != "line":
        Cache(tmp_path / "c", ADDRESS).get("features", KEY, build)
        assert len(build.built) == (1 if damage == "here" else 2)


@pytest.mark.parametrize("operation", ["write", "rename"])
def test_a_line_that_breaks_in_the_middle_leaves_no_torn_file_and_the_next_run_puts_it_there(
    there: type[Shaky], tmp_path: Path, operation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    there.fails = staticmethod(lambda what, name: what == operation)
    Cache(tmp_path / "a", ADDRESS).get("features", KEY, build)
    assert "can't be brought there (ConnectionError: the line broke); going on without" in capsys.readouterr().err
    assert contents(there.root / "there") == {}
    there.fails = staticmethod(lambda what, name: False)
    Cache(tmp_path / "a", ADDRESS).get("features", KEY, build)
    assert contents(there.root / "there") == contents(tmp_path / "a")
    assert len(build.built) == 1


def test_rows_come_from_another_machine_and_are_read_from_the_copy(there: type[Shaky], tmp_path: Path) -> None:
    build = Builder()
    for machine in ("a", "b"):
        ((part,),) = Cache(tmp_path / machine, ADDRESS).get_rows("features", KEY, build).values()
        assert isinstance(part, StoredRows)
        assert part.path.is_relative_to(tmp_path / machine)
        np.testing.assert_array_equal(part[np.array([3, 18])], [3.0, 18.0])
    assert len(build.built) == 1


def test_chunks_that_another_machine_made_are_not_made_again(
    there: type[Shaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 8)
    build = Builder()
    a, b = (Cache(tmp_path / name, ADDRESS) for name in "ab")
    assert a.lacking_chunks("features", KEY, 19) == [0, 1, 2]
    a.build_chunks("features", KEY, 19, [0, 1], build.parts)
    assert b.lacking_chunks("features", KEY, 19) == [2]
    b.build_chunks("features", KEY, 19, [1, 2], build.parts)
    assert build.built == [0, 8, 16]
    for cache in (a, b, Cache(tmp_path / "c", ADDRESS)):
        parts = cache.get_chunks("features", KEY, 19, build.parts)["x"]
        assert [len(part) for part in parts] == [8, 8, 3]
    assert build.built == [0, 8, 16]


def test_training_goes_on_where_another_machine_was_killed(there: type[Shaky], tmp_path: Path) -> None:
    a, b = (
        Checkpoints.of(tmp_path / name, {"seed": 1}, Mirror(ADDRESS, tmp_path / name)).part("together") for name in "ab"
    )
    for epochs in (1, 2):
        a.save({"w": torch.full((2,), float(epochs))}, {"epochs": epochs})
        found = b.load()
        assert found is not None
        assert found[1] == {"epochs": epochs}
        assert found[0]["w"].tolist() == [epochs, epochs]
    Checkpoints.of(tmp_path / "driver", {"seed": 1}, Mirror(ADDRESS, tmp_path / "driver")).discard()
    assert contents(there.root / "there") == {}
