"""From the published predictions to the tables of the default suite, in this process: `make bench`.

34 (task, condition)s, 5 seeds, about 45 rows of predictions each. Machines are noisy: processor time says more than the
clock. Cold, everything is resampled; warm, all errors are in the cache. Peak memory counts what NumPy allocates.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from benchmark.analysis.cells import analysis_of, keep_errors
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from benchmark.store.cache import Cache

DEFAULT = Path(__file__).parents[2] / "results/default"


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def test_the_default_suites_tables(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def tables(cache: Path) -> None:
        monkeypatch.setattr("benchmark.analysis.example_errors.Cache", partial(Cache, cache))
        store = ResultStore(DEFAULT)
        render(store)
        keep_errors(store)

    cold = median(seconds(partial(tables, tmp_path / str(number))) for number in range(3))
    warm = median(seconds(partial(tables, tmp_path / "0")) for _ in range(3))
    tracemalloc.start()
    benchmark.pedantic(partial(tables, tmp_path / "peak"), rounds=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    analysis = analysis_of(ResultStore(DEFAULT))
    print(f"\n{len(analysis.records):,} records, {len(analysis.cells)} cells")
    print(f"cold {cold:.1f} s, warm {warm:.1f} s of processor time; peak memory {peak / 2**20:.0f} MiB")
    assert warm < cold / 3
    benchmark.extra_info.update(cold=cold, warm=warm, peak=peak)
