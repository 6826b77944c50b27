"""`make faults`: the smoke suite under every kind of fault, and a table of what came of it, wanted all zero."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cache_files
import kills
import storage
from places import AT_ONCE, Campaign, Trial, campaign
from tabulate import tabulate

from benchmark.core.suite import load_suite
from support.verdict import Tally


@dataclass(frozen=True)
class Row:
    """One kind of fault.

    Attributes:
        full: how many trials in `make faults`.
        short: how many in `make test-all`.
        faults: in each trial.
        at_once: how many trials.
    """

    title: str
    trial: Trial
    full: int
    short: int
    faults: int = 1
    at_once: int = AT_ONCE

    def tried(self, under_way: Campaign, trials: int) -> Tally:
        """What came of so many of them."""
        return under_way.tried(self.title.replace(" ", "-"), self.trial, trials, self.at_once)


ROWS = (
    Row("SIGKILL at a random time", kills.at_random_times, 16, 1, kills.IN_A_ROW),
    Row("SIGKILL between the steps of writing results and cache", kills.while_writing, 20, 1, kills.IN_A_ROW),
    Row("SIGKILL of a worker", kills.of_workers, 16, 1),
    Row("SIGKILL of the driver of two workers", kills.of_drivers, 16, 1),
    Row("SIGINT", kills.stopped_by(signal.SIGINT), 10, 1),
    Row("SIGTERM", kills.stopped_by(signal.SIGTERM), 10, 1),
    Row("cache file flipped, cut, emptied, swapped, of another version", cache_files.corrupted, 22, 1, 5),
    Row("full disk, results", storage.full_disk_of_results, 10, 1),
    Row("full disk, cache", storage.full_disk_of_cache, 6, 1),
    Row("read-only cache", storage.read_only_cache, 4, 1),
    Row("results folder vanishes", storage.vanished_results, 10, 1),
    Row("two runs at once on one folder", storage.at_once(2), 6, 1, at_once=1),
    Row("four runs at once on one folder", storage.at_once(4), 4, 0, at_once=1),
    Row("two runs at once on one cache", storage.on_one_cache, 4, 0, at_once=1),
)
HEADERS = ("fault", "faults", "lost", "doubled", "torn", "wrong", "misreported", "seconds")


def main() -> int:
    """Print the table; 1 if anything in it is not 0, or was not tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose title holds this")
    chosen = parser.parse_args()
    lines, total = [], Tally()
    with (
        tempfile.TemporaryDirectory(prefix="w2s-faults-") as folder,
        campaign(Path(folder) / "campaign", load_suite("smoke").tasks) as under_way,
    ):
        for row in (row for row in ROWS if chosen.only in row.title):
            begun = time.monotonic()
            tally = row.tried(under_way, row.full)
            lines.append([row.title, *tally.numbers, round(time.monotonic() - begun)])
            total += tally
            print(f"{row.title}: {tally.numbers}", *tally.notes, sep="\n  ", file=sys.stderr, flush=True)
    print(tabulate([*lines, ["all", *total.numbers, sum(line[-1] for line in lines)]], HEADERS, tablefmt="github"))
    if untried := [title for title, faults, *_ in lines if not faults]:
        print(f"not tried: {', '.join(untried)}")
    return 0 if total.clean and not untried else 1


if __name__ == "__main__":
    sys.exit(main())
