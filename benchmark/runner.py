"""Runs a plan: units go to worker processes, this process alone writes results. A finished unit is on disk."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from benchmark.errors import W2SError
from benchmark.execute import Setup, UnitResult, execute
from benchmark.judging.replies import write_replies
from benchmark.plan import Unit
from benchmark.results import ResultStore


def choose_device(wanted: str) -> str:
    """`cpu` or `cuda`; `auto` takes the GPU when there is one.

    Raises:
        W2SError: `cuda` is wanted and not there, or something else is wanted.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise W2SError(f"--device {wanted}: expected auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise W2SError("--device cuda: torch finds no CUDA device; use --device cpu, or install a CUDA build of torch")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


MOST_WORKERS = 8  # each holds about 1 GB
Outcomes = Generator[tuple[Unit, UnitResult | Exception], None, None]


def run(plan: Sequence[Unit], setup: Setup, store: ResultStore) -> list[str]:
    """Do every unit of the plan and write what it gives, unit by unit.

    On a CPU there is one process a core; `benchmark.threads` keeps each to one thread.

    Returns:
        One line for each thing that failed; the other units are done and written all the same.

    Raises:
        W2SError: a worker died. KeyboardInterrupt: SIGINT or SIGTERM. Finished units are written either way.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = 1 if setup.device == "cuda" else max(1, min(cores, len(plan), MOST_WORKERS))
    failures: list[str] = []
    with _terminable(), _progress(len(plan)) as progress:
        if workers == 1:
            results = _in_this_process(plan, setup, progress)
        else:
            results = _in_processes(plan, setup, workers, progress)
        try:
            for unit, outcome in results:
                if isinstance(outcome, UnitResult):
                    failures += outcome.failures
                    try:
                        store.write_unit(outcome.evaluation, outcome.entries)
                        write_replies(store.root, outcome.replies, {record.key for record, _ in outcome.entries})
                        for checkpoints in outcome.checkpoints:
                            checkpoints.discard()
                    except W2SError as error:  # it would spoil results that are there
                        failures.append(str(error))
                else:
                    failures.append(f"{unit.label}: {_one_line(outcome)}")
                progress.finished(unit)
        finally:
            results.close()
    return failures


def _in_this_process(plan: Sequence[Unit], setup: Setup, progress: _Progress) -> Outcomes:
    for unit in plan:
        try:
            yield unit, execute(unit, setup, partial(progress.say, unit))
        except Exception as error:  # one unit's fault must not stop the others
            yield unit, error


def _in_processes(plan: Sequence[Unit], setup: Setup, workers: int, progress: _Progress) -> Outcomes:
    context = multiprocessing.get_context("spawn")
    messages: Any = context.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(messages, progress), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(setup, messages))
    futures: dict[Future[UnitResult], Unit] = {}
    try:
        for unit in plan:
            futures[pool.submit(_work, unit, setup)] = unit
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                raise W2SError(
                    "a worker process died (killed, or out of memory); finished units are written, run again to go on"
                ) from None
            except Exception as error:
                yield futures[future], error
            del futures[future]  # a unit's results are big: let them go
    finally:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=not futures, cancel_futures=True)
        if futures:  # stopped in the middle: don't wait for units in flight
            for process in processes:
                process.kill()
        else:  # (a killed worker may hold the queue's lock; the listener is a daemon)
            messages.put(None)


_messages: Any = None  # set in a worker


def _start_worker(setup: Setup, messages: Any) -> None:
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    setup.load()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(unit: Unit, setup: Setup) -> UnitResult:
    return execute(unit, setup, lambda text, share: _messages.put((unit, text, share)))


def _listen(messages: Any, progress: _Progress) -> None:
    while (message := messages.get()) is not None:
        progress.say(*message)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run like SIGINT does."""

    def stop(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _UnitsColumn(ProgressColumn):
    """Finished units of all."""

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed)}/{int(task.total or 0)}")


class _Progress:
    """One bar over the units, naming those in flight; nothing when standard error is not a terminal."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar, self._task = bar, bar.add_task("starting", total=total)
        self._in_flight: dict[str, tuple[str, float]] = {}
        self._gone: set[str] = set()

    def say(self, unit: Unit, text: str, share: float) -> None:
        if unit.label not in self._gone:  # a message may arrive after its unit
            self._in_flight[unit.label] = text, share
            self._show()

    def finished(self, unit: Unit) -> None:
        self._in_flight.pop(unit.label, None)
        self._gone.add(unit.label)
        self._show()

    def _show(self) -> None:
        in_flight = dict(self._in_flight)
        text = " | ".join(f"{label}: {what}" for label, (what, _) in in_flight.items())
        done = len(self._gone) + sum(share for _, share in in_flight.values())
        self._bar.update(self._task, description=text or "working", completed=done)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[_Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), _UnitsColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()) as bar:
        yield _Progress(bar, total)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, W2SError) else f"{type(error).__name__}: {text}"
