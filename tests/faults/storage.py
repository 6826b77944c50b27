"""Disks that are full, read-only or gone, and several runs at once on one folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from places import PER_UNIT, Campaign, Place, meanwhile
from verdict import Tally

CAN_NOT = "no file system can be mounted here (it takes root): not tried"


@contextmanager
def small_disk(folder: Path, size: int, read_only: bool = False) -> Iterator[bool]:
    """A file system of so many bytes at `folder`, with what was there; whether that was possible."""
    held = folder.with_name(f"{folder.name}-before")
    folder.mkdir(exist_ok=True)
    shutil.copytree(folder, held)
    try:
        call = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(call, capture_output=True, check=False).returncode:
            yield False
            return
        try:
            shutil.copytree(held, folder, dirs_exist_ok=True)
            if read_only:
                subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            yield True
            if not read_only:
                shutil.rmtree(held)
                shutil.copytree(folder, held)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
            shutil.copytree(held, folder, dirs_exist_ok=True)
    finally:
        shutil.rmtree(held)


def full_disk_of_results(campaign: Campaign, count: int) -> Tally:
    """Results have less room than they need: what fits is whole, the rest is named, and the next run adds it."""
    needed = sum(map(len, campaign.reference.files.values()))

    def trial(place: Place, rng: np.random.Generator) -> None:
        with small_disk(place.results, int(rng.uniform(0.05, 1) * needed)) as possible:
            if not possible:
                place.tally.notes.append(CAN_NOT)
                return
            place.tally.faults += 1
            ended = place.run()
            records = place.examine()
            failed = ended.out.count("No space left on device")
            told = f"{campaign.units - failed} units run{f', {failed} failed' * bool(failed)}, results in"
            place.tally.expect(ended.out.startswith(told), f"on a full disk: {ended}")
            place.tally.expect(ended.status == (1 if failed else 0), f"on a full disk: {ended}")
            # a unit that failed may have written some of its methods
            place.tally.expect(
                records >= (campaign.units - failed) * PER_UNIT, f"on a full disk: {records} records, {ended}"
            )
            place.tally.expect(failed > 0 or records == campaign.units * PER_UNIT, f"on a full disk: {ended}")
        place.finish()

    return campaign.each("full-results", count, trial)


def full_disk_of_cache(campaign: Campaign, count: int) -> Tally:
    """The cache has less room than it needs: the run says so, does without, and gives what it always gives."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        place.forget(rng, 6)
        used = sum(path.stat().st_size for path in place.cache.rglob("*") if path.is_file())
        with small_disk(place.cache, used + 64 * 4096 + int(rng.integers(60_000))) as possible:
            if not possible:
                place.tally.notes.append(CAN_NOT)
                return
            left = place.cache / "filling"
            free = shutil.disk_usage(place.cache).free
            left.write_bytes(bytes(max(0, free - int(rng.integers(4, 16)) * 4096)))
            place.tally.faults += 1
            ended = place.finish()
            place.tally.expect("could not write" in ended.err, f"with a full cache: {ended}")

    return campaign.each("full-cache", count, trial)


def read_only_cache(campaign: Campaign, count: int) -> Tally:
    """Nothing can be written into the cache, and something is lacking there."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        place.forget(rng, 3)
        with small_disk(place.cache, 2**28, read_only=True) as possible:
            if not possible:
                place.tally.notes.append(CAN_NOT)
                return
            place.tally.faults += 1
            ended = place.finish()
            place.tally.expect(ended.err.count("could not write") == 3, f"with a read-only cache: {ended}")

    return campaign.each("read-only-cache", count, trial)


def vanished_results(campaign: Campaign, count: int) -> Tally:
    """The results folder is removed or renamed at a random time; the run ends, says so, and the next one goes on."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        late = 0
        for _ in place.until(1):
            place.empty()
            away, renamed = place.folder / "away", bool(rng.integers(2))
            shutil.rmtree(away, ignore_errors=True)
            hit: list[bool] = []

            def vanish(renamed: bool = renamed, away: Path = away, hit: list[bool] = hit) -> None:
                if place.results.exists():
                    hit.append(True)
                    place.results.rename(away)
                    if not renamed:
                        shutil.rmtree(away)

            with meanwhile(rng.uniform(0.1, 1) * campaign.whole, vanish):
                ended = place.run()
            if not hit or (ended.status == 0 and late < 3):  # it came before the run wrote, or after its last look
                late += bool(hit)
                continue
            place.tally.faults += 1
            place.examine()
            said = "files in it were removed, or it was replaced, while a run was writing there" in ended.out
            place.tally.expect((ended.status, said) == (1, True), f"without its folder: {ended}")
            if renamed:
                campaign.reference.examine(away, set(), place.tally)
        place.finish()

    return campaign.each("vanished", count, trial)


def two_at_once(campaign: Campaign, count: int) -> Tally:
    """Two runs on one folder."""
    return _at_once(campaign, count, 2)


def four_at_once(campaign: Campaign, count: int) -> Tally:
    """Four runs on one folder."""
    return _at_once(campaign, count, 4)


def _at_once(campaign: Campaign, count: int, runs: int) -> Tally:
    """One of them writes, the others are told to wait; they share the cache, which lacks something."""
    tally = Tally()
    for number in range(count):
        rng = np.random.default_rng([runs, number])
        place = Place(campaign.folder / f"at-once-{runs}-{number}", campaign.forkers[0], campaign)
        place.forget(rng, 6)
        places = [place]
        for extra in range(1, runs):
            other = Place(campaign.folder / f"at-once-{runs}-{number}-{extra}", campaign.extra(extra), campaign)
            other.results, other.cache = place.results, place.cache
            places.append(other)
        with ThreadPoolExecutor(runs) as pool:
            ended = list(pool.map(Place.run, places))
        place.tally.faults += 1
        place.examine()
        wrote = [e for e in ended if e.out == f"{campaign.units} units run, results in {place.results}\n"]
        refused = [e for e in ended if e.status == 2 and "another run is writing here" in e.err]
        late = [e for e in ended if e.out == f"nothing to do: all is in {place.results}\n"]
        told = len(wrote) == 1 and len(refused) + len(late) == runs - 1
        place.tally.expect(told, f"{runs} at once: {ended}")
        place.finish()
        tally += place.tally
        for other in places:
            shutil.rmtree(other.folder, ignore_errors=True)
    return tally


def on_one_cache(campaign: Campaign, count: int) -> Tally:
    """Two runs into folders of their own, with one cache that lacks something: an entry is made once."""
    tally, forgotten = Tally(), 6
    for number in range(count):
        rng = np.random.default_rng(number)
        places = [Place(campaign.folder / f"one-cache-{number}-{i}", campaign.extra(i), campaign) for i in range(2)]
        places[0].forget(rng, forgotten)
        places[1].cache = places[0].cache
        with ThreadPoolExecutor(2) as pool:
            ended = list(pool.map(Place.finish, places))
        once = 2 * campaign.moments + 3 * forgotten
        moments = sum(e.moments for e in ended)
        places[0].tally.expect(moments == once, f"on one cache: {moments} moments of writing, not {once}")
        places[0].tally.faults += 1
        for place in places:
            tally += place.tally
            shutil.rmtree(place.folder, ignore_errors=True)
    return tally
