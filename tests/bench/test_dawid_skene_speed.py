"""Dawid and Skene's EM beside crowd-kit's, with the same results (tests/methods/test_dawid_skene.py): `make bench`.

A train split of 2,800 examples, five seeds, by how often the supervisors are right, else they guess.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import Any

import pytest
import torch
from measuring import timed

from methods.dawid_skene import posterior
from support.crowd_kit import crowd_kit, random_votes

SEEDS, N = 5, 2800


@pytest.mark.parametrize("right", [0.6, 0.0])
@pytest.mark.parametrize(("M", "K"), [(3, 2), (4, 10)])
def test_dawid_skene(M: int, K: int, right: float, benchmark: Any) -> None:
    torch.set_num_threads(1)
    ours = partial(posterior, random_votes(SEEDS, N, M, K, right, 0), K, 100, 1e-5)
    benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    took, theirs = median(benchmark.stats.stats.data), timed(partial(crowd_kit, *ours.args))
    what = f"K = {K}, M = {M}, right in {right:.0%}"
    print(f"\n{what}: {took * 1e3:.1f} ms, crowd-kit {theirs:.2f} s, ratio {theirs / took:.0f}")
    benchmark.extra_info["ratio"] = theirs / took
    assert theirs > 5 * took
