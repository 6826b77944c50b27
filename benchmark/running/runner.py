"""Runs a plan: units go to an executor, this process alone writes results. A finished unit is on disk."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmark.base.errors import Vanished, W2SError
from benchmark.base.notices import notice
from benchmark.base.process import cores
from benchmark.results.replies import write_replies
from benchmark.results.store import ResultStore
from benchmark.running.executors.contract import Outcomes, TellJob, in_this_process, outcomes_of
from benchmark.running.executors.processes import Team, in_processes
from benchmark.running.placement import placed
from benchmark.running.plan import Unit
from benchmark.running.progress_bar import progress
from benchmark.running.result import UnitResult
from benchmark.running.setup import Setup

MOST_WORKERS = 8  # unless more are asked for: each holds about 1 GB
_MOST_ON_A_GPU, _ROOM_ON_A_GPU = 4, 16e9  # processes, and bytes of its memory for each
_MANY = 8  # units, from which a second process is worth its start
EXECUTORS = ("local", "processes", "ray")


@dataclass(frozen=True)
class Workforce:
    """Where units are done."""

    executor: str | None = None  # of `EXECUTORS`; None: processes where more than one can be of use, else this process
    workers: int | None = None  # how many at a time; None: what the machine has, or all that a Ray cluster has room for
    limit: float | None = None  # seconds after which a unit that says nothing is stopped
    ray_address: str | None = None  # of a Ray cluster that is there; None starts one on this machine
    memory: float | None = None  # GB that a unit keeps for itself on a Ray cluster

    def __post_init__(self) -> None:
        if self.executor not in (None, *EXECUTORS):
            raise W2SError(f"--executor {self.executor}: expected {', '.join(EXECUTORS)}")
        for option, given in (("--ray-address", self.ray_address), ("--memory", self.memory)):
            if given is not None and self.executor != "ray":
                raise W2SError(f"{option}: only with --executor ray")
        for option, given in (("--workers", self.workers), ("--limit", self.limit)):
            if given is not None and self.executor == "local":
                raise W2SError(f"{option}: not with --executor local, which does one unit at a time in this process")

    def outcomes(self, plan: Sequence[Unit], setup: Setup, tell: TellJob) -> Outcomes:
        if self.executor == "ray":
            from benchmark.running.executors.ray import on_ray

            return on_ray(plan, setup, tell, self.workers, self.limit, self.ray_address, self.memory)
        teams = self._teams(plan, setup)
        alone = self.executor is None and self.limit is None and self.workers is None
        if self.executor == "local" or (alone and sum(len(team.gpus) for team in teams) == 1):
            return _one_by_one(teams, tell)
        return in_processes(teams, tell, self.limit)

    def _teams(self, plan: Sequence[Unit], setup: Setup) -> list[Team]:
        """Who does what: on GPUs, and on processors a process a core."""
        gpu, cpu = (list(plan), []) if setup.device == "cuda" else ([], list(plan))
        if setup.movable:
            gpu, cpu, line = placed(plan, setup)
            notice(line)
        teams = []
        if gpu:
            named = os.environ.get("CUDA_VISIBLE_DEVICES")
            ids = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
            workers = self.workers or max(1, min(len(ids) * _on_each_gpu(gpu), len(gpu), MOST_WORKERS))
            teams.append(Team(gpu, setup, [ids[i % len(ids)] for i in range(workers)], self.workers or len(ids)))
        if cpu:
            workers = self.workers or max(1, min(cores(), len(cpu), MOST_WORKERS))
            teams.append(Team(cpu, replace(setup, device="cpu"), ["" if gpu else None] * workers, workers))
        return teams


def _one_by_one(teams: Sequence[Team], tell: TellJob) -> Outcomes:
    for team in teams:
        yield from in_this_process(team.plan, team.setup, tell)


def _on_each_gpu(plan: Sequence[Unit]) -> int:
    """Processes that share a GPU: several for language students, each of which keeps it busy for a fraction of a step
    (docs/gpu.md); two for many units, of which one reads and makes features while the other trains."""
    if any(unit.split for unit in plan):
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
        return max(1, min(_MOST_ON_A_GPU, int(free / _ROOM_ON_A_GPU)))
    return 2 if len(plan) >= _MANY else 1


USUAL = Workforce()


@dataclass
class Report:
    """How far a run has come."""

    results: str = ""  # where they go
    planned: int = 0  # units to do
    units: int = 0  # those that were begun and have ended
    failed: int = 0  # those of them that are not wholly written
    failures: list[str] = field(default_factory=list)  # a line for each thing that failed: tasks, units, methods

    def __str__(self) -> str:
        return f"{self.units - self.failed} units run{f', {self.failed} failed' * bool(self.failed)}"


def execute(
    plan: Sequence[Unit], setup: Setup, store: ResultStore, report: Report, workforce: Workforce = USUAL
) -> None:
    """Do every unit of the plan and write what it gives, unit by unit.

    On a CPU there is one process a core, with one thread (`benchmark.base.process`); on several GPUs, one process each.
    Whatever fails is reported; the other units are done and written all the same. The report is kept up to date, so
    that it also tells what was done when this is interrupted.

    Raises:
        KeyboardInterrupt: finished units are written.
        Vanished: the results' folder, or a part of it, is gone.
    """
    report.planned, report.results = len(plan), str(store.root)
    with progress(len(plan)) as bar, contextlib.closing(workforce.outcomes(plan, setup, bar.tell)) as results:
        for job, outcome in results:
            for unit, own in outcomes_of(job, outcome):
                with _whole():
                    made = own if isinstance(own, UnitResult) else None
                    unwritten = [f"{unit.label}: {own}"] if made is None else _write(made, store)
                    report.failures += [*(made.failures if made else ()), *unwritten]
                    report.failed += bool(unwritten)
                    report.units += 1
            bar.finished(job)
    store.present()


def _write(result: UnitResult, store: ResultStore) -> list[str]:
    """Write what a unit gave; what can't be written is a failure of this unit alone."""
    try:
        store.check_unit(result.evaluation, result.entries)
        # old students' replies go first: should this be killed, none of them is taken for one of the new records
        write_replies(store.root, (), {record.key for record, _ in result.entries})
        store.write_unit(result.evaluation, result.entries)
        if result.replies:
            store.present()
            write_replies(store.root, result.replies)
    except Vanished:
        raise
    except W2SError as error:  # it would spoil results that are there
        return [str(error)]
    except OSError as error:
        return [f"{result.unit.label}: its results could not be written: {error}"]
    for checkpoints in result.checkpoints:
        checkpoints.discard()
    return []


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """A first SIGINT or SIGTERM waits until this is done; a second one does not."""
    asked: list[int] = []

    def later(signum: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [signum for signum in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(signum) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, later) for signum in heard}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if asked:
        raise KeyboardInterrupt
