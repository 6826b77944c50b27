"""Caches, checkpoints and results at an address: what one machine puts there another finds, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.shaky import Shaky, shaky
from support.synthetic import Task, entry, evaluation, fill

from benchmark.base.errors import Vanished, W2SError
from benchmark.results.remote import RemoteStore, open_store
from benchmark.results.store import ResultStore
from benchmark.store import cache as cache_module
from benchmark.store import mirror as remote_module
from benchmark.store.cache import Arrays, Cache
from benchmark.store.checkpoints import Checkpoints
from benchmark.store.mirror import Mirror, split_address
from benchmark.store.stored_rows import StoredRows

ADDRESS = "shaky://there"
KEY = {"recipe": "made up"}
TASKS = [Task("one", fingerprint="a1"), Task("two", fingerprint="b2")]
METHODS = ("naive", "raven")
BROKEN = ("rename", "one", "ind")


@pytest.fixture
def there(tmp_path: Path) -> Iterator[type[Shaky]]:
    with shaky(tmp_path / "remote") as system:
        yield system


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".lock"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_plain_paths_and_file_addresses_are_folders() -> None:
    assert split_address(None) == (None, None)
    assert split_address("a/b") == (Path("a/b"), None)
    assert split_address("file:///a/b") == (Path("/a/b"), None)
    assert split_address("s3://bucket/a/") == (None, "s3://bucket/a")
    assert type(open_store("runs/a")) is ResultStore


def test_an_address_that_fsspec_does_not_know_is_refused() -> None:
    with pytest.raises(W2SError, match="nowhere://x: fsspec can't use this address here"):
        Mirror("nowhere://x", Path("unused")).files()


@pytest.mark.parametrize("name", ["../planted", "naive/../../planted", "{}/copies/planted"])
def test_no_file_is_brought_out_of_the_copys_folder(
    there: type[Shaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    name = name.format(tmp_path)
    mirror = Mirror(ADDRESS, tmp_path / "copies" / "mine")
    monkeypatch.setattr(Mirror, "files", lambda self: [name])  # a disk can't have such names, object stores can
    monkeypatch.setattr(there, "cat_file", lambda self, path: b"planted")
    with pytest.raises(W2SError, match=f"{ADDRESS}: the file '{name}' would lie outside a copy of this folder"):
        mirror.pull()
    assert not list(tmp_path.rglob("planted"))


# results


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """What a folder of this machine would hold."""
    fill(ResultStore(tmp_path / "expected"), TASKS, METHODS)
    return contents(tmp_path / "expected")


def test_results_at_an_address_are_those_of_a_folder_and_are_sent_in_order(
    there: type[Shaky], expected: dict[str, bytes]
) -> None:
    fill(RemoteStore(ADDRESS), TASKS[:1], METHODS)
    fill(RemoteStore(ADDRESS), TASKS[1:], METHODS)  # from another machine
    assert contents(there.root / "there") == expected
    sent = [name.removeprefix("there/") for operation, name in there.calls if operation == "rename"]
    unit = ["predictions.safetensors", "records.jsonl"]
    assert sent[:5] == ["_tasks/one-ood.safetensors", *(f"{method}/{name}" for method in METHODS for name in unit)]
    assert len(sent) == len(TASKS) * 2 * 5, "only what has changed"
    assert RemoteStore(ADDRESS).load().problems == []


@pytest.mark.parametrize("step", [1, 2, 4, 7, 10])
def test_a_line_that_breaks_in_the_middle_leaves_no_torn_file_and_the_next_run_mends_it(
    there: type[Shaky], expected: dict[str, bytes], step: int
) -> None:
    fill(RemoteStore(ADDRESS), TASKS[:1], METHODS)
    begun, there.calls = contents(there.root / "there"), []

    def broken(operation: str, name: str) -> bool:
        return (
            sum(o in ("write", "rename") and ".lock" not in n for o, n in there.calls) >= step and ".lock" not in name
        )

    there.fails = staticmethod(broken)
    with pytest.raises(W2SError, match=r"can't be (written|removed).*the line broke"):
        fill(RemoteStore(ADDRESS), TASKS, METHODS)
    there.fails = staticmethod(lambda operation, name: False)
    found = RemoteStore(ADDRESS).load()
    assert found.problems == []
    for record in found.records.values():
        assert record.task == "two" or found.misfit(record) is None
    left = {name: data for name, data in contents(there.root / "there").items() if ".tmp" not in name}
    for name, data in left.items():
        assert data in (begun.get(name), expected.get(name)) or name.startswith(("naive", "raven")), name
    fill(RemoteStore(ADDRESS), TASKS, METHODS)
    assert contents(there.root / "there") == expected, "and nothing half-written is left"


def test_what_could_not_be_sent_is_sent_with_the_next_unit(there: type[Shaky], expected: dict[str, bytes]) -> None:
    store = RemoteStore(ADDRESS)
    refused = 0
    with store.lock():
        for task in TASKS:
            for condition in ("ood", "ind"):
                there.fails = staticmethod(lambda what, _, now=(task.name, condition): (what, *now) == BROKEN)
                evaluated = evaluation(task, condition, range(3))
                try:
                    store.write_unit(evaluated, [entry(task, evaluated, m, seed) for m in METHODS for seed in range(3)])
                except W2SError:
                    refused += 1
    assert refused == 1
    assert contents(there.root / "there") == expected


@pytest.mark.parametrize("gone", ["", "_tasks", ".lock.json", "replaced"])
def test_nothing_is_sent_where_files_have_vanished(
    there: type[Shaky], expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root, store = there.root / "there", RemoteStore(ADDRESS)
    first, second = (evaluation(task, "ood", range(3)) for task in TASKS)
    with store.lock():
        store.write_unit(first, [entry(TASKS[0], first, "naive", seed) for seed in range(3)])
        if gone == "replaced":
            shutil.rmtree(root)
            fill(RemoteStore(ADDRESS), TASKS[1:], METHODS)
        elif gone == ".lock.json":
            (root / gone).unlink()
        else:
            shutil.rmtree(root / gone)
        left = contents(root)
        with pytest.raises(Vanished, match=f"{ADDRESS}: files in it were removed.* is in {store.root}"):
            store.write_unit(second, [entry(TASKS[1], second, "naive", seed) for seed in range(3)])
    assert contents(root) == left, "not at the end either"
    assert len(ResultStore(store.root).load().records) == 6


def test_what_vanishes_after_the_last_unit_is_said(there: type[Shaky]) -> None:
    with pytest.raises(Vanished), RemoteStore(ADDRESS).lock():
        shutil.rmtree(there.root / "there")


def test_a_folders_own_lock_that_was_copied_there_is_no_content(there: type[Shaky], expected: dict[str, bytes]) -> None:
    fill(RemoteStore(ADDRESS), TASKS[:1], METHODS)
    (there.root / "there" / ".lock").touch()
    fill(RemoteStore(ADDRESS), TASKS[1:], METHODS)
    assert contents(there.root / "there") == expected


def test_a_lock_names_its_holder_and_one_of_a_dead_process_here_does_not_count(there: type[Shaky]) -> None:
    with RemoteStore(ADDRESS).lock():
        who = f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(W2SError, match=rf"another run is writing here \({who}\)"), RemoteStore(ADDRESS).lock():
            pass
        lock = there.root / "there" / ".lock.json"
        held = json.loads(lock.read_text())
    assert not lock.exists()

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock.write_text(json.dumps({**held, "process": gone.pid}))
    with RemoteStore(ADDRESS).lock():
        assert json.loads(lock.read_text())["process"] == os.getpid()

    lock.write_text(json.dumps({**held, "process": gone.pid, "host": "elsewhere"}))
    with pytest.raises(W2SError, match=r"on elsewhere.*if it is dead, remove"), RemoteStore(ADDRESS).lock():
        pass
    assert lock.exists()


def test_of_two_runs_that_find_a_dead_ones_lock_one_takes_it(
    there: type[Shaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[str] = []
    done = threading.Event()

    def faster() -> None:
        try:
            with Mirror(ADDRESS, tmp_path / "b").locked():
                outcomes.append("taken")
                done.wait(10)
        except W2SError:
            outcomes.append("refused")

    other = threading.Thread(target=faster)

    def is_gone(holder: dict[str, object]) -> bool:
        if holder["process"] == "dead" and other.ident is None:  # the slower has read it: the faster runs meanwhile
            other.start()
            other.join(0.5)
        return holder["process"] == "dead"

    monkeypatch.setattr(remote_module, "_is_gone", is_gone)
    (there.root / "there").mkdir(parents=True)
    (there.root / "there" / ".lock.json").write_text(json.dumps({"process": "dead"}))
    with Mirror(ADDRESS, tmp_path / "a").locked() as intact:
        done.set()
        other.join()
        assert outcomes == ["refused"]
        assert intact()


def test_another_runs_lock_stays_when_a_run_ends(there: type[Shaky], tmp_path: Path) -> None:
    lock = there.root / "there" / ".lock.json"
    with Mirror(ADDRESS, tmp_path).locked() as intact:
        lock.write_text('{"process": 1, "host": "elsewhere"}')
        assert not intact()
    assert lock.exists()


# caches


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
