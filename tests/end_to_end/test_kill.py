"""A kill at any moment loses at most what is in flight, and the same command goes on to the same bytes; what goes wrong
in a plug-in is named, and everything else is done. `tests/faults` does it at random, on real data."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from benchmark.results.store import ResultStore
from support.command_line import without_untrained
from support.disturbed import (
    BAD,
    IN_WORKERS,
    PER_UNIT,
    TASKS,
    Run,
    asked,
    assert_sound,
    assert_whole,
    environment,
    undisturbed,
)
from support.forked_runs import Ended, Forker
from support.verdict import Reference, Tally, contents


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    folder = tmp_path_factory.mktemp("forker")
    forker = Forker(folder, environment(folder))
    yield forker
    forker.close()


@pytest.fixture(scope="module")
def reference(forker: Forker) -> Reference:
    """What a run leaves that nobody disturbs, in `results` and `cache` of the forker's folder."""
    return undisturbed(forker, forker.folder)


@pytest.fixture
def start(forker: Forker, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs, and sees to it that no process outlives the test."""
    runs: list[Run] = []

    def begin(hold_from: int | None, *options: str, **more: Any) -> Run:
        runs.append(Run(forker, tmp_path, hold_from, *options, **more))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


# a process that is killed between every two writes

FEW = ("ground_truth", "naive")


class Writing:
    """A run of one seed in `folder`, which holds results and a cache, after what is in `begun`, if anything."""

    def __init__(
        self, forker: Forker, folder: Path, tasks: Sequence[str], begun: Path | None = None, data: int = 0
    ) -> None:
        self.forker, self.folder, self.tasks, self.begun, self.data = forker, folder, tasks, begun, data
        self.results, self.cache = folder / "results", folder / "cache"
        self.whole = self.anew().to_the_end()

    def anew(self) -> Writing:
        """With what it begins with."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.begun is not None:
            shutil.copytree(self.begun, self.folder)
        return self

    def run(self, moment: int = 0) -> Ended:
        """Once, killed at this moment of writing."""
        own = {"W2S_TEST_DATA": str(self.data), "W2S_CACHE": str(self.cache)}
        arguments = asked(self.results, self.tasks, FEW, seeds=1)
        return self.forker.run(*arguments, "--force", environment=own, moment=moment)  # where data are others now

    def to_the_end(self) -> Reference:
        """What is there then."""
        assert self.run().status == 0
        return Reference.of(self.results, self.cache)

    def killed(self, step: int = 1) -> Iterator[int]:
        """Moments, up to the last one, at which it was killed; each time the next run must end as ever."""
        for moment in count(1, step):
            if (ended := self.anew().run(moment)).status == 0:
                assert ended.moments < moment
                return
            assert ended.status == -signal.SIGKILL, ended
            yield moment
            assert self.to_the_end() == self.whole, f"after a kill at moment {moment}"


@pytest.mark.slow
def test_killed_between_every_two_writes_of_a_unit_that_is_replaced(forker: Forker, tmp_path: Path) -> None:
    """The second task's data have changed: its records, predictions, truth and cache entries are there, of the old."""
    first, second = last_two = TASKS[-2:]
    old = Writing(forker, tmp_path / "old", last_two).whole
    runs = Writing(forker, tmp_path / "killed", last_two, begun=tmp_path / "old", data=1)
    new = runs.whole
    states, cached = set(), set()
    for moment in runs.killed():
        found = ResultStore(runs.results).load()
        assert found.problems == []
        for name in (f"{method}/records.jsonl" for method in FEW):
            own = (runs.results / name).read_bytes()
            assert own in (old.files[name], new.files[name]), f"torn at moment {moment}"
            assert of_task(first, own) == of_task(first, new.files[name])
        for record in found.records.values():
            assert found.misfit(record) is None or record.task == second, "the other task's are whole"
        tally = Tally()
        new.examine_cache(runs.cache, tally)
        assert tally.clean, (moment, tally.notes)
        now = Reference.of(runs.results, runs.cache)
        states.add(tuple(now.files.get(name) for name in sorted(new.files)))
        cached.add(len(now.cache))
    assert len(states) == 1 + 2 * len(FEW) + 1, "each file of the results was once the last to be replaced"
    assert cached == set(range(len(old.cache), len(new.cache) + 1)), "and each entry of the cache the last to be made"


def of_task(name: str, lines: bytes) -> list[bytes]:
    return [line for line in lines.splitlines() if b'"task":"%s"' % name.encode() in line]


def test_killed_while_writing_into_an_empty_folder(forker: Forker, tmp_path: Path) -> None:
    runs = Writing(forker, tmp_path / "killed", TASKS[:1])
    kept = [assert_sound(runs.results, runs.whole) for _ in runs.killed(step=4)]
    assert {0, 1} <= set(kept), "before and after its first method was written"


# workers and their driver


def test_a_killed_driver_takes_its_workers_along_and_the_next_run_goes_on(
    reference: Reference, start: Callable[..., Run], forker: Forker
) -> None:
    """In the middle of the second and the third unit."""
    run = start(1)
    run.wait_until_held()
    assert len(forker.started("spawn_main")) == 2
    os.kill(run.process.pid, signal.SIGKILL)
    ended = run.ended()
    assert (ended.status, ended.out) == (-signal.SIGKILL, "")
    assert assert_sound(run.results, reference) == PER_UNIT

    again = forker.run(*asked(run.results))
    assert (again.status, again.out) == (0, f"{len(TASKS) - 1} units run, results in {run.results}\n")
    assert_whole(run.results, reference)


def test_a_killed_workers_unit_is_done_by_another_one_and_the_others_are_not_disturbed(
    reference: Reference, start: Callable[..., Run], forker: Forker
) -> None:
    run = start(1)
    run.wait_until_held()
    os.kill(next(iter(forker.started("spawn_main"))), signal.SIGKILL)
    run.release()
    ended = run.ended()
    said = f"{len(TASKS)} units run, results in {run.results}\n"
    assert (ended.status, ended.out, without_untrained(ended.err)) == (0, said, "")
    assert_whole(run.results, reference)


@pytest.mark.slow
def test_a_sigterm_ends_workers_and_finished_units_stay(
    reference: Reference, start: Callable[..., Run], forker: Forker
) -> None:
    run = start(1)
    run.wait_until_held()
    os.kill(run.process.pid, signal.SIGTERM)
    ended = run.ended()
    count = f"1 units run, {len(TASKS) - 1} left"
    said = f"stopped: {count}, results in {run.results}; the same command goes on from there\n"
    assert (ended.status, ended.out, ended.err) == (130, said, "")
    assert assert_sound(run.results, reference) == PER_UNIT
    assert not list(run.results.rglob(".writing-*"))
    assert forker.run(*asked(run.results)).status == 0
    assert_whole(run.results, reference)


# plug-ins

LIMIT = 10  # seconds of silence
SAID = {
    "raises": "RuntimeError: made to fail",
    "exits": "SystemExit: 5",
    "nan": "NaN",
    "rows": ", expected ",
    "dtype": ", expected ",
    "hangs": f"stopped: it said nothing for more than {LIMIT} seconds (--limit)",
    "dies": "its worker died 3 times, last with SIGKILL (killed, or out of memory?)",
}


def assert_named(ended: Ended, results: Path, reference: Reference, bad: Sequence[str]) -> None:
    """Each of the bad tasks has its line, and the good ones are whole."""
    assert ended.status == 1, ended
    first, *failures = [line for line in ended.out.splitlines() if line != "printed by a plug-in"]
    assert first == f"{len(TASKS)} units run, {len(bad)} failed, results in {results}"
    assert sorted(line.split(" (ood): ")[0] for line in failures) == sorted(bad)
    for line in failures:
        name, said = line.split(" (ood): ")
        _, part, way = name.split("-")
        assert said == SAID[way] if way in ("hangs", "dies") else said.startswith(f"{part} ") and SAID[way] in said
    assert_whole(results, reference)


def test_bad_parts_of_tasks_are_named_and_the_rest_is_done(
    forker: Forker, reference: Reference, tmp_path: Path
) -> None:
    bad = [f"bad-{part}-{way}" for part, ways in BAD.items() for way in ways if way not in ("hangs", "dies")]
    own = {"W2S_CACHE": str(tmp_path / "cache")}
    ended = forker.run(*asked(tmp_path / "results", [*bad, *TASKS]), environment=own)
    assert_named(ended, tmp_path / "results", reference, bad)


@pytest.mark.slow
def test_so_are_those_that_hang_or_die_in_workers_and_forked_copies_disturb_nothing(
    reference: Reference, start: Callable[..., Run]
) -> None:
    """Each unit forks twice: a copy of the worker that goes on as it does, and one that stays until the run ends."""
    bad = [f"bad-{part}-{way}" for part, ways in BAD.items() for way in ways]
    run = start(None, *IN_WORKERS, "--limit", str(LIMIT), tasks=[*bad, *TASKS], environment={"W2S_TEST_WAY": "forks"})
    ended = run.ended()
    assert_named(ended, run.results, reference, bad)
    assert "printed by a plug-in" in ended.out


@pytest.mark.parametrize("way", ["prints", "forks", "exits", "seeds", "draws"])
def test_an_unruly_method_changes_nothing_of_others(
    forker: Forker, reference: Reference, tmp_path: Path, way: str
) -> None:
    results = tmp_path / "results"
    ended = forker.run(*asked(results), environment={"W2S_TEST_WAY": way})
    if way == "exits":  # the others train without it
        said = [line for line in ended.out.splitlines() if "method 'unruly': SystemExit: 5" in line]
        assert (ended.status, len(said)) == (1, len(TASKS))
        assert not (results / "unruly").exists()
        whole = {name: data for name, data in reference.files.items() if not name.startswith("unruly/")}
        assert contents(results) == whole
    else:
        assert ended.status == 0, ended
        assert_whole(results, reference)


# what the verdict would notice


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def without_a_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def a_line_twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])


