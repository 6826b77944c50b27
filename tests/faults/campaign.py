"""`make faults`: the smoke suite under every kind of fault, and a table of what came of it, wanted all zero."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cache_files
import kills
import plugins
import storage
from places import Campaign, campaign
from tabulate import tabulate
from verdict import Tally

from benchmark.core.suite import load_suite


@dataclass(frozen=True)
class Row:
    """One kind of fault.

    Attributes:
        full: how many of them in `make faults`.
        short: how many in `make test`.
    """

    title: str
    faults: Callable[[Campaign, int], Tally]
    full: int
    short: int


ROWS = (
    Row("SIGKILL at a random time", kills.at_random_times, 80, 5),
    Row("SIGKILL between the steps of writing results and cache", kills.while_writing, 100, 5),
    Row("SIGKILL of a worker", kills.of_workers, 16, 1),
    Row("SIGKILL of the driver of two workers", kills.of_drivers, 16, 1),
    Row("SIGINT", kills.by_sigint, 10, 1),
    Row("SIGTERM", kills.by_sigterm, 10, 1),
    Row("cache file flipped, cut, emptied, swapped, of another version", cache_files.corrupted, 110, 5),
    Row("full disk, results", storage.full_disk_of_results, 10, 1),
    Row("full disk, cache", storage.full_disk_of_cache, 6, 1),
    Row("read-only cache", storage.read_only_cache, 4, 1),
    Row("results folder vanishes", storage.vanished_results, 10, 1),
    Row("two runs at once on one folder", storage.two_at_once, 6, 1),
    Row("four runs at once on one folder", storage.four_at_once, 4, 0),
    Row("two runs at once on one cache", storage.on_one_cache, 4, 0),
    Row("supervisor or encoder that raises, exits, hangs, gives NaN, a wrong shape or dtype", plugins.bad_parts, 1, 1),
    Row("method that prints, forks, exits, seeds or draws", plugins.unruly_methods, 10, 5),
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
            tally = row.faults(under_way, row.full)
            lines.append([row.title, *tally.numbers, round(time.monotonic() - begun)])
            total += tally
            print(f"{row.title}: {tally.numbers}", *tally.notes, sep="\n  ", file=sys.stderr, flush=True)
    print(tabulate([*lines, ["all", *total.numbers, sum(line[-1] for line in lines)]], HEADERS, tablefmt="github"))
    if untried := [title for title, faults, *_ in lines if not faults]:
        print(f"not tried: {', '.join(untried)}")
    return 0 if total.clean and not untried else 1


if __name__ == "__main__":
    sys.exit(main())
