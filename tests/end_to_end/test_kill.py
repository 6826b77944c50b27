"""A kill at any moment loses at most what is in flight; the same command goes on and ends with the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import SUPPORT, forked_runs, marked

from benchmark.base.files import atomic_write
from benchmark.results.store import ResultStore

TASKS = ("kill-a", "kill-b", "kill-c", "kill-d", "kill-e")  # of killed_run.py
METHODS = ("ground_truth", "held", "naive")  # sorted, as they are written
SEEDS = 2
PER_UNIT = len(METHODS) * SEEDS
DEADLINE = 240
LIMIT = 10  # seconds of silence


def arguments(results: Path, tasks: tuple[str, ...] = TASKS) -> list[str]:
    asked = ["run", "--suite", "smoke", "--plugin", str(SUPPORT / "killed_run.py"), "--tasks", ",".join(tasks)]
    return [*asked, "--methods", ",".join(METHODS), "--seeds", str(SEEDS), "--results", str(results)]


def environment(folder: Path) -> dict[str, str]:
    """One thread, and no git, as a commit may be made while tests run."""
    (folder / "no-programs").mkdir(exist_ok=True, parents=True)
    extra = {"PATH": str(folder / "no-programs"), "OMP_NUM_THREADS": "1", "W2S_CACHE": str(folder / "cache")}
    return {**os.environ, **extra, **marked.token()}


# `w2s` as on a machine with two cores, whatever this one has: two worker processes
DRIVER = "import os; os.sched_getaffinity = lambda pid: {0, 1}; from benchmark.cli import main; main()"


@dataclass
class Run:
    """A `w2s run` in processes of its own."""

    folder: Path
    hold_from: int | None = None
    tasks: tuple[str, ...] = TASKS
    extra: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.results = self.folder / "results"
        self.held = self.folder / f"held-{uuid.uuid4().hex}"
        self.held.mkdir(parents=True)
        self.environment = environment(self.folder) | self.extra
        if self.hold_from is not None:
            self.environment |= {"W2S_TEST_HOLD": str(self.held), "W2S_TEST_HOLD_FROM": str(self.hold_from)}
        call = [sys.executable, "-c", DRIVER, *arguments(self.results, self.tasks)]
        call += self.options
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            call, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True
        )

    def wait_for(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + DEADLINE
        while not what():
            if self.process.poll() is not None:
                pytest.fail(f"ended too early: {self.process.communicate()}")
            assert time.monotonic() < until, "took too long"
            time.sleep(0.002)

    def wait_until_held(self, already: int = 0, at_once: int = 2) -> None:
        """`hold_from` units are written, besides those that were there already, and all that run at once wait."""
        assert self.hold_from is not None
        written = (self.hold_from + already) * PER_UNIT
        self.wait_for(lambda: len(os.listdir(self.held)) == self.hold_from + at_once)
        self.wait_for(lambda: lines(self.results) >= written)

    def processes(self) -> dict[int, str]:
        """Process id -> command line of everything that this run started and that lives, the driver included."""
        return marked.processes(self.environment)

    def workers(self) -> list[int]:
        return [pid for pid, command in self.processes().items() if "spawn_main" in command]

    def ended(self) -> tuple[int, str, str]:
        """Exit status, standard output and error; nothing that was started may be left."""
        out, err = self.process.communicate(timeout=DEADLINE)
        until = time.monotonic() + 30
        while left := self.processes():
            assert time.monotonic() < until, f"left behind: {left}"
            time.sleep(0.01)
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts runs, and sees to it that no process outlives the test."""
    runs: list[Run] = []

    def begin(folder: Path, hold_from: int | None = None, **more: Any) -> Run:
        runs.append(Run(folder, hold_from, **more))
        return runs[-1]

    yield begin
    for run in runs:
        for pid in run.processes():
            os.kill(pid, signal.SIGKILL)
        run.process.wait()
        for pipe in (run.process.stdout, run.process.stderr):
            if pipe is not None:
                pipe.close()


def release(run: Run) -> None:
    """Units that are held go on."""
    (run.held / "released").touch()


def lines(results: Path) -> int:
    """Number of lines in all records files."""
    total = 0
    for method in METHODS:
        path = results / method / "records.jsonl"
        total += path.read_bytes().count(b"\n") if path.exists() else 0
    return total