def another_number(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"accuracy":0.', b'"accuracy":0.1', 1))


@pytest.mark.parametrize(
    ("name", "change", "counted"),
    [
        ("naive/records.jsonl", cut, {"torn", "lost"}),
        ("naive/records.jsonl", without_a_line, {"lost"}),
        ("naive/records.jsonl", a_line_twice, {"doubled"}),
        ("naive/records.jsonl", another_number, {"wrong", "lost"}),
        ("naive/predictions.safetensors", cut, {"torn"}),
        ("naive/predictions.safetensors", Path.unlink, {"torn"}),
        (f"_tasks/{TASKS[0]}-ood.safetensors", Path.unlink, {"torn"}),
        ("unruly/records.jsonl", Path.unlink, {"lost"}),
        ("naive/.writing-0.tmp", Path.touch, set()),  # in the end only
    ],
)
def test_the_verdict_on_results_notices(
    forker: Forker, reference: Reference, tmp_path: Path, name: str, change: Callable[[Path], None], counted: set[str]
) -> None:
    results = shutil.copytree(forker.folder / "results", tmp_path / "results")
    tally = Tally()
    had = reference.examine(results, set(), tally)
    reference.compare(results, tally)
    assert tally.clean
    assert len(had) == PER_UNIT * len(TASKS)

    change(results / name)
    reference.examine(results, had, tally)
    assert {kind for kind in ("lost", "doubled", "torn", "wrong", "misreported") if getattr(tally, kind)} == counted
    in_the_end = Tally()
    reference.compare(results, in_the_end)
    assert in_the_end.wrong + in_the_end.torn == 1


def test_the_verdict_on_a_cache_notices(forker: Forker, reference: Reference, tmp_path: Path) -> None:
    cache = shutil.copytree(forker.folder / "cache", tmp_path / "cache")
    first, second, third, *_ = sorted(cache.glob("soft_labels/*.safetensors"))
    cut(first)
    shutil.copy(third, second)
    tally = Tally()
    reference.examine_cache(cache, tally)
    assert (tally.torn, tally.wrong) == (1, 1)
