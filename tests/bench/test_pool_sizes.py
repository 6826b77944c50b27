"""Time and peak memory by the size of the pool, each in a process of its own: `make bench-pools`.

A pool of N examples (70% of them train) with D = 768, K = 10, M = 3, as `w2s run --arrays` reads it, 5 seeds. Heads are
those of all seeds together. A size is trained for at most `LIMIT` seconds: read the time an example.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("pool_process.py")
LIMIT = float(os.environ.get("W2S_BENCH_SECONDS", "120"))
# N, heads, epochs
GRID = [(n, heads, epochs) for n, epochs in ((10_000, 5), (100_000, 2), (1_000_000, 1)) for heads in (10, 50, 100, 500)]


def process(*arguments: object, cache: Path) -> dict[str, Any]:
    call = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = {**os.environ, "W2S_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1]) if found.stdout else {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pools")


@pytest.fixture(scope="module")
def report() -> Iterator[list[str]]:
    rows = ["| pool N | heads | prepare, s | us an example | processor us | predict, s | peak, GB |", ""]
    rows[1] = "| --- | --- | --- | --- | --- | --- | --- |"
    yield rows
    print("\n\n" + "\n".join(rows))


def pool(n: int, folder: Path) -> Path:
    path = folder / f"{n}.safetensors"
    if not path.exists():
        process(path, "--make", n, cache=folder)
    return path


def row(n: int, heads: int, what: str, found: dict[str, Any]) -> str:
    return (
        f"| {n:,}{what} | {heads} | {found['prepare']:.1f} | {found['microseconds']:.1f} | "
        f"{found['cpu_microseconds']:.1f} | {found['predict']:.1f} | {found['peak'] / 1e9:.2f} |"
    )


@pytest.mark.parametrize(("n", "heads", "epochs"), GRID)
def test_time_and_memory(n: int, heads: int, epochs: int, folder: Path, report: list[str], benchmark) -> None:  # type: ignore[no-untyped-def]
    path = pool(n, folder)
    given = (path, "--heads", heads, "--epochs", epochs, "--limit", LIMIT)
    found = benchmark.pedantic(lambda: process(*given, cache=folder / "cache"), rounds=1)
    report.append(row(n, heads, "", found))
    print(report[-1])
    if n == 1_000_000 and heads == 50:
        assert found["peak"] < 4e9


@pytest.mark.parametrize("heads", [10, 50])
@pytest.mark.parametrize("n", [100_000, 1_000_000])
def test_from_disk_beside_in_memory(n: int, heads: int, folder: Path, report: list[str], benchmark) -> None:  # type: ignore[no-untyped-def]
    """The same minibatches from tensors and from mapped tables, in turn.

    A million examples in memory are 13 GB.
    """
    path = pool(n, folder)
    sides: dict[str, list[dict[str, Any]]] = {"in-memory": [], "usual": []}

    def turns() -> None:
        for _ in range(3):
            for side, found in sides.items():
                given = (path, "--heads", heads, "--epochs", 10, "--limit", LIMIT / 4, "--features", side)
                found.append(process(*given, cache=folder / "cache"))

    benchmark.pedantic(turns, rounds=1)
    middle = {side: sorted(found, key=lambda f: f["microseconds"])[1] for side, found in sides.items()}
    for side, own in middle.items():
        report.append(row(n, heads, f" ({side})", own))
        clock, processor = (own[k] / middle["in-memory"][k] for k in ("microseconds", "cpu_microseconds"))
        print(f"{n:,}, {heads} heads: {side} / in memory {clock:.2f} by the clock, {processor:.2f} by processor time")


def test_a_measurement_of_a_tiny_pool(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    process(path, "--make", 600, cache=tmp_path)
    found = process(path, "--heads", 20, "--epochs", 2, cache=tmp_path)
    assert found["epochs"] == 2
    assert 1e7 < found["peak"] < 2e9
    assert min(found["prepare"], found["microseconds"], found["predict"]) > 0