def contents(results: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def assert_sound(results: Path, undisturbed: dict[str, bytes]) -> set[bytes]:
    """What a killed run left: no torn, doubled or foreign record, predictions and truth to each; the records' lines."""
    found = ResultStore(results).load()
    assert found.problems == []
    assert [found.misfit(record) for record in found.records.values() if found.misfit(record)] == []
    ours: list[bytes] = []
    for method in METHODS:
        path = results / method / "records.jsonl"
        own = path.read_bytes().splitlines() if path.exists() else []
        assert set(own) <= set(undisturbed[f"{method}/records.jsonl"].splitlines())
        ours += own
    assert len(ours) == len(set(ours)) == len(found.records)
    return set(ours)


LAST_TWO = TASKS[-2:]
MOMENTS = 3 * (2 + 2 * len(METHODS))  # of writing one unit: as a whole, then file by file


class Forker:
    """Runs of the suite above in forks of one process."""

    def __init__(self, folder: Path) -> None:
        self._forked = forked_runs.Forker(folder, environment(folder))
        self.close = self._forked.close

    def run(
        self, results: Path, *, data: int = 0, moment: int = 0, delay: float = 0, tasks: tuple[str, ...] = TASKS
    ) -> int:
        """Exit status of a run that is killed at a moment or after a delay, or not at all."""
        extra = {"W2S_TEST_DATA": str(data)}
        asked = arguments(results, tasks)
        return self._forked.run(*asked, environment=extra, moment=moment, delay=delay).status


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """Ready to run."""
    forker = Forker(tmp_path_factory.mktemp("forker"))
    yield forker
    forker.close()


@pytest.fixture(scope="module")
def undisturbed(forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nobody kills leaves."""
    results = tmp_path_factory.mktemp("undisturbed")
    assert forker.run(results) == 0
    assert lines(results) == PER_UNIT * len(TASKS)
    return contents(results)


def test_a_killed_driver_takes_its_workers_along_and_the_next_run_goes_on(
    tmp_path: Path, undisturbed: dict[str, bytes], start: Callable[..., Run]
) -> None:
    """Killed again and again at other moments; each run begins with what the one before has left."""
    results = tmp_path / "results"

    def kill(run: Run) -> set[bytes]:
        run.process.kill()
        assert run.ended()[:2] == (-signal.SIGKILL, "")
        return assert_sound(results, undisturbed)

    # while workers start
    run = start(tmp_path)
    run.wait_for(lambda: len(run.workers()) > 0)
    assert kill(run) == set()

    # in the middle of the first two units
    run = start(tmp_path, hold_from=0)
    run.wait_until_held()
    assert len(run.workers()) == 2
    assert kill(run) == set()

    # when the first record appears, in the middle of writing a unit or just after
    run = start(tmp_path)
    run.wait_for(lambda: lines(results) > 0)
    kept = kill(run)
    assert kept

    run = start(tmp_path)
    status, out, err = run.ended()
    assert (status, err) == (0, "")
    assert out.endswith(f" units run, results in {results}\n")
    assert contents(results) == undisturbed


def test_a_killed_workers_unit_is_done_by_another_one_and_the_others_are_not_disturbed(
    tmp_path: Path, undisturbed: dict[str, bytes], start: Callable[..., Run]
) -> None:
    run = start(tmp_path, hold_from=1)
    run.wait_until_held()
    first, second = run.workers()
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGKILL)
    release(run)
    status, out, err = run.ended()
    assert (status, err) == (0, "")
    assert out == f"{len(TASKS)} units run, results in {run.results}\n"
    assert contents(run.results) == undisturbed


def test_units_that_die_or_hang_are_named_and_plug_ins_that_fork_and_print_disturb_nothing(
    tmp_path: Path, undisturbed: dict[str, bytes], start: Callable[..., Run], forker: Forker
) -> None:
    """Each unit forks twice: a copy of the worker that goes on as it does, and one that stays until the run ends."""
    bad = {"W2S_TEST_DIES": TASKS[0], "W2S_TEST_HANGS": TASKS[1], "W2S_TEST_EXITS": TASKS[2]}
    run = start(tmp_path, extra={**bad, "W2S_TEST_FORKS": "60"}, options=("--limit", str(LIMIT)))
    status, out, _ = run.ended()
    assert status == 1
    said = [line for line in out.splitlines() if line != "printed by a plug-in"]
    assert said[0] == f"{len(TASKS) - 3} units run, 3 failed, results in {run.results}"
    assert sorted(said[1:]) == [
        f"{TASKS[0]} (ood): its worker died 3 times, last with SIGKILL (killed, or out of memory?)",
        f"{TASKS[1]} (ood): stopped: it said nothing for more than {LIMIT} seconds (--limit)",
        f"{TASKS[2]} (ood): SystemExit: 5",
    ]
    assert out.count("printed by a plug-in") == len(TASKS) - 3
    assert len(assert_sound(run.results, undisturbed)) == PER_UNIT * (len(TASKS) - 3)
    assert forker.run(run.results) == 0
    assert contents(run.results) == undisturbed


def test_a_sigterm_ends_the_run_with_one_line_and_finished_units_stay(
    tmp_path: Path, undisturbed: dict[str, bytes], start: Callable[..., Run], forker: Forker
) -> None:
    run = start(tmp_path, hold_from=1)
    run.wait_until_held()
    run.process.terminate()
    status, out, err = run.ended()
    assert (status, err) == (130, "")
    count = f"1 units run, {len(TASKS) - 1} left"
    assert out == f"stopped: {count}, results in {run.results}; the same command goes on from there\n"
    assert len(assert_sound(run.results, undisturbed)) == PER_UNIT
    assert not list(run.results.rglob(".writing-*"))

    assert forker.run(run.results) == 0
    assert contents(run.results) == undisturbed


def test_killed_at_random_times(tmp_path: Path, undisturbed: dict[str, bytes], forker: Forker) -> None:
    """The times are seeded, but where they hit depends on the machine; the outcome must not."""
    begun = time.monotonic()
    assert forker.run(tmp_path / "whole") == 0
    whole = time.monotonic() - begun
    killed = 0
    for position, share in enumerate(np.random.default_rng(0).uniform(0.05, 0.95, size=8)):
        results = tmp_path / str(position)
        killed += forker.run(results, delay=float(share * whole)) == -signal.SIGKILL
        assert_sound(results, undisturbed)
        assert forker.run(results) == 0
        assert contents(results) == undisturbed
    assert killed > 0


def test_killed_at_every_step_of_writing_a_unit(forker: Forker, tmp_path: Path) -> None:
    """The second task's data have changed, so its unit replaces records, predictions and truth that are there."""
    begun, expected = tmp_path / "begun", tmp_path / "expected"
    assert forker.run(begun, tasks=LAST_TWO) == 0
    assert forker.run(expected, data=1, tasks=LAST_TWO) == 0
    goal = contents(expected)
    first, second = (name.encode() for name in LAST_TWO)
    old = contents(begun)
    states = set()
    for moment in range(1, MOMENTS + 1):
        results = tmp_path / f"killed-{moment}"
        shutil.copytree(begun, results)
        assert forker.run(results, data=1, moment=moment, tasks=LAST_TWO) == -signal.SIGKILL

        found = ResultStore(results).load()
        assert found.problems == []
        for method in METHODS:
            name = f"{method}/records.jsonl"
            own = (results / name).read_bytes()
            assert own in (old[name], goal[name]), "never torn"
            kept = [line for line in own.splitlines() if b'"task":"%s"' % first in line]
            assert kept == [line for line in goal[name].splitlines() if b'"task":"%s"' % first in line]
        for record in found.records.values():
            fits = found.misfit(record) is None
            assert fits or record.task == second.decode(), "the other task's are whole"
        states.add(tuple(contents(results).get(name) for name in sorted(goal)))

        assert forker.run(results, data=1, tasks=LAST_TWO) == 0
        assert contents(results) == goal, f"after a kill at moment {moment}"
    assert len(states) == 1 + 2 * len(METHODS) + 1, "each file was once the last to be replaced"
    results = tmp_path / "never"
    shutil.copytree(begun, results)
    assert forker.run(results, data=1, moment=MOMENTS + 1, tasks=LAST_TWO) == 0, "that was every moment"


@pytest.mark.parametrize("moment", range(1, MOMENTS + 1, 4))
def test_killed_while_writing_into_an_empty_folder(forker: Forker, tmp_path: Path, moment: int) -> None:
    expected, results = tmp_path / "expected", tmp_path / "results"
    assert forker.run(expected, tasks=TASKS[:1]) == 0
    goal = contents(expected)
    assert forker.run(results, moment=moment, tasks=TASKS[:1]) == -signal.SIGKILL
    assert_sound(results, goal)
    assert forker.run(results, tasks=TASKS[:1]) == 0
    assert contents(results) == goal


def test_the_comparison_would_notice_a_torn_file(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in undisturbed.items():
        atomic_write(tmp_path / name, data)
    assert len(assert_sound(tmp_path, undisturbed)) == PER_UNIT * len(TASKS)
    path = tmp_path / "naive" / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(AssertionError):
        assert_sound(tmp_path, undisturbed)
