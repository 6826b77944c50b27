"""SIGKILL, SIGINT and SIGTERM at random moments."""

from __future__ import annotations

import re
import signal

import numpy as np
from places import PER_UNIT, Campaign, Place, kill, meanwhile
from verdict import Tally

from benchmark.base.process import STOPPED

IN_A_ROW = 5  # kills, each of the run that goes on from the one before
EARLY = f"{STOPPED}\n"  # before it has read what is asked
IN_WORKERS = ("--executor", "processes", "--workers", "2")


def at_random_times(campaign: Campaign, count: int) -> Tally:
    """The process is killed at any time; it does its units itself."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        for _ in place.until(IN_A_ROW):
            ended = place.run(delay=rng.uniform(0.02, 1) * campaign.whole)
            place.examine()
            if ended.status == -signal.SIGKILL:
                place.tally.faults += 1
            else:  # it was faster
                place.finish()
                place.empty()
        place.finish()

    return campaign.each("random-times", -(-count // IN_A_ROW), trial)


def while_writing(campaign: Campaign, count: int) -> Tally:
    """The process is killed between the steps of writing a file, of the results or of the cache: any file, any step."""
    forgotten = 2

    def trial(place: Place, rng: np.random.Generator) -> None:
        for _ in place.until(IN_A_ROW):
            place.forget(rng, forgotten)
            written = len(place.had) // PER_UNIT  # units
            moments = campaign.moments * (campaign.units - written) // campaign.units + 3 * forgotten
            ended = place.run(moment=int(rng.integers(1, moments + 1)))
            place.examine()
            if ended.status == -signal.SIGKILL:
                place.tally.faults += 1
            else:  # it had less to write
                place.finish()
                place.empty()
        place.finish()

    return campaign.each("while-writing", -(-count // IN_A_ROW), trial)


def of_workers(campaign: Campaign, count: int) -> Tally:
    """One of two worker processes is killed; the run must end as if nothing had been."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        for _ in place.until(1):
            killed: list[bool] = []
            place.empty()
            place.forget(rng, 2)

            def one_of_them(killed: list[bool] = killed) -> None:
                if found := place.processes("spawn_main"):
                    killed.append(kill(int(rng.choice(found))))

            with meanwhile(rng.uniform(2, 6) + rng.uniform() * campaign.whole, one_of_them):
                ended = place.run(*IN_WORKERS)
            said = (ended.status, ended.out) == (0, f"{campaign.units} units run, results in {place.results}\n")
            place.tally.expect(said, f"after a worker's death: {ended}")
            place.expect_gone("after a worker's death")
            place.examine()
            campaign.reference.compare(place.results, place.tally)
            place.tally.faults += any(killed)

    return campaign.each("workers", count, trial)


def of_drivers(campaign: Campaign, count: int) -> Tally:
    """The process that writes is killed while two workers do the units; they must end with it."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        for _ in place.until(1):
            ended = place.run(*IN_WORKERS, delay=rng.uniform(2, 6) + rng.uniform() * campaign.whole)
            place.expect_gone("after the driver's death")
            place.examine()
            place.tally.faults += ended.status == -signal.SIGKILL
            if ended.status == 0:
                place.empty()
        place.finish()

    return campaign.each("drivers", count, trial)


def by_sigint(campaign: Campaign, count: int) -> Tally:
    """Ctrl-C at a random time, on a run in one process or in workers: it says what is done, and the next goes on."""
    return _stopped(campaign, count, signal.SIGINT)


def by_sigterm(campaign: Campaign, count: int) -> Tally:
    """As `by_sigint`, with what batch systems send."""
    return _stopped(campaign, count, signal.SIGTERM)


def _stopped(campaign: Campaign, count: int, signum: int) -> Tally:
    name = signal.Signals(signum).name

    def trial(place: Place, rng: np.random.Generator) -> None:
        workers = (place.number + (signum == signal.SIGTERM)) % 2 == 1
        for _ in place.until(1):
            place.empty()
            delay = workers * rng.uniform(0, 4) + rng.uniform(0.02, 1) * campaign.whole
            ended = place.run(*(IN_WORKERS if workers else ()), delay=delay, signal=signum)
            records = place.examine()
            if ended.status == 0:  # it was faster
                continue
            place.tally.faults += 1
            said = f"after {name}: {ended}, {records} records"
            place.tally.expect(ended.status == 130 and ended.err in ("", EARLY), said)
            place.tally.expect(_told(ended.out + ended.err, records, campaign.units), said)
            place.expect_gone(f"after {name}")
        place.finish()

    return campaign.each(name, count, trial)


def _told(said: str, records: int, units: int) -> bool:
    """Whether the last line is true of what is there."""
    last = said.splitlines()[-1] if said else ""
    if said == EARLY or last == "stopped: no unit was begun; the same command goes on from there":
        return records == 0
    found = re.fullmatch(r"stopped: (\d+) units run, (\d+) left, results in .*; the same command .*", last)
    return found is not None and int(found[1]) + int(found[2]) == units and records == int(found[1]) * PER_UNIT
