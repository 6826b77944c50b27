"""From the published predictions to all scores, intervals and ranks, in this process: `make bench`.

The default suite: 34 (task, condition)s, 5 seeds, about 45 rows of predictions each. Machines are noisy: processor time
says more than the clock. Peak memory counts what NumPy allocates.
"""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from statistics import median

from benchmark.analysis.cells import analyse
from benchmark.analysis.ranking import ranks
from benchmark.analysis.statistics import RESAMPLES
from benchmark.results.store import ResultStore

DEFAULT = Path(__file__).parents[2] / "results/default"


def test_the_default_suites_numbers(benchmark) -> None:  # type: ignore[no-untyped-def]
    contents = ResultStore(DEFAULT).load()
    times = {}
    for resamples in (RESAMPLES // 10, RESAMPLES):
        taken = []
        for _ in range(3):
            start = time.process_time()
            analysis = analyse(contents, resamples)
            taken.append(time.process_time() - start)
        times[resamples] = median(taken)
    start = time.process_time()
    for condition in ("ood", "ind"):
        for modality in (None, "image", "text", "preference"):
            ranks(analysis, analysis.select(condition, modality))
    ranked = time.process_time() - start
    tracemalloc.start()
    benchmark.pedantic(lambda: analyse(contents), rounds=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"\n{len(contents.records):,} records, {len(analysis.cells)} cells")
    for resamples, seconds in times.items():
        print(f"{resamples:>7,} resamples: {seconds:.1f} s of processor time")
    print(f"ranks of 8 tables: {ranked:.2f} s; peak memory of {RESAMPLES:,} resamples: {peak / 2**20:.0f} MiB")
    benchmark.extra_info.update(seconds=times[RESAMPLES], peak=peak)
