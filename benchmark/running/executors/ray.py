"""A Ray cluster: jobs are its tasks, results come back through its object store, and it notices dead workers and nodes.

A job whose worker or node is gone is submitted again (`ATTEMPTS` in all). What a job raises comes back as its outcome.
"""

import contextlib
import copy
import os
import re
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.notices import notice
from benchmark.running.executors.contract import Job, Outcome, Outcomes, Queue, TellJob, do, passes
from benchmark.running.executors.node_files import NodeFiles
from benchmark.running.joining import joined
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup

_LOOK = 1.0  # seconds between looks at what jobs are at
_MEMORY = 2.0  # GB that a job keeps for itself where nothing else is said
_PATIENCE = 60.0  # seconds for an answer of the board
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM")
_News = dict[str, tuple[str, float, float]]  # job's name -> text, share, seconds since then
_OBJECT_STORE = 256 * 2**20  # bytes, of a cluster that is started here: results are small


def on_ray(
    plan: Sequence[Unit],
    setup: Setup,
    tell: TellJob,
    workers: int | None = None,
    limit: float | None = None,
    address: str | None = None,
    memory: float | None = None,
) -> Outcomes:
    """An executor (`contract.py`), as `Workforce` says. A cluster that it starts it also ends.

    Raises:
        NotAvailable: Ray is not installed. W2SError: there is no cluster at the address, or a node can't take part.
    """
    with _cluster(setup, address, workers) as ray, _token(setup, address) as token:
        room = int(ray.cluster_resources().get("GPU" if setup.device == "cuda" else "CPU", 1))  # now, roughly
        room = workers or max(1, room)
        jobs = Queue(joined(plan, setup, room), passes(plan, setup, room))
        node = ray.get_runtime_context().get_node_id()  # this process's: no other node's end takes the board along
        beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=True)
        board = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=beside)(_Board).remote()
        # workers of a cluster that was started here see the run's files
        sent = setup if address is not None else replace(setup, plugins=(), source=None)
        files = ray.put(NodeFiles.of(sent, ray.put, token))
        here = ray.put(setup)
        share = _Share(torch.get_num_threads(), float(setup.device == "cuda"), int((memory or _MEMORY) * 1e9))
        needed = {"num_cpus": share.cores, "num_gpus": share.gpus, "memory": share.memory}
        submitted: dict[Any, _Submitted] = {}
        try:
            while len(jobs) or submitted:
                while len(submitted) < (workers or sys.maxsize) and (job := jobs.take()) is not None:
                    own = _Submitted(job, secrets.token_hex(8))
                    task = ray.remote(max_retries=0, **needed)(_run_job)
                    submitted[task.remote(job, here, files, board, own.name)] = own
                if not submitted:
                    break  # the last ones could not even be asked for
                ready, _ = ray.wait(list(submitted), num_returns=1, timeout=_LOOK)
                if not ready:
                    share.look(ray, [own.job for own in submitted.values() if own.heard is None])
                for ref in ready:
                    own = submitted.pop(ref)
                    outcome = _outcome(ray, ref)
                    if isinstance(outcome, _Died):
                        outcome = jobs.died(own.job, outcome, limit if own.stopped else None)
                        if outcome is None:  # it is tried again
                            continue
                    jobs.ended(own.job)
                    yield own.job, outcome
                try:
                    news: _News | None = ray.get(board.read.remote(), timeout=_PATIENCE)
                except ray.exceptions.RayError:  # it is being started again
                    news = None
                for ref, own in submitted.items():
                    own.hear(news, tell)
                    silence = 0.0 if own.heard is None else time.monotonic() - own.heard
                    if limit is not None and silence > limit and not own.stopped:
                        own.stopped = True
                        ray.cancel(ref, force=True)
        finally:
            for ref in submitted:
                with contextlib.suppress(Exception):
                    ray.cancel(ref, force=True)
            with contextlib.suppress(Exception):
                ray.kill(board)


@dataclass
class _Submitted:
    """A job that was handed to the cluster."""

    job: Job
    name: str
    heard: float | None = None  # when it last said something, by this process's clock; None until it has begun
    stopped: bool = False  # because it said nothing for too long

    def hear(self, news: _News | None, tell: TellJob) -> None:
        """What the board has of it: nothing if that was started again since; None if it can't be read.

        Silence goes on for a job that is not on it, and begins anew where nobody could be heard.
        """
        if news is not None and self.name in news:
            text, share, age = news[self.name]
            self.heard = time.monotonic() - age
            tell(self.job, text, share)
        elif news is None and self.heard is not None:
            self.heard = time.monotonic()


class _Died(str):
    """The outcome of a job whose worker or node is gone: how."""


class _Refused(str):
    """The outcome of a job on a node that can't take part in the run: why."""


_setups: list[Setup] = []  # of this worker process, which belongs to one run


