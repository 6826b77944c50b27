"""What all executors share: the order of jobs, shares of large domains, errors, and what other machines are sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.api import register_task
from benchmark.arrays import ArraysSource
from benchmark.base.errors import W2SError
from benchmark.core.data import Recipe
from benchmark.core.problems import data_fingerprint
from benchmark.core.registry import TASKS
from benchmark.core.suite import Recipes
from benchmark.packs.read import PackSource
from benchmark.running import runner
from benchmark.running.executors import node_files as node_files_module
from benchmark.running.executors import processes
from benchmark.running.executors.contract import Pass, Queue, do, passes
from benchmark.running.executors.node_files import NodeFiles
from benchmark.running.plan import Unit
from benchmark.running.request import Request
from benchmark.running.result import UnitResult
from benchmark.running.runner import Workforce
from benchmark.running.session import foresee
from benchmark.running.setup import Setup
from benchmark.store import cache as cache_module
from support.made_up import Blobs, Columns, make_arrays
from support.units import setup_of, unit_of

RECIPES = Recipes(Recipe(epochs=2, batch_size=32))


@dataclass(frozen=True)
class StreamedColumns(Columns):
    """Columns that come range by range."""

    fingerprint: str = "streamed-1"

    def stream(self, inputs: Any, ranges: Sequence[slice], device: str = "cpu") -> Iterator[dict[str, Any]]:
        for r in ranges:
            yield self.encode(inputs[r], device)


PLUGIN = b"""
from dataclasses import dataclass

import numpy as np
from support.made_up import Blobs, Centroids

from benchmark.api import ArrayTask, Supervisor, register_task

@dataclass(frozen=True)
class Own(Centroids):
    name = "tests.own"

class Sent(Blobs):
    pass

class Given(ArrayTask):
    pass

