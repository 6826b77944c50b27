"""Where faults happen: the smoke suite in folders of its own, run by forks, over and over."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from support import marked
from support.forked_runs import Ended, Forker
from verdict import Reference, Tally

METHODS = ("ground_truth", "naive", "raven")
PER_UNIT = len(METHODS) * 2  # records
AT_ONCE = 2  # forks
_NO_PROGRAMS = "no-programs"


@dataclass
class Place:
    """A results folder and a cache for one row of faults.

    Attributes:
        number: of the trial.
        had: lines of the records that were in the results when they were last looked at.
    """

    folder: Path
    forker: Forker
    campaign: Campaign
    number: int = 0
    tally: Tally = field(default_factory=Tally)
    had: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.results, self.cache = self.folder / "results", self.folder / "cache"
        shutil.copytree(self.campaign.cache, self.cache)

    def until(self, faults: int) -> Iterator[None]:
        """Tries until so many faults have hit: one may come before a run has begun or after it has ended."""
        tries = 0
        while self.tally.faults < faults and tries < 20 * faults:
            tries += 1
            yield
        assert self.tally.faults >= faults, (
            f"{self.folder.name}: in {tries} runs {self.tally.faults} of {faults} faults hit"
        )

    def forget(self, rng: np.random.Generator, count: int) -> None:
        """Take so many soft labels out of the cache."""
        for path in rng.permutation(sorted((self.cache / "soft_labels").glob("*.safetensors")))[:count]:
            Path(path).unlink()

    def empty(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.results, ignore_errors=True)
        self.had = set()

    def run(self, *more: str, results: Path | None = None, **how: Any) -> Ended:
        """A run into this place, or into other results; `how` as in `Asked`."""
        environment = {"W2S_CACHE": str(self.cache), **how.pop("environment", {})}
        asked = (*self.campaign.asked, "--results", results or self.results, *more)
        return self.forker.run(*asked, folder=str(self.folder), environment=environment, **how)

    def examine(self) -> int:
        """Judge what is there now; how many records it holds."""
        self.had = self.campaign.reference.examine(self.results, self.had, self.tally)
        self.campaign.reference.examine_cache(self.cache, self.tally)
        return len(self.had)

    def finish(self, *more: str) -> Ended:
        """A run that nothing disturbs: it must end well, with the undisturbed run's results."""
        ended = self.run(*more)
        self.tally.expect(ended.status == 0, f"the last run ended with {ended.status}: {ended.out}{ended.err}")
        self.campaign.reference.compare(self.results, self.tally)
        self.campaign.reference.examine_cache(self.cache, self.tally)
        for path in self.cache.rglob(".writing-*"):
            self.tally.count("torn", f"{path} is left")
        return ended

    def processes(self, kind: str = "") -> list[int]:
        """What this forker has started and lives, and whose command line holds `kind`: `spawn_main` in workers."""
        found = marked.processes(self.forker.environment).items()
        return [pid for pid, command in found if kind in command and pid != self.forker.process.pid]

    def expect_gone(self, what: str, seconds: float = 10) -> None:
        """Misreported if anything that was started is left, and stays."""
        until = time.monotonic() + seconds
        while left := self.processes():
            if time.monotonic() > until:
                self.tally.count("misreported", f"{what}: processes {left} are left")
                return
            time.sleep(0.05)


@dataclass
class Campaign:
    """The undisturbed run, and forks for the others. Use `campaign`, which makes and ends it.

    Attributes:
        tasks: of the smoke suite; each is one unit.
        whole: seconds that the undisturbed run takes with what it needs in the cache.
        moments: of writing in it.
    """

    folder: Path
    tasks: tuple[str, ...]
    forkers: list[Forker]
    reference: Reference
    cache: Path
    whole: float
    moments: int

    @property
    def units(self) -> int:
        """How many a whole run does."""
        return len(self.tasks)

    @property
    def asked(self) -> tuple[str, ...]:
        """The command, but for where results go."""
        return _asked(self.tasks)

    def extra(self, number: int) -> Forker:
        """The forker of this number, from 0; there are as many as are asked for."""
        while len(self.forkers) <= number:
            self.forkers.append(_forker(self.folder))
        return self.forkers[number]

    def each(self, name: str, count: int, trial: Callable[[Place, np.random.Generator], None]) -> Tally:
        """`count` trials, each with a place and random numbers of its own, as many at once as there are forkers."""
        idle: queue.SimpleQueue[Forker] = queue.SimpleQueue()
        for forker in self.forkers[:AT_ONCE]:
            idle.put(forker)

        def one(number: int) -> Tally:
            forker = idle.get()
            try:
                place = Place(self.folder / f"{name}-{number}", forker, self, number)
                trial(place, np.random.default_rng([number, *name.encode()]))
                shutil.rmtree(place.folder, ignore_errors=True)
                return place.tally
            finally:
                idle.put(forker)

        tally = Tally()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for own in pool.map(one, range(count)):
                tally += own
        return tally


def _forker(folder: Path) -> Forker:
    """With a token of its own, and without git: a commit may be made meanwhile, and records name it."""
    extra = {"PATH": str(folder / _NO_PROGRAMS), "OMP_NUM_THREADS": "1", **marked.token()}
    return Forker(folder, {**os.environ, **extra})


def _asked(tasks: Sequence[str]) -> tuple[str, ...]:
    return "run", "--suite", "smoke", "--tasks", ",".join(tasks), "--methods", ",".join(METHODS), "--seeds", "2"


@contextmanager
def campaign(folder: Path, tasks: tuple[str, ...]) -> Iterator[Campaign]:
    """Run the suite once undisturbed with an empty cache, and once more to see how long it takes with a full one."""
    (folder / _NO_PROGRAMS).mkdir(parents=True)
    forkers = [_forker(folder) for _ in range(AT_ONCE)]
    results, cache = folder / "undisturbed", folder / "cache"
    try:
        for _ in range(2):
            shutil.rmtree(results, ignore_errors=True)
            ended = forkers[0].run(*_asked(tasks), "--results", results, environment={"W2S_CACHE": str(cache)})
            assert (ended.status, ended.out) == (0, f"{len(tasks)} units run, results in {results}\n"), ended
        yield Campaign(folder, tasks, forkers, Reference.of(results, cache), cache, ended.seconds, ended.moments)
    finally:
        for forker in forkers:
            forker.close()


@contextmanager
def meanwhile(delay: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something a while after the block has begun."""
    timer = threading.Timer(delay, act)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def kill(pid: int) -> bool:
    """SIGKILL; whether there was such a process."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
