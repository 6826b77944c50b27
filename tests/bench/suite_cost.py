"""Processor time of a suite, now and at another commit, in turns: `python tests/bench/suite_cost.py --against c1821cc`.

Each side runs its own code with its own cache, task by task, one side after the other: cold with an empty cache, then
warm with what that left. Prints a JSON line for each task and one for all.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="c1821cc", help="a commit of this repository")
    parser.add_argument("--suite", default="default")
    parser.add_argument("--tasks", help="globs; all of the suite when left out", default=None)
    parser.add_argument("--by-task", action="store_true", help="a run for each task instead of one for all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        archive = subprocess.run(["git", "archive", asked.against], cwd=ROOT, check=True, capture_output=True).stdout
        other.mkdir()
        subprocess.run(["tar", "-x"], cwd=other, check=True, input=archive)
        runs = _tasks(asked.suite, asked.tasks) if asked.by_task else [asked.tasks]
        total = {"cold": [0.0, 0.0], "warm": [0.0, 0.0]}
        for tasks in runs:
            for temperature in total:
                spent = [
                    _run(code, asked.suite, tasks, Path(folder) / f"cache-{code.name}", Path(folder))
                    for code in (other, ROOT)
                ]
                _say(tasks or "all", temperature, spent, asked.against)
                total[temperature] = [a + b for a, b in zip(total[temperature], spent, strict=True)]
        if len(runs) > 1:
            for temperature, spent in total.items():
                _say("all", temperature, spent, asked.against)


def _tasks(suite: str, globs: str | None) -> list[str]:
    from benchmark.core.registry import TASKS
    from benchmark.core.suite import load_suite

    return TASKS.select(globs.split(",") if globs else load_suite(suite).tasks)


def _run(code: Path, suite: str, tasks: str | None, cache: Path, folder: Path) -> float:
    """Seconds of processor time, of the command and all its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory(dir=folder) as results:
        command = [sys.executable, "-m", "benchmark.cli", "run", "--suite", suite, "--device", "cpu"]
        command += ["--results", results, "--cache", str(cache), *(["--tasks", tasks] if tasks else [])]
        environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=code, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _say(tasks: str, temperature: str, spent: list[float], commit: str) -> None:
    old, new = spent
    figures = {"tasks": tasks, "cache": temperature, commit: round(old, 1), "now": round(new, 1)}
    print(json.dumps({**figures, "ratio": round(old / new, 2)}), flush=True)


if __name__ == "__main__":
    main()
