"""SIGKILL, SIGINT and SIGTERM at random moments."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
from places import PER_UNIT, Place, Trial, kill, meanwhile

from benchmark.base.process import STOPPED
from support.disturbed import IN_WORKERS

IN_A_ROW = 5  # kills, each of the run that goes on from the one before
EARLY = f"{STOPPED}\n"  # before it has read what is asked


def at_random_times(place: Place, rng: np.random.Generator) -> None:
    """The process is killed at any time; it does its units itself."""
    _in_a_row(place, lambda: {"delay": rng.uniform(0.02, 1) * place.whole})


def while_writing(place: Place, rng: np.random.Generator) -> None:
    """The process is killed between the steps of writing a file, of the results or of the cache: any file, any step."""
    forgotten = 2

    def when() -> dict[str, int]:
        place.forget(rng, forgotten)
        units = place.campaign.units
        moments = place.campaign.moments * (units - len(place.had) // PER_UNIT) // units + 3 * forgotten
        return {"moment": int(rng.integers(1, moments + 1))}

    _in_a_row(place, when)


def _in_a_row(place: Place, when: Callable[[], dict[str, Any]]) -> None:
    for _ in place.until(IN_A_ROW):
        ended = place.run(**when())
        place.examine()
        if ended.status == -signal.SIGKILL:
            place.tally.faults += 1
        else:  # it was faster
            place.finish()
            place.empty()
    place.finish()


def of_workers(place: Place, rng: np.random.Generator) -> None:
    """One of two worker processes is killed; the run must end as if nothing had been."""
    for _ in place.until(1):
        killed: list[bool] = []
        place.empty()
        place.forget(rng, 2)

        def one_of_them(killed: list[bool] = killed) -> None:
            if found := place.forker.started("spawn_main"):
                killed.append(kill(int(rng.choice(list(found)))))

        with meanwhile(rng.uniform(2, 6) + rng.uniform() * place.whole, one_of_them):
            ended = place.run(*IN_WORKERS)
        place.tally.expect(place.did_all(ended), f"after a worker's death: {ended}")
        place.expect_gone("after a worker's death")
        place.examine()
        place.campaign.reference.compare(place.results, place.tally)
        place.tally.faults += any(killed)


def of_drivers(place: Place, rng: np.random.Generator) -> None:
    """The process that writes is killed while two workers do the units; they must end with it."""
    for _ in place.until(1):
        ended = place.run(*IN_WORKERS, delay=rng.uniform(2, 6) + rng.uniform() * place.whole)
        place.expect_gone("after the driver's death")
        place.examine()
        place.tally.faults += ended.status == -signal.SIGKILL
        if ended.status == 0:
            place.empty()
    place.finish()


def stopped_by(signum: signal.Signals) -> Trial:
    """By Ctrl-C, or what batch systems send, at a random time, in one process or in workers: the run says what is done,
    and the next one goes on."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        workers = (place.number + (signum == signal.SIGTERM)) % 2 == 1
        for _ in place.until(1):
            place.empty()
            delay = workers * rng.uniform(0, 4) + rng.uniform(0.02, 1) * place.whole
            ended = place.run(*(IN_WORKERS if workers else ()), delay=delay, signal=signum)
            records = place.examine()
            if ended.status == 0:  # it was faster
                continue
            place.tally.faults += 1
            said = f"after {signum.name}: {ended}, {records} records"
            place.tally.expect(ended.status == 130 and ended.err in ("", EARLY), said)
            place.tally.expect(_told(ended.out + ended.err, records, place.campaign.units), said)
            place.expect_gone(f"after {signum.name}")
        place.finish()

    return trial


def _told(said: str, records: int, units: int) -> bool:
    """Whether the last line is true of what is there."""
    last = said.splitlines()[-1] if said else ""
    if said == EARLY or last == "stopped: no unit was begun; the same command goes on from there":
        return records == 0
    found = re.fullmatch(r"stopped: (\d+) units run, (\d+) left, results in .*; the same command .*", last)
    return found is not None and int(found[1]) + int(found[2]) == units and records == int(found[1]) * PER_UNIT
