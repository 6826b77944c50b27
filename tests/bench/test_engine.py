"""The engine beside the ordinary way, in one process and after warm-up: `make bench`.

The ordinary way is one head at a time: a DataLoader over a TensorDataset, Adam, a cosine schedule. Both sides take the
same steps on the same data with the same number of threads. Machines are noisy: read the ratios.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import pytest
import torch
from measuring import Cost, matrix_rate, ordinary_epoch, timed

from benchmark.core.data import Recipe
from benchmark.core.registry import METHODS
from benchmark.core.training import TrainingData, train
from benchmark.students.linear import LinearStudent

SEEDS, HEADS = 5, 10
SHAPES = [(7_000, 768, 10), (60_000, 768, 2), (30_000, 768, 182)]
WANTED = {10: 0.40, 2: 0.20, 182: 0.60}  # share of the matrix-product rate, by number of classes
CORES = torch.get_num_threads()


@dataclass
class Row:
    """One line of the report; times in milliseconds a head and epoch."""

    what: str
    batched: float
    ordinary: float
    share: float
    wanted: float


@pytest.fixture(scope="module")
def report() -> Iterator[list[Row]]:
    rows: list[Row] = []
    yield rows
    print(f"\n\n{SEEDS} seeds x {HEADS} heads, milliseconds a head and epoch")
    print(f"{'(N, D, K), threads':<28}{'batched':>9}{'ordinary':>10}{'ratio':>8}{'share of rate':>15}{'wanted':>8}")
    for row in rows:
        ratio = row.ordinary / row.batched
        print(
            f"{row.what:<28}{row.batched:>9.2f}{row.ordinary:>10.1f}{ratio:>8.1f}{row.share:>15.0%}{row.wanted:>8.0%}"
        )


@pytest.mark.parametrize("threads", sorted({1, CORES}))
@pytest.mark.parametrize(("N", "D", "K"), SHAPES)
def test_heads_per_epoch(N: int, D: int, K: int, threads: int, report: list[Row], benchmark) -> None:  # type: ignore[no-untyped-def]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads)
    try:
        rng = torch.Generator().manual_seed(0)
        features = torch.randn(N, D, generator=rng)
        soft_labels = torch.rand(HEADS, N, K, generator=rng).softmax(-1)
        data = TrainingData(
            {"full": features.to(device).expand(SEEDS, N, D)},
            soft_labels.to(device).expand(SEEDS, HEADS, N, K).contiguous(),
            tuple(range(SEEDS)),
            LinearStudent,
        )
        naive, epoch = METHODS["naive"], Recipe(epochs=1)
        benchmark.pedantic(lambda: timed(lambda: train([naive()], data, epoch), device), rounds=3, warmup_rounds=1)
        batched = median(benchmark.stats.stats.data) / (SEEDS * HEADS)
        ordinary_epoch(features[:1280], soft_labels[0][:1280], device)  # warm-up
        ordinary = median(timed(lambda m=m: ordinary_epoch(features, soft_labels[m], device), device) for m in range(3))
        share = Cost.of_epoch(N, D, K, 1, 1).arithmetic / batched / matrix_rate(device)
        what = f"({N:,}, {D}, {K}), {threads}" if device == "cpu" else f"({N:,}, {D}, {K}), {device}"
        report.append(Row(what, batched * 1e3, ordinary * 1e3, share, WANTED[K]))
        benchmark.extra_info.update(ratio=ordinary / batched, share=share)
    finally:
        torch.set_num_threads(CORES)


def _train_all(threads: int) -> None:
    """A run of all methods, in the size of a default text task, in this process."""
    torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    features = {"full": torch.randn(SEEDS, 2800, 384, generator=rng)}
    soft_labels = torch.randn(SEEDS, 3, 2800, 2, generator=rng).softmax(-1)
    data = TrainingData(features, soft_labels, tuple(range(SEEDS)), LinearStudent)
    train([METHODS[name]() for name in METHODS.names()], data, Recipe(epochs=5))


def test_processes_or_threads(benchmark) -> None:  # type: ignore[no-untyped-def]
    """As many units as cores: one after the other with all threads, or side by side with one thread each."""
    _train_all(CORES)
    one_by_one = CORES * median(timed(lambda: _train_all(CORES)) for _ in range(3))
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        benchmark.pedantic(lambda: list(pool.map(_train_all, [1] * CORES)), rounds=3, warmup_rounds=1)
    side_by_side = median(benchmark.stats.stats.data)
    print(f"\n{CORES} units: {CORES} threads {one_by_one:.1f} s, {CORES} processes {side_by_side:.1f} s")
    print(f"processes are {one_by_one / side_by_side:.1f} times as fast")