register_task(Given(np.zeros((40, 2)), np.full((40, 1, 2), 0.5), np.arange(40) % 2, name="given"))
register_task(Sent(name="sent", supervisors=[Supervisor(Own(), ("left",)), Supervisor(Own(), ("right",))]))
"""


def unit(task: str, condition: str = "ood") -> Unit:
    return unit_of(task, condition, ((("naive",), (0,)),))


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(cache_module, "CHUNK", 16)
    register_task(Blobs(name="large", encoder=StreamedColumns()))
    register_task(Blobs(name="again", encoder=StreamedColumns()))  # the same domains
    register_task(Blobs(name="small"))
    return setup_of(tmp_path / "cache", RECIPES)


# the order of jobs


def test_units_wait_for_the_passes_of_their_task_and_only_for_those() -> None:
    shares = [Pass("a", "there", (i,), i, frozenset({"a", "b"})) for i in (1, 2)]
    queue = Queue([unit("a"), unit("c"), unit("b")], shares)
    assert [queue.take() for _ in range(4)] == [*shares, unit("c"), None]
    assert len(queue) == 2
    queue.ended(shares[0])
    assert queue.take() is None
    queue.ended(shares[1])
    assert [queue.take() for _ in range(3)] == [unit("a"), unit("b"), None]
    assert len(queue) == 0


def test_a_job_comes_back_twice_after_the_others_when_its_worker_dies() -> None:
    queue = Queue([unit("a"), unit("b")])
    assert queue.take() == unit("a")
    assert queue.died(unit("a"), "SIGKILL") is None
    assert [queue.take(), queue.take()] == [unit("b"), unit("a")]
    assert queue.died(unit("b"), "SIGKILL") is None, "each has its own count"
    assert queue.died(unit("a"), "SIGKILL") is None
    assert [queue.take(), queue.take()] == [unit("b"), unit("a")]
    assert "died 3 times, last with SIGSEGV" in str(queue.died(unit("a"), "SIGSEGV"))
    assert queue.take() is None


# shares of large domains


def test_large_domains_are_shared_out_and_units_find_them_made(setup: Setup) -> None:
    plan = [unit("large"), unit("large", "ind"), unit("again"), unit("small")]
    shares = passes(plan, setup, workers=3)
    assert {(p.domain, p.readers) for p in shares} == {
        ("there", frozenset({"large", "again"})),
        ("left", frozenset({"large"})),
        ("right", frozenset({"large"})),
    }
    there = [p.chunks for p in shares if p.domain == "there"]  # 130 inputs in chunks of 16
    assert there == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]

    for share in shares:
        said: list[str] = []
        assert do(share, setup, lambda text, done, said=said: said.append(text)) is None
        assert said[-1] == f"{len(share.chunks)} of {len(share.chunks)} chunks"
    assert passes(plan, setup, workers=3) == []
    Columns.calls.clear()
    shared = do(unit("large"), setup, lambda text, share: None)
    assert Columns.calls == []
    alone = do(unit("large"), setup_of(setup.cache.root / "other", RECIPES), lambda text, share: None)
    assert isinstance(shared, UnitResult)
    assert isinstance(alone, UnitResult)
    for (ours, predicted), (theirs, expected) in zip(shared.entries, alone.entries, strict=True):
        assert ours == theirs
        np.testing.assert_array_equal(predicted, expected)


def test_only_what_lacks_is_shared_out(setup: Setup) -> None:
    first = passes([unit("large")], setup, workers=3)
    do(first[1], setup, lambda text, share: None)
    assert [p.chunks for p in passes([unit("large")], setup, workers=2)] == [(0, 1, 2), (6, 7, 8)]
    do(first[0], setup, lambda text, share: None)
    do(replace(first[2], chunks=(7, 8)), setup, lambda text, share: None)
    assert passes([unit("large")], setup, workers=2) == [], "one chunk is the unit's own business"


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_what_can_not_be_shared_out_fails_in_its_unit(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def broken(self: Blobs, name: str) -> None:
        raise error("no data")

    monkeypatch.setattr(Blobs, "domain", broken)
    assert passes([unit("large")], setup, workers=2) == []
    assert str(do(unit("large"), setup, lambda text, share: None)) == f"{error.__name__}: no data"


# a worker that is stopped


def test_a_worker_that_answers_as_it_is_stopped_gets_no_other_job(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[Any, bool]] = []

    class Late(processes._Worker):
        """Answers when it is stopped, and is gone at the next look."""

        def begin(self, job: Any) -> None:
            begun.append((job, self.stopped))
            self.job = job

        def look(self, limit: float | None) -> None:
            self._inbox.put((self, None if self.stopped else processes._Done(None)))
            self.stopped = True

        def dismiss(self) -> None:
            pass

    monkeypatch.setattr(processes, "_Worker", Late)
    monkeypatch.setattr(processes, "_LOOK", 0.01)
    plan = [unit("small"), unit("small", "ind")]
    team = processes.Team(plan, setup, [None], 1)
    assert list(processes.in_processes([team], lambda *said: None, limit=1)) == [(job, None) for job in plan]
    assert begun == [(job, False) for job in plan]


# errors, and processes that a job forks


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (W2SError("two\nlines"), "two lines"),
        (ValueError("a\n b"), "ValueError: a b"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_whatever_a_job_raises_is_one_line(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str
) -> None:
    def broken(self: Blobs, name: str) -> None:
        raise error

    monkeypatch.setattr(Blobs, "domain", broken)
    outcome = do(unit("small"), setup, lambda text, share: None)
    assert isinstance(outcome, W2SError)
    assert str(outcome) == line


def test_a_stop_is_no_fault_of_the_job(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Blobs, name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Blobs, "domain", stopped)
    with pytest.raises(KeyboardInterrupt):
        do(unit("small"), setup, lambda text, share: None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("raises", [False, True])
def test_a_forked_copy_never_says_or_returns_anything(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    real = Blobs.domain
    copies: list[int] = []

    def forks(self: Blobs, name: str) -> Any:
        if not copies:
            copies.append(os.fork())
            if copies == [0] and raises:
                raise ValueError("in the copy")
        return real(self, name)

    monkeypatch.setattr(Blobs, "domain", forks)
    threads, begun = torch.get_num_threads(), os.getpid()
    torch.set_num_threads(1)  # as in a worker; a copy has none of its original's other threads, and would wait for them
    try:
        outcome = do(unit("small"), setup, lambda text, share: None)
    finally:
        if os.getpid() != begun:
            os._exit(77)  # it got out
        torch.set_num_threads(threads)
    assert isinstance(outcome, UnitResult)
    assert os.waitstatus_to_exitcode(os.waitpid(copies[0], 0)[1]) == 1


# what other machines are sent


class Store(dict[int, bytes]):
    """Keeps bytes under numbers."""

    def keep(self, data: bytes) -> int:
        self[len(self)] = data
        return len(self) - 1


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of another machine."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(folder))
    return folder


def test_plug_ins_and_arrays_arrive_and_mean_the_same_there(tmp_path: Path, elsewhere: Path, setup: Setup) -> None:
    plugin, arrays = tmp_path / "plug_in.py", tmp_path / "mine.npz"
    plugin.write_bytes(PLUGIN)
    np.savez(arrays, **make_arrays())
    here = replace(setup, plugins=(plugin,), source=ArraysSource(arrays))
    here.load()
    known = [data_fingerprint(TASKS[name]) for name in ("sent", "given", "mine")]
    modules = {name for name in sys.modules if name.startswith("w2s_plugin_")}

    store = Store()
    files = NodeFiles.of(here, store.keep, None)
    assert files.unpack(here, store.__getitem__).copies == {}, "files that are there are used"
    plugin.unlink()
    arrays.write_bytes(b"something else")
    there = files.unpack(here, store.__getitem__)
    assert there.copies.keys() == {plugin, arrays}
    there.load()
    assert [data_fingerprint(TASKS[name]) for name in ("sent", "given", "mine")] == known
    assert {name for name in sys.modules if name.startswith("w2s_plugin_")} == modules

    copy = there.copies[plugin]
    copy.write_text("tampered with")
    files.unpack(here, store.__getitem__)
    assert copy.read_bytes() == store[0]
    store[1] = store[1][:-1]
    there.copies[arrays].unlink()
    with pytest.raises(W2SError, match=r"mine.npz: it did not arrive whole"):
        files.unpack(here, store.__getitem__)


def test_a_file_that_is_too_large_is_not_sent_but_used_where_a_node_has_it(
    tmp_path: Path, elsewhere: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_files_module, "_MOST", 10)
    pack = tmp_path / "pack"
    pack.mkdir()
    for name in "ab":
        (pack / name).write_bytes(b"7 bytes")
    here = replace(setup, source=PackSource(pack))
    store = Store()
    files = NodeFiles.of(here, store.keep, None)
    assert store == {}
    assert files.unpack(here, store.__getitem__).copies == {}
    (pack / "b").unlink()
    with pytest.raises(
        W2SError, match=r"pack: not the same on this node, and too large to send .*put it under one path"
    ):
        files.unpack(here, store.__getitem__)


def _link(own: Path) -> None:
    own.with_name("there").mkdir()
    own.symlink_to("there")


def _foreign(own: Path) -> None:
    own.mkdir()
    os.chown(own, os.getuid() + 1, -1)


def _open(own: Path) -> None:
    own.mkdir()
    own.chmod(0o770)


@pytest.mark.parametrize("prepare", [_link, _foreign, _open, Path.touch])
def test_plug_ins_are_not_put_where_others_can_change_them(
    tmp_path: Path, elsewhere: Path, setup: Setup, prepare: Callable[[Path], None]
) -> None:
    plugin = tmp_path / "plug_in.py"
    plugin.write_bytes(PLUGIN)
    here, store = replace(setup, plugins=(plugin,)), Store()
    files = NodeFiles.of(here, store.keep, None)
    plugin.unlink()
    own = elsewhere / f"w2s-node-files-{os.getuid()}"
    try:
        prepare(own)
    except PermissionError:
        pytest.skip("only root gives folders away")
    with pytest.raises(W2SError, match=r"w2s-node-files-\d+: not a folder of this user"):
        files.unpack(here, store.__getitem__)
    own.rename(own.with_name("away"))
    copy = files.unpack(here, store.__getitem__).copies[plugin]
    assert copy.is_relative_to(own)
    assert own.stat().st_mode & 0o077 == 0


def test_a_node_with_other_code_libraries_or_cache_or_no_gpu_is_refused(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.cache.root.mkdir()
    token = setup.cache.root / "token"
    token.touch()
    files = NodeFiles.of(setup, Store().keep, token)
    assert files.unpack(setup, dict.__getitem__) == setup
    with pytest.raises(W2SError, match="another version on this node"):
        replace(files, code="0").unpack(setup, dict.__getitem__)
    with pytest.raises(W2SError, match=r"libraries differ on this node \(torch is .*, expected 1.0\)"):
        replace(files, versions={**files.versions, "torch": "1.0"}).unpack(setup, dict.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(W2SError, match="torch finds no CUDA device on this node"):
        files.unpack(replace(setup, device="cuda"), dict.__getitem__)
    token.unlink()
    with pytest.raises(W2SError, match="is not the same on this node; with --cache"):
        files.unpack(setup, dict.__getitem__)


def test_with_a_cache_at_an_address_each_node_has_a_folder_of_its_own(
    tmp_path: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = replace(setup, cache_address="memory://shared")
    files = NodeFiles.of(shared, Store().keep, None)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "own"))
    assert files.unpack(shared, dict.__getitem__).cache.root == tmp_path / "own"


# what can't be asked for


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"executor": "dask"}, "--executor dask: expected local, processes, ray"),
        ({"executor": "processes", "ray_address": "auto"}, "--ray-address: only with --executor ray"),
        ({"executor": "processes", "memory": 4.0}, "--memory: only with --executor ray"),
        ({"executor": "local", "workers": 2}, "--workers: not with --executor local"),
        ({"executor": "local", "limit": 5.0}, "--limit: not with --executor local"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(W2SError, match=message):
        Workforce(**asked)


def test_where_a_run_on_a_cluster_is_started_no_gpu_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = Request("smoke", tasks=["solar-poly-to-mono"], device="cuda", options=["precision=tf32"], fetch=False)
    asked = replace(asked, results=str(tmp_path / "results"), cache=str(tmp_path / "cache"))
    said: list[str] = []
    assert foresee(replace(asked, here=False), said.append) == 0
    assert said[-1].startswith("1 units to run")
    with pytest.raises(W2SError, match="--device cuda: torch finds no CUDA device"):
        foresee(asked, said.append)


def test_ray_that_is_not_installed_is_one_line(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(W2SError, match=r"Ray is not installed; pip install -c constraints.txt -e '.\[cluster\]'"):
        list(Workforce("ray").outcomes([unit("small")], setup, lambda job, text, share: None))


@pytest.mark.parametrize(
    ("visible", "units", "costly", "expected"),
    [
        ("0", 4, False, None),
        ("0,GPU-7,3", 4, False, ["0", "GPU-7", "3"]),
        ("0", 9, False, ["0", "0"]),  # one reads the next units while the other trains
        ("0,1", 9, True, ["0", "1", "0", "1", "0", "1"]),  # as many as a GPU's memory has room for
    ],
)
def test_processes_that_share_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str, units: int, costly: bool, expected: list[str] | None
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(runner, "in_processes", lambda teams, *others: given.append(teams))
    monkeypatch.setattr(runner, "in_this_process", lambda *arguments: iter(()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (50e9, 80e9))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    plan = [replace(unit(f"task-{i}"), split=costly) for i in range(units)]
    Workforce().outcomes(plan, setup_of(Path("unused"), RECIPES, device="cuda"), lambda job, text, share: None)
    assert [team.gpus for team in (given[0] if given else [])] == ([expected] if expected else [])
