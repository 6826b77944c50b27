"""Processor seconds of each method of the default suite, alone: `python tests/bench/method_seconds.py --out FILE`.

One process and one thread train them in turns on one seed of three tasks, several times; features and soft labels come
from the cache. `results/<suite>/seconds.json` is where tables look for the file.
"""

from __future__ import annotations

import argparse
import platform
import re
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median

import torch

from benchmark.core.names import CANARIES
from benchmark.core.problems import build_problem, training_data
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import load_suite
from benchmark.core.training import train
from benchmark.reports.headline import COST_UNIT
from benchmark.results.seconds import MethodSeconds
from benchmark.store.cache import Cache

CHOSEN = ("digits-to-mnist", "sentiment-to-tweets", "preference-to-tweets")


def measured(tasks: tuple[str, ...], methods: list[str], repeats: int) -> dict[str, float]:
    """Method -> seconds of a seed of one task: the mean over tasks of the median over repeats."""
    suite = load_suite("default")
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name in tasks:
        task, recipe = TASKS[name], suite.student.of(name)
        data, _ = training_data(task.student, [build_problem(task, "ood", 0, Cache())])
        train([METHODS[COST_UNIT]()], data, recipe)  # warm-up
        for _ in range(repeats):
            for method in methods:
                start = time.process_time()
                train([METHODS[method]()], data, recipe)
                taken[method, name].append(time.process_time() - start)
    return {method: round(mean(median(taken[method, name]) for name in tasks), 4) for method in methods}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    methods = [name for name in METHODS.select(list(load_suite("default").methods)) if name not in CANARIES]
    found = MethodSeconds(
        processor=_processor(),
        date=datetime.now(UTC).date().isoformat(),
        tasks=CHOSEN,
        repeats=asked.repeats,
        seconds=measured(CHOSEN, methods, asked.repeats),
    )
    asked.out.write_text(found.to_line() + "\n")
    for method in sorted(methods, key=found.seconds.__getitem__):
        print(f"{method:<30}{found.seconds[method]:>8.2f} s{found.relative(method, COST_UNIT):>8.2f}")


def _processor() -> str:
    lines = Path("/proc/cpuinfo")
    known = re.search(r"model name\s*:\s*(.+)", lines.read_text()) if lines.is_file() else None
    return known[1] if known else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