class _Board:
    """What each job said last, and when; an actor, started again where it dies, with nothing on it."""

    def __init__(self) -> None:
        self._last: _News = {}

    def post(self, name: str, text: str, share: float) -> None:
        self._last[name] = text, share, time.monotonic()

    def read(self) -> _News:
        now = time.monotonic()
        return {name: (text, share, now - at) for name, (text, share, at) in self._last.items()}


def _run_job(job: Job, setup: Setup, files: NodeFiles, board: Any, name: str) -> Outcome | _Refused:
    """One job, in a worker."""
    import ray

    board.post.remote(name, "starting", 0.0)
    try:
        if not _setups:
            own = files.unpack(setup, ray.get)
            own.load()
            _setups.append(own)
    except ray.exceptions.RayError:  # something got lost on its way; it is tried again
        raise
    except (Exception, SystemExit) as error:  # also of a plug-in that loads only where the run was started
        what = error if isinstance(error, W2SError) else f"{type(error).__name__}: {error}"
        return _Refused(f"{ray.util.get_node_ip_address()} can't take part: {what}")
    return do(job, _setups[0], lambda text, share: board.post.remote(name, text, share))


def _outcome(ray: Any, ref: Any) -> Outcome | _Died:
    """The outcome of a job that is over.

    Raises:
        W2SError: its node can't take part; it would draw the other units, one after the other, and fail each.
    """
    errors = ray.exceptions
    try:
        outcome: Outcome | _Refused = copy.deepcopy(ray.get(ref))  # or its arrays would stay in the object store
    except errors.RayTaskError as error:  # not from the job itself: from what brings it there and back
        if isinstance(error.cause, errors.RaySystemError):  # not even the classes of the job are there
            ip, why = re.search(r"ip=([^,)]+)", str(error)), str(error.cause).splitlines()[0]
            where = ip[1] if ip else "of the cluster"
            outcome = _Refused(f"{where} can't take part (is w2s-bench installed on every node?): {why}")
        elif isinstance(error.cause, errors.RayError):
            return _Died(type(error.cause).__name__)
        else:
            return W2SError(f"could not be sent to a worker, or its result back: {error.cause}")
    except errors.RayError as error:
        return _Died(type(error).__name__)
    if isinstance(outcome, _Refused):
        raise W2SError(f"node {outcome} (what is done stays; the same command goes on from there)")
    return outcome


@contextlib.contextmanager
def _cluster(setup: Setup, address: str | None, workers: int | None) -> Iterator[Any]:
    """Ray, connected; a cluster that is there is left as it was."""
    try:
        import ray
    except ImportError:
        way = "pip install -c constraints.txt -e '.[cluster]'"
        raise NotAvailable(f"--executor ray: Ray is not installed; {way}") from None
    variables = {name: value for name, value in os.environ.items() if name in _THREADS or name.startswith("W2S_")}
    variables.pop("W2S_CACHE", None)  # the setup's, or the node's own
    options: dict[str, Any] = {"runtime_env": {"env_vars": variables}, "logging_level": "ERROR"}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        gpus = torch.cuda.device_count() if setup.device == "cuda" else 0
        options |= {"num_gpus": gpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        if gpus == 0 and workers is not None:
            options["num_cpus"] = workers
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        ray.init("local" if address is None else address, **options)
    except Exception as error:  # of any kind, down to `Exception` itself
        found = "start one here" if address is None else f"reach the cluster at {address}"
        raise W2SError(f"--executor ray: can't {found} ({' '.join(str(error).split())})") from None
    try:
        if in_main:
            signal.signal(signal.SIGTERM, before)  # Ray has put its own there
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _token(setup: Setup, address: str | None) -> Iterator[Path | None]:
    """A file by which workers of other machines see that they look into the same cache."""
    if address is None or setup.cache_address is not None:
        yield None
        return
    token = setup.cache.root / f".seen-{secrets.token_hex(8)}"
    try:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        raise W2SError(f"the cache {setup.cache.root} can't be written ({error}); name another with --cache") from None
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)


@dataclass
class _Share:
    """What a job keeps for itself, memory in bytes; says it once when no node is large enough, until one is."""

    cores: int
    gpus: float
    memory: int
    said: bool = False

    def look(self, ray: Any, waiting: Sequence[Job]) -> None:
        wanted = {"CPU": self.cores, "GPU": self.gpus, "memory": self.memory}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        without = not any(all(node.get(name, 0) >= value for name, value in wanted.items()) for node in nodes)
        if waiting and without and not self.said:
            needed = f"{self.cores} cores, {self.gpus:g} GPUs and {self.memory / 1e9:.3g} GB of memory"
            notice(f"{waiting[0].label}: no node of the cluster has {needed}; waiting for one")
        self.said = bool(waiting) and without
