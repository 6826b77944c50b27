"""Processor time of a suite, now and at another commit, in turns: `python tests/bench/suite_cost.py --against c1821cc`.

Each side runs the tasks of the default suite as they were then, with its own code and cache, one side after the other:
cold with an empty cache, then warm with what that left. Prints a JSON line for each. Both sides run all of their
methods, of which the later may have more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TASKS = "41c94b7"  # the last commit whose tasks are those of c1821cc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", default="c1821cc", help="a commit of this repository")
    parser.add_argument("--tasks", help="globs; all of the default suite when left out", default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other, this = Path(folder) / "other", Path(folder) / "this"
        _unpack(asked.against, other)
        _unpack(TASKS, this, "tasks")
        for package in ("benchmark", "methods"):
            shutil.copytree(ROOT / package, this / package)
        _unpack(TASKS, this, "benchmark/suites")
        for temperature in ("cold", "warm"):
            old, new = (_run(code, asked.tasks, Path(folder) / f"cache-{code.name}") for code in (other, this))
            seconds = {asked.against: round(old, 1), "now": round(new, 1), "ratio": round(old / new, 2)}
            print(json.dumps({"cache": temperature, **seconds}), flush=True)


def _unpack(commit: str, folder: Path, *paths: str) -> None:
    archive = subprocess.run(["git", "archive", commit, *paths], cwd=ROOT, check=True, capture_output=True).stdout
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-x"], cwd=folder, check=True, input=archive)


def _run(code: Path, tasks: str | None, cache: Path) -> float:
    """Seconds of processor time, of the command and all its workers."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "benchmark.cli", "run", "--suite", "default", "--device", "cpu"]
        command += ["--results", results, "--cache", str(cache), *(["--tasks", tasks] if tasks else [])]
        environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=code, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
