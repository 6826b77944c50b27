"""The bootstrap against slow loops over what was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from benchmark.analysis import bootstrap as module
from benchmark.analysis.bootstrap import bootstrap, draw, resample_counts
from benchmark.core.metrics import METRICS, Split
from support.laws import generators, seeds
from support.plain_metrics import PLAIN, random_split
from support.rounding import assert_close

RESAMPLES = 8


@pytest.mark.parametrize("size", [2, 10, 50, 1500])  # few are drawn one by one, many mostly from a table
def test_counts_are_draws_with_replacement(size: int) -> None:
    resamples = 800_000 // size
    counts = resample_counts(size, resamples, np.random.default_rng(0))
    assert counts.shape == (size, resamples)
    np.testing.assert_array_equal(counts.sum(0), size)
    assert counts.mean(1) == pytest.approx(np.ones(size), abs=5 * np.sqrt(1 / resamples))
    shares = np.bincount(counts.ravel(), minlength=8)[:8] / counts.size
    assert shares == pytest.approx(binom.pmf(np.arange(8), size, 1 / size), abs=0.002)
    together = counts[: size // 2].sum(0)  # half of them are drawn as often as half of `size` draws are heads
    assert together.var() == pytest.approx(size / 4, rel=5 * np.sqrt(2 / resamples))
    assert size < 50 or len(np.unique(counts[:, :400], axis=1).T) == min(400, resamples), "resamples differ"


def test_a_sum_that_is_too_large_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLACK", 0.0)  # so that every second sum is too large
    counts = resample_counts(500, 2000, np.random.default_rng(0))
    np.testing.assert_array_equal(counts.sum(0), 500)
    assert counts.var() == pytest.approx(1, rel=0.02)


def drawn(metric: str, splits: Sequence[Split], seed: int) -> Iterator[list[list[tuple[int, int]]]]:
    """For each split and resample: which examples are drawn, and the group that each counts as.

    A group that is drawn twice is two groups, and weighs the same in every split.
    """
    rng, how = np.random.default_rng(seed), METRICS[metric].resampled
    ids = sorted({int(g) for split in splits for g in split.groups})
    counts = resample_counts(len(ids), RESAMPLES, rng) if how == "groups" else np.empty((0, RESAMPLES))
    for split in splits:
        units = [np.flatnonzero(split.groups == group) for group in ids]
        if how != "groups":
            strata = split.groups if how == "examples within groups" else np.zeros_like(split.groups)
            parts = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
            counts = np.concatenate([resample_counts(len(part), RESAMPLES, rng) for part in parts])
            units = [np.array([j]) for part in parts for j in part]
        times = counts.astype(int)
        copies = [
            [(j, k) for unit, t in zip(units, own, strict=True) for k in range(t) for j in unit] for own in times.T
        ]
        apart = 1000 if how == "groups" else 0
        yield [[(int(j), int(split.groups[j]) + apart * k) for j, k in resample] for resample in copies]


sizes_of_splits = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 15)), min_size=1, max_size=3)


@pytest.mark.parametrize("metric", METRICS)
@given(generators, sizes_of_splits, st.sampled_from((2, 3, 30)), seeds)
def test_bootstrap_equals_a_loop_over_what_is_drawn(
    metric: str, rng: np.random.Generator, sizes: list[tuple[int, int]], classes: int, seed: int
) -> None:
    """NaN where nothing is: few examples, or groups that a split lacks."""
    splits = [random_split(metric, rng, 2, n, groups, classes) for n, groups in sizes]
    found = bootstrap(metric, splits, RESAMPLES, np.random.default_rng(seed))
    for split, scores, resamples in zip(splits, found, drawn(metric, splits, seed), strict=True):
        for b, resample in enumerate(resamples):
            expected = [np.nan] * 2
            if resample:
                examples, groups = np.array(resample).T
                expected = [PLAIN[metric](row[examples], split.labels[examples], groups) for row in split.predictions]
            assert_close(np.nan_to_num(scores[:, b], nan=-1), np.nan_to_num(expected, nan=-1), 4, scale=1)


@pytest.mark.parametrize("metric", METRICS)
def test_many_resamples_are_those_of_one_block(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = random_split(metric, np.random.default_rng(0), rows=2, n=1500)
    (whole,) = bootstrap(metric, [split], 300, np.random.default_rng(5))
    assert np.abs(whole.mean(1) - METRICS[metric].score(split)).max() < 0.06
    monkeypatch.setattr(module, "_SCORED", 5000)
    (found,) = bootstrap(metric, [split], 300, np.random.default_rng(5))
    np.testing.assert_array_equal(found, whole)


def test_a_group_weighs_the_same_in_every_seed() -> None:
    split = random_split("accuracy", np.random.default_rng(3))
    shuffled = np.random.default_rng(4).permutation(40)
    same = Split(split.predictions[:, shuffled], split.labels[shuffled], split.groups[shuffled])
    one, two = bootstrap("accuracy", [split, same], 200, np.random.default_rng(0))
    np.testing.assert_allclose(one, two)


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
@given(generators, st.integers(1, 40), st.integers(1, 15), seeds)
def test_a_part_of_the_examples_has_the_same_resamples(
    metric: str, rng: np.random.Generator, n: int, groups: int, seed: int
) -> None:
    """An example weighs what it weighs in the whole."""
    split = random_split(metric, rng, 2, n, groups, 3)
    (draws,) = draw(metric, [split], 20, np.random.default_rng(seed))
    which = rng.random(n) < 0.5
    which[rng.integers(n)] = True
    scores = draws.of(which).scores(metric, split.part(which))
    for b in range(20):
        at = np.repeat(np.arange(n), draws.counts[draws.unit, b] * which)
        expected = [
            PLAIN[metric](row[at], split.labels[at], split.groups[at]) if len(at) else -1 for row in split.predictions
        ]
        assert_close(np.nan_to_num(scores[:, b], nan=-1), np.array(expected), 4, scale=1)


def test_metrics_share_the_resamples_of_a_split() -> None:
    """One class only, so both metrics are the same number on the same resample."""
    split = Split(np.random.default_rng(0).integers(2, size=(2, 40)), np.zeros(40, int), np.arange(40))
    (draws,) = draw("balanced_accuracy", [split], 200, np.random.default_rng(0))
    np.testing.assert_array_equal(draws.scores("balanced_accuracy", split), draws.scores("accuracy", split))
