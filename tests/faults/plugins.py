"""Plug-ins that go wrong, or do what they should not: their unit or method fails by name, all others are as ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kills import IN_WORKERS
from places import METHODS, Campaign, Place
from verdict import Reference, Tally, contents

HERE = Path(__file__).parent
LIMIT = 15  # seconds of silence
WAYS = ("prints", "forks", "exits", "seeds", "draws")
PARTS = ("supervisor", "encoder")
SAID = {  # of the ways of bad_tasks.py
    "raises": "RuntimeError: made to fail",
    "exits": "SystemExit: 5",
    "hangs": f"stopped: it said nothing for more than {LIMIT} seconds (--limit)",
    "nan": "NaN",
    "shape": "expected",
    "dtype": "<U",
}


def bad_parts(campaign: Campaign, count: int) -> Tally:
    """The smoke suite, and beside it tasks each of which has one bad supervisor or encoder, in two workers."""
    bad = [f"bad-{part}-{way}" for part in PARTS for way in SAID]
    tasks = ",".join([*campaign.tasks, *bad])

    def trial(place: Place, rng: np.random.Generator) -> None:
        plugin = ("--plugin", str(HERE / "bad_tasks.py"), "--tasks", tasks, "--limit", str(LIMIT))
        ended = place.run(*plugin, *IN_WORKERS)
        place.tally.faults += len(bad)
        campaign.reference.compare(place.results, place.tally)
        first, *failures = ended.out.splitlines()
        place.tally.expect(ended.status == 1, f"{ended}")
        done = f"{campaign.units} units run, {len(bad)} failed, results in {place.results}"
        place.tally.expect(first == done, f"{ended}")
        place.tally.expect(len(failures) == len(bad), f"{ended}")
        for name in bad:
            _, part, way = name.split("-")
            own = [line for line in failures if line.startswith(f"{name} (ood): ")]
            named = way == "hangs" or f"{part} " in "".join(own)
            place.tally.expect(len(own) == 1 and SAID[way] in own[0] and named, f"{name}: {own}")
        place.expect_gone("after bad plug-ins")

    return campaign.each("bad-parts", count, trial)


def unruly_methods(campaign: Campaign, count: int) -> Tally:
    """A method that prints, forks, exits, or changes or uses the global random state, in one process or in workers."""
    plugin = ("--plugin", str(HERE / "unruly_method.py"), "--methods", ",".join([*METHODS, "unruly"]))

    def trial(place: Place, rng: np.random.Generator) -> None:
        workers = IN_WORKERS if place.number % 2 else ()
        calm = place.folder / "calm"
        place.run(*plugin, *workers, results=calm)
        expected = Reference(contents(calm), campaign.reference.cache)
        for way in WAYS:
            place.empty()
            ended = place.run(*plugin, *workers, environment={"W2S_TEST_UNRULY": way})
            place.tally.faults += 1
            if way == "exits":  # the others train without it
                campaign.reference.compare(place.results, place.tally)
                said = [line for line in ended.out.splitlines() if "method 'unruly': SystemExit: 5" in line]
                place.tally.expect((ended.status, len(said)) == (1, campaign.units), f"{way}: {ended}")
            else:
                expected.compare(place.results, place.tally)
                place.tally.expect(ended.status == 0, f"{way}: {ended}")
            place.expect_gone(way)

    return campaign.each("unruly", -(-count // len(WAYS)), trial)
