"""Disks that are full, read-only or gone, and several runs at once on one folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from places import PER_UNIT, Place, Trial, meanwhile

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


def full_disk_of_results(place: Place, rng: np.random.Generator) -> None:
    """Results have less room than they need: what fits is whole, the rest is named, and the next run adds it."""
    units = place.campaign.units
    needed = sum(map(len, place.campaign.reference.files.values()))
    with small_disk(place.results, int(rng.uniform(0.05, 1) * needed)) as possible:
        if not possible:
            place.tally.notes.append(CAN_NOT)
            return
        place.tally.faults += 1
        ended = place.run()
        records = place.examine()
        failed = ended.out.count("No space left on device")
        told = f"{units - failed} units run{f', {failed} failed' * bool(failed)}, results in"
        true = ended.out.startswith(told) and ended.status == (1 if failed else 0)
        # a unit that failed may have written some of its methods
        true &= records >= (units - failed) * PER_UNIT and (failed > 0 or records == units * PER_UNIT)
        place.tally.expect(true, f"on a full disk: {records} records, {ended}")
    place.finish()


def full_disk_of_cache(place: Place, rng: np.random.Generator) -> None:
    """The cache has less room than it needs: the run says so, does without, and gives what it always gives."""
    place.forget(rng, 6)
    used = sum(path.stat().st_size for path in place.cache.rglob("*") if path.is_file())
    with small_disk(place.cache, used + 64 * 4096 + int(rng.integers(60_000))) as possible:
        if not possible:
            place.tally.notes.append(CAN_NOT)
            return
        free = shutil.disk_usage(place.cache).free
        (place.cache / "filling").write_bytes(bytes(max(0, free - int(rng.integers(4, 16)) * 4096)))
        place.tally.faults += 1
        ended = place.finish()
        place.tally.expect("could not write" in ended.err, f"with a full cache: {ended}")


def read_only_cache(place: Place, rng: np.random.Generator) -> None:
    """Nothing can be written into the cache, and something is lacking there."""
    place.forget(rng, 3)
    with small_disk(place.cache, 2**28, read_only=True) as possible:
        if not possible:
            place.tally.notes.append(CAN_NOT)
            return
        place.tally.faults += 1
        ended = place.finish()
        place.tally.expect(ended.err.count("could not write") == 3, f"with a read-only cache: {ended}")


def vanished_results(place: Place, rng: np.random.Generator) -> None:
    """The results folder is removed or renamed at a random time; the run ends, says so, and the next one goes on."""
    late, away = 0, place.folder / "away"
    for _ in place.until(1):
        place.empty()
        renamed = bool(rng.integers(2))
        shutil.rmtree(away, ignore_errors=True)
        hit: list[bool] = []

        def vanish(renamed: bool = renamed, hit: list[bool] = hit) -> None:
            if place.results.exists():
                hit.append(True)
                place.results.rename(away)
                while not renamed and away.exists():  # again where a file was written in the midst of it
                    shutil.rmtree(away, ignore_errors=True)

        with meanwhile(rng.uniform(0.1, 1) * place.whole, vanish):
            ended = place.run()
        if not hit or (ended.status == 0 and late < 3):  # it came before the run wrote, or after its last look
            late += bool(hit)
            continue
        place.tally.faults += 1
        place.examine()
        said = "files in it were removed, or it was replaced, while a run was writing there" in ended.out
        place.tally.expect((ended.status, said) == (1, True), f"without its folder: {ended}")
        if renamed:
            place.campaign.reference.examine(away, set(), place.tally)
    place.finish()


def at_once(runs: int) -> Trial:
    """Runs on one folder: one of them writes, the others are told to wait; they share a cache that lacks something."""

    def trial(place: Place, rng: np.random.Generator) -> None:
        place.forget(rng, 6)
        places = [place, *place.beside(runs - 1)]
        for other in places:
            other.results, other.cache = place.results, place.cache
        with ThreadPoolExecutor(runs) as pool:
            ended = list(pool.map(Place.run, places))
        place.tally.faults += 1
        place.examine()
        refused = [e for e in ended if e.status == 2 and "another run is writing here" in e.err]
        late = [e for e in ended if e.out == f"nothing to do: all is in {place.results}\n"]
        told = sum(map(place.did_all, ended)) == 1 and len(refused) + len(late) == runs - 1
        place.tally.expect(told, f"{runs} at once: {ended}")
        place.finish()

    return trial


def on_one_cache(place: Place, rng: np.random.Generator) -> None:
    """Two runs into folders of their own, with one cache that lacks something: an entry is made once."""
    forgotten = 6
    place.forget(rng, forgotten)
    (other,) = place.beside(1)
    other.cache = place.cache
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(Place.finish, [place, other]))
    place.tally.faults += 1
    once, moments = 2 * place.campaign.moments + 3 * forgotten, sum(e.moments for e in ended)
    place.tally.expect(moments == once, f"on one cache: {moments} moments of writing, not {once}")
