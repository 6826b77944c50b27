"""The bootstrap against slow loops over what was drawn."""

import numpy as np
import pytest
from scipy.stats import binom
from support.plain_metrics import PLAIN, random_groups

from benchmark.analysis import bootstrap as module
from benchmark.analysis.bootstrap import bootstrap, draw, resample_counts
from benchmark.analysis.statistics import Sample
from benchmark.core.metrics import METRICS, Split


def random_split(
    metric: str, rng: np.random.Generator, rows: int = 3, n: int = 40, groups: int = 15, classes: int = 3
) -> Split:
    labels = rng.integers(classes, size=n)
    predictions = np.where(rng.random((rows, n)) < 0.5, labels, rng.integers(classes, size=(rows, n)))
    return Split(predictions, labels, random_groups(metric, rng, n, groups))


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


def test_resamples_differ() -> None:
    assert len(np.unique(resample_counts(50, 400, np.random.default_rng(0)), axis=1).T) == 400


def test_a_sum_that_is_too_large_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLACK", 0.0)  # so that every second sum is too large
    counts = resample_counts(500, 2000, np.random.default_rng(0))
    np.testing.assert_array_equal(counts.sum(0), 500)
    assert counts.var() == pytest.approx(1, rel=0.02)


def plain_scores(metric: str, split: Split, drawn: list[int], groups: list[int]) -> list[float]:
    """Scores of the examples that were drawn, in these groups, by loops; NaN where none is drawn."""
    if not drawn:
        return [np.nan] * len(split.predictions)
    return [PLAIN[metric](row[drawn], split.labels[drawn], np.array(groups)) for row in split.predictions]


@pytest.mark.parametrize("classes", [3, 30])
@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if metric.resampled == "groups"])
def test_bootstrap_equals_a_loop_over_resampled_groups(metric: str, classes: int) -> None:
    rng = np.random.default_rng(1)
    splits = [random_split(metric, rng, groups=size, classes=classes) for size in (15, 15, 2, 40)]
    found = bootstrap(metric, splits, 30, np.random.default_rng(5))
    ids = sorted({int(g) for split in splits for g in split.groups})
    counts = resample_counts(len(ids), 30, np.random.default_rng(5))
    for split, scores in zip(splits, found, strict=True):
        for b in range(30):
            copies = [(i, 1000 * copy) for i, group in enumerate(ids) for copy in range(int(counts[i, b]))]
            drawn = [(j, ids[i] + copy) for i, copy in copies for j in np.flatnonzero(split.groups == ids[i])]
            expected = plain_scores(metric, split, [j for j, _ in drawn], [group for _, group in drawn])
            np.testing.assert_allclose(scores[:, b], expected, atol=1e-6)


def test_a_group_that_is_drawn_twice_is_two_users() -> None:
    split = Split(np.array([[1, 0, 0]]), np.zeros(3, int), np.arange(3))  # accuracies 0, 1, 1
    weights = np.array([[1, 0, 3, 0], [1, 1, 0, 0], [1, 2, 8, 0]], np.float32)
    found = METRICS["tenth_percentile_accuracy"].on_resamples(split, np.arange(3), weights)
    expected = [np.percentile(users, 10) for users in ([0, 1, 1], [1, 1, 1], [0] * 3 + [1] * 8)]
    np.testing.assert_allclose(found, [[*expected, np.nan]])


@pytest.mark.parametrize("metric", METRICS)
def test_many_resamples_are_those_of_one_block(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCORED", 10_000)
    split = random_split(metric, np.random.default_rng(0), rows=2, n=4000)
    (found,) = bootstrap(metric, [split], 1100, np.random.default_rng(5))
    assert found.shape == (2, 1100)
    if METRICS[metric].resampled == "groups":
        ids, unit = np.unique(split.groups, return_inverse=True)
        counts = resample_counts(len(ids), 1100, np.random.default_rng(5))
        whole = METRICS[metric].on_resamples(split, unit, counts.astype(np.float32))
        np.testing.assert_array_equal(found, np.asarray(whole, np.float32))
    assert np.abs(found.mean(1) - METRICS[metric].score(split)).max() < 0.06


def test_worst_group_bootstrap_equals_a_loop_within_groups() -> None:
    metric = "worst_group_accuracy"
    split = random_split(metric, np.random.default_rng(2), groups=4)
    (found,) = bootstrap(metric, [split], 30, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    counts = {g: resample_counts(int((split.groups == g).sum()), 30, rng) for g in np.unique(split.groups)}
    assert -1 in counts
    for b in range(30):
        drawn = [int(i) for g in counts for i in np.flatnonzero(split.groups == g).repeat(counts[g][:, b].astype(int))]
        expected = plain_scores(metric, split, drawn, list(split.groups[drawn]))
        np.testing.assert_allclose(found[:, b], expected, atol=1e-6)


@pytest.mark.parametrize("n", [4, 40])  # with four, some resamples lack a part, or all
def test_worst_identity_bootstrap_equals_a_loop_over_resampled_examples(n: int) -> None:
    metric = "worst_identity_accuracy"
    splits = [random_split(metric, np.random.default_rng(seed), n=n, classes=2) for seed in (2, 3)]
    found = bootstrap(metric, splits, 60, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    for split, scores in zip(splits, found, strict=True):
        counts = resample_counts(n, 60, rng)
        for b in range(60):
            drawn = [int(i) for i in np.arange(n).repeat(counts[:, b].astype(int))]
            expected = plain_scores(metric, split, drawn, list(split.groups[drawn]))
            np.testing.assert_allclose(scores[:, b], expected, atol=1e-6)
    assert n == 40 or np.isnan(np.array(found)).any()


def test_a_group_weighs_the_same_in_every_seed() -> None:
    split = random_split("accuracy", np.random.default_rng(3))
    shuffled = np.random.default_rng(4).permutation(40)
    same = Split(split.predictions[:, shuffled], split.labels[shuffled], split.groups[shuffled])
    one, two = bootstrap("accuracy", [split, same], 200, np.random.default_rng(0))
    np.testing.assert_allclose(one, two)


def test_a_seed_without_any_drawn_group_is_left_out_of_the_mean() -> None:
    splits = [Split(np.array([[0]]), np.array([0]), np.array([g])) for g in (1, 2)]
    replicates = bootstrap("accuracy", splits, 200, np.random.default_rng(0))
    assert np.isnan(replicates[0]).any()
    both = Sample((0, 1), np.ones(2), np.concatenate(replicates))
    np.testing.assert_array_equal(both.mean_replicates, 1.0)


def test_metrics_share_the_resamples_of_a_split() -> None:
    """One class only, so both metrics are the same number on the same resample."""
    split = Split(np.random.default_rng(0).integers(2, size=(2, 40)), np.zeros(40, int), np.arange(40))
    (draws,) = draw("balanced_accuracy", [split], 200, np.random.default_rng(0))
    np.testing.assert_array_equal(draws.scores("balanced_accuracy", split), draws.scores("accuracy", split))
