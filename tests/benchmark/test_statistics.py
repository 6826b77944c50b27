"""Against slow loops, and against simulated worlds whose truth is known."""

import numpy as np
import pytest
from plain_metrics import PLAIN, random_groups
from scipy.stats import spearmanr

from benchmark.metrics import METRICS, Floats, Split
from benchmark.statistics import (
    Sample,
    bootstrap,
    common_seeds,
    difference,
    estimate,
    failure,
    gap_defined,
    percentile_half_width,
    rank_correlation,
    recovered_gap,
    resample_counts,
    t_half_width,
)


def sample(values: list[float], seeds: tuple[int, ...] | None = None, spread: float = 0.0) -> Sample:
    """A sample whose replicates are its values plus the same 50 steps in -spread..spread for each seed."""
    array = np.array(values, float)
    return Sample(seeds or tuple(range(len(values))), array, array[:, None] + np.linspace(-spread, spread, 50))


def random_split(
    metric: str, rng: np.random.Generator, rows: int = 3, n: int = 40, groups: int = 15, classes: int = 3
) -> Split:
    labels = rng.integers(classes, size=n)
    predictions = np.where(rng.random((rows, n)) < 0.5, labels, rng.integers(classes, size=(rows, n)))
    return Split(predictions, labels, random_groups(metric, rng, n, groups))


# --- the bootstrap ---------------------------------------------------------------------------------------------------


def test_counts_are_draws_with_replacement() -> None:
    counts = resample_counts(50, 400, np.random.default_rng(0))
    assert counts.shape == (50, 400)
    np.testing.assert_array_equal(counts.sum(0), 50)
    assert (counts == counts.round()).all()
    assert counts.mean(1) == pytest.approx(np.ones(50), abs=0.25)
    assert counts.var() == pytest.approx(1 - 1 / 50, abs=0.05)
    assert len(np.unique(counts, axis=1).T) == 400


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
            np.testing.assert_allclose(scores[:, b], expected, atol=1e-9)


def test_a_group_that_is_drawn_twice_is_two_users() -> None:
    split = Split(np.array([[1, 0, 0]]), np.zeros(3, int), np.arange(3))  # accuracies 0, 1, 1
    weights = np.array([[1, 0, 3, 0], [1, 1, 0, 0], [1, 2, 8, 0]], np.float32)
    found = METRICS["tenth_percentile_accuracy"].on_resamples(split, np.arange(3), weights)
    expected = [np.percentile(users, 10) for users in ([0, 1, 1], [1, 1, 1], [0] * 3 + [1] * 8)]
    np.testing.assert_allclose(found, [[*expected, np.nan]])


@pytest.mark.parametrize("metric", METRICS)
def test_many_resamples_are_those_of_one_block(metric: str) -> None:
    """4,000 examples make blocks of 500 resamples."""
    split = random_split(metric, np.random.default_rng(0), rows=2, n=4000)
    (found,) = bootstrap(metric, [split], 1100, np.random.default_rng(5))
    assert found.shape == (2, 1100)
    if METRICS[metric].resampled == "groups":
        ids, unit = np.unique(split.groups, return_inverse=True)
        counts = resample_counts(len(ids), 1100, np.random.default_rng(5))
        np.testing.assert_array_equal(found, METRICS[metric].on_resamples(split, unit, counts))
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
        np.testing.assert_allclose(found[:, b], expected, atol=1e-9)


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
            np.testing.assert_allclose(scores[:, b], expected, atol=1e-9)
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


def test_no_known_resample_gives_no_interval() -> None:
    assert np.isnan(percentile_half_width(np.full(5, np.nan)))


# --- intervals cover what they say -----------------------------------------------------------------------------------


def test_t_interval_covers() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 2.0, (4000, 5))
    covered = [abs(values.mean() - 3.0) <= t_half_width(values) for values in draws]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
    assert np.isnan(t_half_width(np.array([1.0])))


def world(rng: np.random.Generator, seeds: int, seed_spread: float, copies: int = 1) -> list[Split]:
    """Two methods on a pool of 500 groups of `copies` like examples; each seed tests 150 groups.

    An example's ease is shared by methods and seeds; a method's skill varies by seed.
    """
    ease = rng.normal(0.0, 1.5, 500)
    luck = rng.random(500)  # part of what decides is the example's own, in all seeds
    splits = []
    for _ in range(seeds):
        groups = rng.choice(500, 150, replace=False)
        skills = np.array([1.0, 0.4]) + rng.normal(0.0, seed_spread, 2)
        threshold = np.where(rng.random(150) < 0.5, luck[groups], rng.random(150))
        hits = threshold < 1 / (1 + np.exp(-(ease[groups] + skills[:, None])))
        splits.append(Split(np.repeat(1 - hits, copies, 1), np.zeros(150 * copies, int), np.repeat(groups, copies)))
    return splits


