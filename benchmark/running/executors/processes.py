"""Worker processes of this machine, one job at a time each, so that a death is blamed on the job that was in it.

Each worker leads a process group of its own: what a job starts ends with it. Nothing is shared between workers, so one
that dies, hangs or is killed in the middle of an answer disturbs no other.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import NamedTuple, TypeAlias

from benchmark.base.errors import W2SError
from benchmark.running.executors.contract import Job, Outcome, Outcomes, Queue, TellJob, do, passes
from benchmark.running.joining import joined
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup

_LOOK = 0.5  # seconds between looks at workers that say nothing
_GRACE = 5.0  # seconds for a dead worker's last words, or an idle one's end
_START = 60.0  # seconds that a worker may take to import what it needs, besides the limit

_Inbox: TypeAlias = "queue.SimpleQueue[tuple[_Worker, _Said | _Done | None]]"  # None: it is gone


class Team(NamedTuple):
    """Workers that share the jobs of a plan.

    Attributes:
        gpus: for each worker the GPU that it sees, by its id as in `CUDA_VISIBLE_DEVICES`; "" for none, None for all.
        join: how many workers the jobs are cut for (`benchmark.running.joining`).
    """

    plan: Sequence[Unit]
    setup: Setup
    gpus: Sequence[str | None]
    join: int

    def queue(self) -> Queue:
        """Its jobs."""
        return Queue(joined(self.plan, self.setup, self.join), passes(self.plan, self.setup, len(self.gpus)))


def in_processes(teams: Sequence[Team], tell: TellJob, limit: float | None = None) -> Outcomes:
    """An executor (`contract.py`), as `Workforce` says."""
    inbox: _Inbox = queue.SimpleQueue()
    places = [(team.setup, jobs, gpu) for team in teams for jobs in [team.queue()] for gpu in team.gpus]
    slots: list[_Worker | None] = [None] * len(places)
    try:
        while any(len(jobs) for _, jobs, _ in places) or any(worker and worker.job for worker in slots):
            for i, worker in enumerate(slots):
                setup, jobs, gpu = places[i]
                if (worker is None or worker.idle) and (job := jobs.take()) is not None:
                    if worker is None:
                        worker = slots[i] = _Worker(setup, gpu, inbox)
                    worker.begin(job)
            for worker, message in _news(inbox):
                if worker not in slots:  # late words of one that was given up
                    continue
                place = slots.index(worker)
                jobs = places[place][1]
                if isinstance(message, _Said):
                    worker.heard, worker.starting = time.monotonic(), 0.0
                    if worker.job is not None:
                        tell(worker.job, message.text, message.share)
                    continue
                if message is None:
                    slots[place] = None
                if worker.job is None:
                    continue
                if message is None:
                    outcome: Outcome = jobs.died(worker.job, worker.how(), limit if worker.stopped else None)
                    if outcome is None:  # it is tried again
                        continue
                else:
                    outcome = message.outcome
                job, worker.job = worker.job, None
                jobs.ended(job)
                yield job, outcome
            for worker in filter(None, slots):
                worker.look(limit)
    except BaseException:
        for worker in filter(None, slots):
            worker.end()
        raise
    for worker in filter(None, slots):
        worker.dismiss()


class _Said(NamedTuple):
    """What a worker's job is at."""

    text: str
    share: float


class _Done(NamedTuple):
    """What came of a worker's job."""

    outcome: Outcome


class _Worker:
    """One process, the job that it has, and when it was last heard; its messages go to `inbox`."""

    def __init__(self, setup: Setup, gpu: str | None, inbox: _Inbox) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._theirs, setup, gpu))
        self._inbox, self._died_at = inbox, 0.0
        self.job: Job | None = None
        self.heard, self.stopped, self.starting = 0.0, False, _START

    @property
    def idle(self) -> bool:
        """Whether it can have a job: one that was stopped just as it answered is dying."""
        return self.job is None and not self.stopped

    def begin(self, job: Job) -> None:
        self.job, self.heard = job, time.monotonic()
        if self._process.pid is None:
            with _interrupts_held():
                self._process.start()
            self._theirs.close()
            threading.Thread(target=self._listen, daemon=True).start()
        with contextlib.suppress(OSError):  # it has died; that is noticed below
            self._pipe.send(job)

    def look(self, limit: float | None) -> None:
        """End it if it has been silent for too long; end what a dead one has left behind."""
        if self._process.exitcode is not None:
            if not self._died_at:
                self._died_at = time.monotonic()
                _kill_group(self._process)  # its children hold the pipe open
            elif time.monotonic() - self._died_at > _GRACE:  # one has got away: don't wait for its end
                self._inbox.put((self, None))
        elif limit is not None and self.job is not None and time.monotonic() - self.heard > limit + self.starting:
            self.stopped = True
            _kill_group(self._process)

    def how(self) -> str:
        self._process.join(_GRACE)
        code = self._process.exitcode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"

    def end(self) -> None:
        if self._process.pid is not None:
            _kill_group(self._process)
            self._process.join(_GRACE)

    def dismiss(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(_GRACE)
        self.end()

    def _listen(self) -> None:
        try:
            while True:
                self._inbox.put((self, self._pipe.recv()))
        except Exception:  # the end of the pipe, or something in it that is no message
            _kill_group(self._process)
        self._inbox.put((self, None))


def _news(inbox: _Inbox) -> Iterator[tuple[_Worker, _Said | _Done | None]]:
    """What workers have said, without waiting for long."""
    with contextlib.suppress(queue.Empty):
        yield inbox.get(timeout=_LOOK)
        while True:
            yield inbox.get_nowait()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that is started inside never gets a terminal's SIGINT, from its first moment on: the driver decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it would let them through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_group(process: multiprocessing.process.BaseProcess) -> None:
    assert process.pid is not None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # no such groups here, or not yet, or nothing is left of it
        with contextlib.suppress(OSError):
            process.kill()


def _serve(pipe: Connection, setup: Setup, gpu: str | None) -> None:
    """A worker's life."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see `_interrupts_held`, which not every system has
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used
    trouble: W2SError | None = None
    try:
        setup.load()
    except W2SError as error:
        trouble = error
    with contextlib.suppress(EOFError):
        while (job := pipe.recv()) is not None:
            pipe.send(_Said("starting", 0.0))
            pipe.send(_Done(trouble or do(job, setup, lambda text, share: pipe.send(_Said(text, share)))))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)
