"""What the driver of a run on Ray decides, on a made-up cluster; tests/end_to_end/test_cluster.py has real ones."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.api import register_task
from benchmark.base.errors import W2SError
from benchmark.core.data import Recipe
from benchmark.running.executors import ray as executor
from benchmark.running.executors.contract import Job
from benchmark.running.executors.node_files import NodeFiles
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup
from support.made_up import Blobs
from support.units import setup_of, unit_of

A, B, C = PLAN = tuple(unit_of(f"unit-{name}", "ood", ((("naive",), (0,)),)) for name in "abc")
MOST = 1000  # seconds, which none of these runs takes
SMALL, LARGE = ({"CPU": cores, "memory": 4e9} for cores in (0, 1))


class RayError(Exception):
    """Any of Ray's."""


class RaySystemError(RayError):
    """What a node that can't read its job raises."""


class RayTaskError(RayError):
    """An error on a worker."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("ray::_run_job() (pid=7, ip=10.0.0.7)\n  more")
        self.cause = cause


@dataclass(eq=False)
class Submitted:
    """A reference to a job in flight."""

    job: Job
    arguments: tuple[Any, ...]
    cancelled: bool = False


@dataclass
class FakeRay:
    """Stands for the module `ray`. A second passes whenever the driver waits.

    Attributes:
        fate: of a job at a time: its outcome, or an error that `ray.get` raises, or None while it flies.
        board: what is to be read at a time: names of tasks -> seconds of silence; None if it can't be read.
    """

    fate: Callable[[Job, float], Any]
    board: Callable[[float], dict[str, float] | None] = lambda now: {}
    alive: Callable[[float], list[dict[str, float]]] = lambda now: [LARGE]
    now: float = 0.0
    flights: list[Submitted] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    exceptions = SimpleNamespace(RayError=RayError, RaySystemError=RaySystemError, RayTaskError=RayTaskError)
    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node),
        get_node_ip_address=lambda: "10.0.0.7",
    )

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "the driver's")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node} for node in self.alive(self.now)]

    def put(self, value: Any) -> Any:
        self.kept.append(value)
        return value

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        def wrap(what: Any) -> Any:
            if what is executor._run_job:
                return SimpleNamespace(remote=self._begin)
            assert options["scheduling_strategy"] == "the driver's"
            call = SimpleNamespace(remote=lambda *arguments: "the board")
            return SimpleNamespace(remote=lambda: SimpleNamespace(read=call, post=call))

        return wrap

    def _begin(self, job: Job, *arguments: Any) -> Submitted:
        self.flights.append(Submitted(job, arguments))
        return self.flights[-1]

    def wait(
        self, flights: list[Submitted], num_returns: int, timeout: float
    ) -> tuple[list[Submitted], list[Submitted]]:
        assert flights, "Ray refuses to wait for nothing"
        self.now += 1
        assert self.now < MOST, "it would wait for ever"
        landed = [flight for flight in flights if flight.cancelled or self.fate(flight.job, self.now) is not None]
        return landed[:1], [flight for flight in flights if flight not in landed[:1]]

    def get(self, what: Any, timeout: float | None = None) -> Any:
        if what == "the board":
            if (silent := self.board(self.now)) is None:
                raise RayError
            return {f.arguments[-1]: ("", 0.0, silent[f.job.task]) for f in self.flights if f.job.task in silent}
        if what.cancelled:
            raise RayError
        outcome = self.fate(what.job, self.now)
        if isinstance(outcome, RayError):
            raise outcome
        return outcome

    def cancel(self, flight: Submitted, force: bool) -> None:
        flight.cancelled = True

    def kill(self, actor: Any) -> None:
        pass


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    for unit in PLAN:
        register_task(Blobs(name=unit.task))
    return setup_of(tmp_path / "cache", Recipe(epochs=2, batch_size=32))


@pytest.fixture
def run(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str, float]]]:
    """Runs units on a made-up cluster; what became of each, and when."""

    def run(ray: FakeRay, *plan: Unit, address: str | None = "auto", **options: Any) -> list[tuple[str, str, float]]:
        monkeypatch.setattr(executor, "_cluster", lambda *arguments: contextlib.nullcontext(ray))
        monkeypatch.setattr(executor, "time", SimpleNamespace(monotonic=lambda: ray.now))
        monkeypatch.setitem(sys.modules, "ray", ray)
        say = lambda job, text, share: None  # noqa: E731
        used = options.pop("setup", setup)
        found = executor.on_ray(plan, used, say, address=address, **options)
        return [(job.label, str(outcome), ray.now) for job, outcome in found]

    return run


# silence


@pytest.mark.parametrize(
    ("board", "stopped"),
    [
        (lambda now: {A.task: 0.0} if now < 3 else {A.task: now - 2}, 13),  # for comparison: it lasts
        (lambda now: {A.task: 0.0} if now < 3 else {}, 13),  # it was started again, and is empty
        (lambda now: {A.task: 0.0} if now < 3 else None if now < 6 else {}, 16),  # until 5 nobody could be heard
    ],
)
def test_a_job_that_says_nothing_is_stopped_also_where_the_board_has_forgotten_it_and_one_that_waits_is_not(
    run: Callable[..., Any], board: Callable[[float], Any], stopped: int
) -> None:
    ray = FakeRay(lambda job, now: "done" if job == B and now > 30 else None, board)
    line = "stopped: it said nothing for more than 10 seconds (--limit)"
    assert run(ray, A, B, limit=10) == [(A.label, line, stopped + 1), (B.label, "done", 31)]


# nodes that can't take part


def test_a_node_with_another_version_ends_the_run_and_is_named(
    run: Callable[..., Any], setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_setups", [])
    other = replace(NodeFiles.of(setup, lambda data: data, None), code="0")
    board = SimpleNamespace(post=SimpleNamespace(remote=lambda *said: None))
    ray = FakeRay(lambda job, now: executor._run_job(job, setup, other, board, "") if job == B else None)
    with pytest.raises(W2SError, match=r"^node 10.0.0.7 can't take part: w2s-bench is another version .*is done stays"):
        run(ray, *PLAN)
    assert [flight.cancelled for flight in ray.flights] == [True, False, True]

    def broken(setup: Setup) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(Setup, "load", broken)
    other = NodeFiles.of(setup, lambda data: data, None)
    with pytest.raises(W2SError, match=r"^node 10.0.0.7 can't take part: SystemExit: 0"):
        run(ray, *PLAN)


def test_so_does_one_without_w2s_bench(run: Callable[..., Any]) -> None:
    error = RayTaskError(RaySystemError("System error: No module named 'benchmark'\ntraceback: ..."))
    with pytest.raises(
        W2SError, match=r"^node 10.0.0.7 can't take part \(is w2s-bench installed .*\): System error: No"
    ):
        run(FakeRay(lambda job, now: error if job == B else None), *PLAN)


def test_what_is_lost_on_the_way_is_tried_again_and_what_can_not_be_sent_fails(run: Callable[..., Any]) -> None:
    fates = {A: lambda now: RayTaskError(RayError()) if now == 1 else "done" if now > 5 else None}
    fates[B] = lambda now: RayTaskError(TypeError("no such thing")) if now > 2 else None
    ray = FakeRay(lambda job, now: fates[job](now))
    line = "could not be sent to a worker, or its result back: no such thing"
    assert [(label, outcome) for label, outcome, _ in run(ray, A, B)] == [(B.label, line), (A.label, "done")]
    assert [flight.job for flight in ray.flights] == [A, B, A]


# room


def test_a_run_that_loses_the_only_node_that_is_large_enough_says_so_once_each_time(
    run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    ray = FakeRay(
        lambda job, now: "done" if now > {A: 2, B: 30}[job] else None,  # type: ignore[index]
        alive=lambda now: [SMALL, LARGE] if now < 5 or 10 < now < 20 else [SMALL],
    )
    assert len(run(ray, A, B)) == 2
    line = f"{B.label}: no node of the cluster has 1 cores, 0 GPUs and 2 GB of memory; waiting for one\n"
    assert capsys.readouterr().err == 2 * line


def test_what_runs_already_does_not_wait(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    ray = FakeRay(
        lambda job, now: "done" if now > 9 else None, lambda now: {A.task: 0.0}, lambda now: [LARGE][now > 1 :]
    )
    assert len(run(ray, A)) == 1
    assert capsys.readouterr().err == ""


# what is sent


@pytest.mark.parametrize(("address", "sent"), [("auto", ["plug_in.py"]), (None, [])])
def test_files_are_sent_only_to_a_cluster_that_was_there(
    run: Callable[..., Any], setup: Setup, tmp_path: Path, address: str | None, sent: list[str]
) -> None:
    plugin = tmp_path / "plug_in.py"
    plugin.touch()
    here = replace(setup, plugins=(plugin,))
    ray = FakeRay(lambda job, now: "done")
    run(ray, A, address=address, setup=here)
    files = next(kept for kept in ray.kept if isinstance(kept, NodeFiles))
    assert [root.name for root, *_ in files.files] == sent
    assert here in ray.kept, "workers load it either way"