def true_accuracies(seed_spread: float) -> Floats:
    rng = np.random.default_rng(99)
    logit = rng.normal(0.0, 1.5, 400_000) + rng.normal(0.0, seed_spread, 400_000)
    return np.array([(1 / (1 + np.exp(-(logit + skill)))).mean() for skill in (1.0, 0.4)])


def coverage(worlds: int, seeds: int, seed_spread: float, copies: int = 1) -> dict[str, float]:
    """How often the truth is in the intervals of a score, of a difference, and in the examples' part alone."""
    truth = true_accuracies(seed_spread)
    rng = np.random.default_rng(7)
    hits: dict[str, list[bool]] = {"score": [], "difference": [], "examples alone": []}
    for _ in range(worlds):
        splits = world(rng, seeds, seed_spread, copies)
        replicates = bootstrap("accuracy", splits, 300, rng)
        values = np.array([split.hits.mean(1) for split in splits])
        order = tuple(range(seeds))
        a, b = (Sample(order, values[:, row], np.array([r[row] for r in replicates])) for row in (0, 1))
        paired = difference(a, b)
        assert paired is not None
        one, two = estimate([a]), estimate([paired])
        hits["score"].append(abs(one.mean - truth[0]) <= one.half)
        hits["difference"].append(abs(two.mean - (truth[0] - truth[1])) <= two.half)
        hits["examples alone"].append(abs(one.mean - truth[0]) <= one.example_half)
    return {name: float(np.mean(found)) for name, found in hits.items()}


def test_intervals_cover_when_seeds_differ() -> None:
    found = coverage(400, seeds=5, seed_spread=0.3)
    assert found["score"] >= 0.95
    assert found["difference"] >= 0.95
    assert found["examples alone"] < 0.9  # so both parts are needed


def test_intervals_cover_when_seeds_hardly_differ() -> None:
    found = coverage(400, seeds=5, seed_spread=0.0)
    assert found["score"] >= 0.95
    assert found["difference"] >= 0.95


def test_the_examples_part_covers_alone_with_one_seed_and_with_groups_of_copies() -> None:
    for copies in (1, 4):  # copies in a group are no new evidence
        found = coverage(500, seeds=1, seed_spread=0.0, copies=copies)
        assert found["examples alone"] == pytest.approx(0.95, abs=0.035)


def test_ignoring_groups_would_be_too_narrow() -> None:
    (split,) = world(np.random.default_rng(0), 1, 0.0, copies=4)
    ungrouped = Split(split.predictions, split.labels, np.arange(600))
    wide, narrow = (
        percentile_half_width(bootstrap("accuracy", [s], 2000, np.random.default_rng(0))[0][0])
        for s in (split, ungrouped)
    )
    assert wide / narrow == pytest.approx(2.0, rel=0.1)


def test_bootstrap_spread_is_the_known_one() -> None:
    hits = np.random.default_rng(0).random((1, 400)) < 0.7
    split = Split(1 - hits, np.zeros(400, int), np.arange(400))
    (replicates,) = bootstrap("accuracy", [split], 4000, np.random.default_rng(0))
    assert replicates.std() == pytest.approx(np.sqrt(hits.var() / 400), rel=0.05)
    assert percentile_half_width(replicates[0]) == pytest.approx(1.96 * replicates.std(), rel=0.05)


# --- combining tasks -------------------------------------------------------------------------------------------------


def test_estimate_joins_both_parts() -> None:
    result = estimate([sample([0.5, 0.7, 0.6], spread=0.1)])
    assert result.mean == pytest.approx(0.6)
    assert result.seed_half == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    assert result.example_half == pytest.approx(0.095, rel=1e-6)
    assert result.half == pytest.approx(np.hypot(result.seed_half, 0.095))
    assert (result.tasks, result.runs) == (1, 3)


def test_mean_over_tasks_is_paired_over_seeds() -> None:
    up, down = sample([0.4, 0.5, 0.6]), sample([0.8, 0.7, 0.6])
    result = estimate([up, down])
    assert result.mean == pytest.approx(0.6)
    assert result.seed_half == pytest.approx(0.0, abs=1e-12)  # the per-seed means over tasks are all 0.6
    assert estimate([up, up]).seed_half == pytest.approx(t_half_width(up.values))


def test_independent_tasks_average_out() -> None:
    rng = np.random.default_rng(0)
    tasks = [Sample((0, 1), np.zeros(2), rng.normal(0, 0.1, (1, 4000)).repeat(2, 0)) for _ in range(4)]
    assert estimate(tasks).example_half == pytest.approx(estimate(tasks[:1]).example_half / 2, rel=0.08)


