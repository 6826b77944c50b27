"""A suite of small tasks in a process that can be held and killed, and judgement on what is left of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from support import SUPPORT, marked
from support.forked_runs import DEADLINE, Ended, Forker
from support.verdict import Reference, Tally

PLUGIN = SUPPORT / "unruly.py"
TASKS = ("kill-a", "kill-b", "kill-c", "kill-d", "kill-e")
BAD = {  # what a part of a task can do wrong; the tasks are called `bad-supervisor-raises` and so on
    "supervisor": ("raises", "exits", "nan", "rows", "dtype", "hangs", "dies"),
    "encoder": ("raises", "exits", "nan", "rows", "dtype", "hangs"),
}
METHODS = ("ground_truth", "naive", "unruly")
SEEDS = 2
PER_UNIT = len(METHODS) * SEEDS
IN_WORKERS = ("--executor", "processes", "--workers", "2")


def asked(
    results: Path, tasks: Sequence[str] = TASKS, methods: Sequence[str] = METHODS, seeds: int = SEEDS
) -> list[str]:
    """The command."""
    own = ["run", "--suite", "smoke", "--plugin", str(PLUGIN), "--tasks", ",".join(tasks)]
    return [*own, "--methods", ",".join(methods), "--seeds", str(seeds), "--results", str(results)]


def environment(folder: Path) -> dict[str, str]:
    """A cache and a token of its own, one thread, and no git: a commit may be made meanwhile, and records name it."""
    (folder / "no-programs").mkdir(parents=True, exist_ok=True)
    own = {"PATH": str(folder / "no-programs"), "OMP_NUM_THREADS": "1", "W2S_CACHE": str(folder / "cache")}
    return {**os.environ, **own, **marked.token()}


class Run:
    """One command under way, and all that it starts. Units from the `hold_from`-th on wait in the middle."""

    def __init__(
        self, forker: Forker, folder: Path, hold_from: int | None = None, *options: str,
        tasks: Sequence[str] = TASKS, environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.forker, self.hold_from, self.over = forker, hold_from, False
        self.results, self.held = folder / "results", folder / f"held-{uuid.uuid4().hex}"
        self.held.mkdir()
        own = {"W2S_CACHE": str(folder / "cache"), **(environment or {})}
        if hold_from is not None:
            own |= {"W2S_TEST_HOLD": str(self.held), "W2S_TEST_HOLD_FROM": str(hold_from)}
        call = [*asked(self.results, tasks), *options]
        self.process = forker.start(*call, folder=str(folder), environment=own, cores=2)

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Look again and again."""
        until = time.monotonic() + DEADLINE
        while not what():
            assert self.process.alive, f"ended too early: {self.process.ended()}"
            assert time.monotonic() < until, "took too long"
            time.sleep(0.01)

    def wait_until_held(self, at_once: int = 2, already: int = 0) -> None:
        """All that run at once wait, and the units before them are written; so many were there before this run."""
        assert self.hold_from is not None
        self.wait_for(lambda: len(os.listdir(self.held)) == (self.hold_from or 0) + at_once)
        self.wait_for(lambda: lines(self.results) >= (self.hold_from or 0) * PER_UNIT + already)

    def release(self) -> None:
        """Units that are held go on."""
        (self.held / "released").touch()

    def ended(self) -> Ended:
        """What came of it; nothing that was started may be left."""
        ended, self.over = self.process.ended(), True
        until = time.monotonic() + 30
        while left := self.forker.started():
            assert time.monotonic() < until, f"left behind: {left}"
            time.sleep(0.01)
        return ended

    def close(self) -> None:
        """End it and all that it has started."""
        for pid in self.forker.started():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not self.over:
            self.process.ended()


def lines(results: Path) -> int:
    """Number of lines in all records files."""
    return sum(path.read_bytes().count(b"\n") for path in results.glob("*/records.jsonl"))


def assert_sound(results: Path, reference: Reference) -> int:
    """What a killed run left: nothing torn, doubled or foreign; the number of its records."""
    tally = Tally()
    found = reference.examine(results, set(), tally)
    assert tally.clean, tally.notes
    return len(found)


def assert_whole(results: Path, reference: Reference) -> None:
    """All that the undisturbed run left, and nothing else."""
    tally = Tally()
    reference.compare(results, tally)
    assert tally.clean, tally.notes


def undisturbed(forker: Forker, folder: Path, tasks: Sequence[str] = TASKS) -> Reference:
    """What a run leaves that nobody disturbs."""
    ended = forker.run(*asked(folder / "results", tasks), environment={"W2S_CACHE": str(folder / "cache")})
    assert ended.status == 0, ended
    return Reference.of(folder / "results", folder / "cache")
