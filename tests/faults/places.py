"""Where faults happen: the smoke suite on its real data, in folders of its own, run by forks, over and over."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from support.disturbed import environment
from support.forked_runs import Ended, Forker
from support.verdict import Reference, Tally

METHODS = ("ground_truth", "naive", "raven")
PER_UNIT = len(METHODS) * 2  # records
AT_ONCE = 2  # trials


@dataclass
class Place:
    """A results folder and a cache for one trial.

    Attributes:
        number: of the trial.
        had: lines of the records that were in the results when they were last looked at.
        whole: seconds that a whole run takes, at the least: longer here than alone, and on a busy machine.
    """

    folder: Path
    forker: Forker
    campaign: Campaign
    number: int = 0
    tally: Tally = field(default_factory=Tally)
    had: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.results, self.cache = self.folder / "results", self.folder / "cache"
        self.whole = self.campaign.whole
        shutil.copytree(self.campaign.cache, self.cache)

    def until(self, faults: int) -> Iterator[None]:
        """Tries until so many faults have hit: one may come before a run has begun or after it has ended."""
        tries = 0
        while self.tally.faults < faults and tries < 20 * faults:
            tries += 1
            yield
        hit = f"{self.folder.name}: in {tries} runs {self.tally.faults} of {faults} faults hit"
        assert self.tally.faults >= faults, hit

    def forget(self, rng: np.random.Generator, count: int) -> None:
        """Take so many soft labels out of the cache."""
        for path in rng.permutation(sorted((self.cache / "soft_labels").glob("*.safetensors")))[:count]:
            Path(path).unlink()

    def empty(self) -> None:
        """Begin anew."""
        shutil.rmtree(self.results, ignore_errors=True)
        self.had = set()

    def run(self, *more: str, **how: Any) -> Ended:
        """A run into this place; `how` as in `Asked`."""
        call = (*self.campaign.asked, "--results", self.results, *more)
        ended = self.forker.run(*call, folder=str(self.folder), environment={"W2S_CACHE": str(self.cache)}, **how)
        if ended.status == 0 and not more:  # in one process
            self.whole = max(self.whole, ended.seconds)
        return ended

    def did_all(self, ended: Ended) -> bool:
        """Whether it says that it has done every unit."""
        said = f"{self.campaign.units} units run, results in {self.results}\n"
        return (ended.status, ended.out) == (0, said)

    def examine(self) -> int:
        """Judge what is there now; how many records it holds."""
        self.had = self.campaign.reference.examine(self.results, self.had, self.tally)
        self.campaign.reference.examine_cache(self.cache, self.tally)
        return len(self.had)

    def finish(self) -> Ended:
        """A run that nothing disturbs: it must end well, with the undisturbed run's results."""
        ended = self.run()
        self.tally.expect(ended.status == 0, f"the last run: {ended}")
        self.campaign.reference.compare(self.results, self.tally)
        self.campaign.reference.examine_cache(self.cache, self.tally)
        for path in self.cache.rglob(".writing-*"):
            self.tally.count("torn", f"{path} is left")
        return ended

    def beside(self, count: int) -> list[Place]:
        """So many places more, each with a forker of its own."""
        return [
            Place(self.folder / str(i), self.campaign.extra(AT_ONCE + i), self.campaign, tally=self.tally)
            for i in range(count)
        ]

    def expect_gone(self, what: str, seconds: float = 30) -> None:
        """Misreported if anything that was started is left, and stays."""
        until = time.monotonic() + seconds
        while left := self.forker.started():
            if time.monotonic() > until:
                self.tally.count("misreported", f"{what}: {left} are left")
                return
            time.sleep(0.05)


Trial: TypeAlias = Callable[[Place, np.random.Generator], None]


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

    def tried(self, name: str, trial: Trial, count: int, at_once: int = AT_ONCE) -> Tally:
        """What came of so many trials, each in a place and with random numbers of its own, some of them at once."""
        idle: queue.SimpleQueue[Forker] = queue.SimpleQueue()
        for number in range(at_once):
            idle.put(self.extra(number))

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
        with ThreadPoolExecutor(at_once) as pool:
            for own in pool.map(one, range(count)):
                tally += own
        return tally


def _forker(folder: Path) -> Forker:
    return Forker(folder, environment(folder))


def _asked(tasks: tuple[str, ...]) -> tuple[str, ...]:
    return "run", "--suite", "smoke", "--tasks", ",".join(tasks), "--methods", ",".join(METHODS), "--seeds", "2"


@contextmanager
def campaign(folder: Path, tasks: tuple[str, ...], filled: Path | None = None) -> Iterator[Campaign]:
    """Run the suite once undisturbed with an empty cache, and once more to see how long it takes with a full one.

    Args:
        filled: such a cache that is not empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forkers = [_forker(folder)]
    results, cache = folder / "undisturbed", folder / "cache"
    if filled is not None:
        shutil.copytree(filled, cache)
    try:
        for _ in range(2):
            shutil.rmtree(results, ignore_errors=True)
            ended = forkers[0].run(*_asked(tasks), "--results", results)
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