def test_tasks_with_other_seeds_count_in_the_mean_and_only_common_seeds_in_the_interval() -> None:
    result = estimate([sample([0.4, 0.6, 0.8]), sample([0.1, 0.3], seeds=(1, 2))])
    assert result.mean == pytest.approx((0.6 + 0.2) / 2)
    assert result.seed_half == pytest.approx(t_half_width(np.array([0.35, 0.55])))
    assert (result.tasks, result.runs) == (2, 5)
    lonely = estimate([sample([0.4], seeds=(0,)), sample([0.6], seeds=(1,))])
    assert lonely.mean == pytest.approx(0.5)
    assert np.isnan(lonely.half)


def test_difference_is_paired() -> None:
    a, b = sample([0.5, 0.7, 0.9], spread=0.2), sample([0.3, 0.6], seeds=(0, 2), spread=0.2)
    found = difference(a, b)
    assert found is not None
    assert found.seeds == (0, 2)
    np.testing.assert_allclose(found.values, [0.2, 0.3])
    np.testing.assert_allclose(found.replicates, np.array([0.2, 0.3])[:, None] + np.zeros(50))
    assert difference(a, sample([0.1], seeds=(9,))) is None
    assert common_seeds(a, b) == (0, 2)


# --- PGR, failures, weights ------------------------------------------------------------------------------------------


def test_pgr_is_the_ratio_of_seed_means() -> None:
    floor, ceiling, student = sample([0.5, 0.6]), sample([0.7, 1.0]), sample([0.6, 0.7])
    found = recovered_gap(student, floor, ceiling)
    assert found is not None
    assert found.mean == pytest.approx((0.65 - 0.55) / (0.85 - 0.55))  # not the mean of 1/2 and 1/4
    assert found.mean_replicates == pytest.approx(np.full(50, 1 / 3))
    extremes = [recovered_gap(row, floor, ceiling) for row in (floor, ceiling)]
    assert [(e.mean, np.ptp(e.values)) for e in extremes if e] == [(pytest.approx(0), 0), (pytest.approx(1), 0)]


def test_pgr_is_undefined_below_two_points_of_gap() -> None:
    floor = sample([0.50, 0.60])
    assert recovered_gap(floor, floor, sample([0.50, 0.63])) is None  # 1.5 points
    assert recovered_gap(floor, floor, sample([0.52, 0.62])) is not None  # 2 points
    assert recovered_gap(floor, floor, sample([0.40, 0.50])) is None  # the ceiling is below
    assert not gap_defined(floor, sample([0.9], seeds=(7,)))


def test_pgr_is_decided_for_all_methods_alike() -> None:
    floor = sample([0.5, 0.5, 0.5])
    ceiling = sample([0.5, 0.5, 0.55])  # 1.7 points over all seeds, 2.5 over the last two
    assert recovered_gap(sample([0.5, 0.5], seeds=(1, 2)), floor, ceiling) is None
    wide = sample([0.5, 0.5, 0.6])
    assert recovered_gap(sample([0.5, 0.5], seeds=(1, 2)), floor, wide) is not None
    assert recovered_gap(sample([0.5, 0.5], seeds=(0, 1)), floor, wide) is None  # no gap on the seeds that it has


def test_pgr_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1500):
        noise = rng.normal(0, 0.02, 5)  # a seed's split moves all three alike
        floor, student, ceiling = (sample(list(m + noise + rng.normal(0, 0.02, 5))) for m in (0.6, 0.7, 0.8))
        found = recovered_gap(student, floor, ceiling)
        assert found is not None
        result = estimate([found])
        covered.append(abs(result.mean - 0.5) <= result.half)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_failure_counts_seeds_below_their_own_floor() -> None:
    found = failure(sample([0.5, 0.7, 0.6]), sample([0.6, 0.6, 0.6]))
    assert found is not None
    np.testing.assert_array_equal(found.values, [1, 0, 0])  # equal is no failure
    tasks = [found, failure(sample([0.1, 0.1, 0.1]), sample([0.6, 0.6, 0.6]))]
    assert estimate([task for task in tasks if task]).mean == pytest.approx(4 / 6)
    near = failure(sample([0.6 - 1e-9]), sample([0.6]))
    assert near is not None
    assert near.mean == 0


@pytest.mark.filterwarnings("error")
def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    for size in (3, 4, 9):
        weights, scores = rng.integers(5, size=size) / 5.0, rng.random(size)
        if len(set(weights)) > 1:
            assert rank_correlation(weights, scores) == pytest.approx(spearmanr(weights, scores).statistic)
    assert rank_correlation(np.array([0.1, 0.2, 0.7]), np.array([0.5, 0.6, 0.9])) == pytest.approx(1)
    assert np.isnan(rank_correlation(np.full(3, 1 / 3), np.array([0.5, 0.6, 0.9])))
    assert np.isnan(rank_correlation(np.array([0.1, 0.2, 0.7]), np.full(3, 0.5)))
