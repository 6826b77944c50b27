"""Against slow loops, and against simulated worlds whose truth is known."""

import numpy as np
import pytest
from scipy.stats import norm, spearmanr, t
from support.simulation import World

from benchmark.analysis.bootstrap import bootstrap
from benchmark.analysis.statistics import (
    Sample,
    common_seeds,
    difference,
    estimate,
    example_error,
    failure,
    gap_defined,
    half_width,
    holm,
    improvement,
    p_value,
    rank_correlation,
    recovered_gap,
    seed_error,
)
from benchmark.core.metrics import Split


def sample(values: list[float], seeds: tuple[int, ...] | None = None, spread: float = 0.0) -> Sample:
    """A sample whose replicates are its values plus the same 50 steps in -spread..spread for each seed."""
    array = np.array(values, float)
    return Sample(seeds or tuple(range(len(values))), array, array[:, None] + np.linspace(-spread, spread, 50))


# --- the two errors --------------------------------------------------------------------------------------------------


def test_undefined_resamples_are_left_out() -> None:
    rng = np.random.default_rng(0)
    replicates = rng.normal(size=(3, 50)).astype(np.float32)
    replicates[0, ::3], replicates[2] = np.nan, np.nan
    expected = [np.nanstd(replicates[0], dtype=float), np.std(replicates[1], dtype=float), np.nan]
    np.testing.assert_allclose(example_error(replicates), expected, rtol=1e-6)
    np.testing.assert_allclose(example_error(replicates[1]), expected[1], rtol=1e-6)


def test_a_seed_without_any_drawn_group_is_left_out_of_the_mean() -> None:
    splits = [Split(np.array([[0]]), np.array([0]), np.array([g])) for g in (1, 2)]
    replicates = bootstrap("accuracy", splits, 200, np.random.default_rng(0))
    assert np.isnan(replicates[0]).any()
    both = Sample((0, 1), np.ones(2), np.concatenate(replicates))
    np.testing.assert_array_equal(both.mean_replicates, 1.0)


def test_bootstrap_error_is_the_known_one_and_copies_are_no_new_evidence() -> None:
    hits = np.random.default_rng(0).random((1, 400)) < 0.7
    once = Split(1 - hits, np.zeros(400, int), np.arange(400))
    copied = Split(np.repeat(1 - hits, 4, 1), np.zeros(1600, int), np.repeat(np.arange(400), 4))
    known = np.sqrt(hits.var() / 400)
    for split in (once, copied):
        (replicates,) = bootstrap("accuracy", [split], 4000, np.random.default_rng(0))
        assert example_error(replicates[0]) == pytest.approx(known, rel=0.05)
        low, high = np.percentile(replicates[0], [2.5, 97.5])
        assert (high - low) / 2 == pytest.approx(norm.ppf(0.975) * known, rel=0.05)  # as a normal one


# --- p-values --------------------------------------------------------------------------------------------------------


def test_a_p_value_is_where_the_interval_reaches_zero() -> None:
    rng = np.random.default_rng(0)
    means, seeds, examples = rng.normal(size=40), rng.random(40), rng.random(40)
    p = p_value(means, seeds, examples, 5)
    np.testing.assert_allclose(half_width(p, seeds, examples, 5), np.abs(means), rtol=1e-9)
    assert ((p < 0.05) == (np.abs(means) > half_width(0.05, seeds, examples, 5))).all()
    assert 0 < (p < 0.05).sum() < 40
    assert p[3] == p_value(-means[3], seeds[3], examples[3], 5)


def test_p_values_are_known_ones_when_only_one_error_counts() -> None:
    for mean in (0.1, 2.0, 40.0):  # the last is far out in the tail
        assert p_value(mean, 1.0, 0.0, 5) == pytest.approx(2 * t.sf(mean, 4), rel=1e-9)
    for mean in (0.1, 2.0, 30.0):
        assert p_value(mean, 0.0, 1.0, 5) == pytest.approx(2 * norm.sf(mean), rel=1e-9)


def test_p_values_without_any_error() -> None:
    assert p_value(0.0, 0.0, 0.0, 5) == 1
    assert p_value(0.0, 1.0, 1.0, 5) == 1
    assert p_value(0.1, 0.0, 0.0, 5) < 1e-200
    assert np.isnan(p_value(0.1, np.nan, 0.1, 1))
    assert np.isnan(p_value(0.1, 0.1, np.nan, 5))


def test_holm_is_what_r_gives() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.01, np.nan]), [1, 0.03, 1])  # an undefined one is in the family
    assert holm([]).shape == (0,)


# --- intervals cover what they say -----------------------------------------------------------------------------------

# skills: the method, another, the floor, the ceiling
SKILLS = (0.4, 0.0, -0.6, 2.0)
REGIMES = {
    "seeds and examples": World(SKILLS),
    "mostly examples, one split": World(SKILLS, own=0.02, shared=0.0, tested=300),
    "mostly examples, overlapping splits": World(SKILLS, own=0.02, shared=0.0),
    "mostly seeds": World(SKILLS, own=1.0, shared=0.5),
}


def coverage(world: World, worlds: int = 400, tasks: int = 3) -> dict[str, float]:
    """How often the truth is in the interval of each quantity."""
    rng = np.random.default_rng(0)
    effects = world.seed_effects(worlds, tasks, rng)  # of supervisors, which both conditions share
    ind, ood = world.tasks(effects, rng), world.tasks(effects, rng, shift=-0.7)
    method, other, floor, ceiling = (world.truth(skill) for skill in SKILLS)
    shifted = world.truth(SKILLS[0] - 0.7)
    hits: dict[str, list[bool]] = {}

    def check(name: str, samples: list[Sample | None], truth: float) -> None:
        result = estimate([sample for sample in samples if sample])
        hits.setdefault(name, []).append(abs(result.mean - truth) <= result.half)
        hits.setdefault(f"{name}, examples alone", []).append(abs(result.mean - truth) <= result.example_half)

    gains = [difference(task[0], task[1]) for made in ind for task in made]
    wins = float(
        np.mean([gain.values > 0 for gain in gains if gain]) + np.mean([gain.values == 0 for gain in gains if gain]) / 2
    )
    for at_home, away in zip(ind, ood, strict=True):
        check("score", [at_home[0][0]], method)
        check("difference", [difference(at_home[0][0], at_home[0][1])], method - other)
        check("mean over tasks", [task[0] for task in at_home], method)
        check("mean difference", [difference(task[0], task[1]) for task in at_home], method - other)
        check("improvement", [improvement(task[0], task[1]) for task in at_home], wins)
        pgr = [recovered_gap(task[0], task[2], task[3]) for task in at_home]
        check("PGR", list(pgr), (method - floor) / (ceiling - floor))
        drop = [difference(there[0], here[0]) for there, here in zip(away, at_home, strict=True)]
        check("OOD minus InD", list(drop), shifted - method)
    return {name: float(np.mean(found)) for name, found in hits.items()}


@pytest.mark.parametrize("regime", REGIMES)
def test_intervals_cover(regime: str) -> None:
    """At least 95% within what 400 worlds can tell (two standard errors are 2.2 points)."""
    found = coverage(REGIMES[regime])
    whole = {name: share for name, share in found.items() if "alone" not in name}
    share = whole.pop("improvement")  # of 15 runs that are won or lost: few values, a shorter interval when all are won
    assert share >= 0.9
    assert len(whole) == 6
    assert min(whole.values()) >= 0.928, whole
    if regime == "mostly seeds":  # nothing is counted twice there
        assert max(whole.values()) <= 0.98, whole
        assert max(found[f"{name}, examples alone"] for name in whole) < 0.6  # so both parts are needed


def test_intervals_of_one_seed_cover_by_examples_alone() -> None:
    world = World((0.4,), own=0.0, shared=0.0, tested=300, seeds=1)
    rng = np.random.default_rng(0)
    samples = [task[0] for (task,) in world.tasks(world.seed_effects(500, 1, rng), rng)]
    errors = np.array([sample.mean - world.truth(0.4) for sample in samples])
    halves = np.array([estimate([sample]).example_half for sample in samples])
    assert np.mean(np.abs(errors) <= halves) == pytest.approx(0.95, abs=0.03)
    assert all(np.isnan(estimate([sample]).half) for sample in samples)


# --- combining tasks -------------------------------------------------------------------------------------------------


def test_estimate_joins_both_parts() -> None:
    result = estimate([sample([0.5, 0.7, 0.6], spread=0.1)])
    assert result.mean == pytest.approx(0.6)
    assert result.seed_error == pytest.approx(0.1 / np.sqrt(3), rel=1e-6)
    spread = float(np.std(np.linspace(-0.1, 0.1, 50)))
    assert result.example_error == pytest.approx(spread, rel=1e-6)
    assert result.example_half == pytest.approx(1.959964 * spread, rel=1e-6)
    assert result.half == pytest.approx(np.hypot(4.302653 * 0.1 / np.sqrt(3), 1.959964 * spread), rel=1e-6)
    assert (result.seeds, result.tasks, result.runs) == (3, 1, 3)
    assert result.p == pytest.approx(p_value(0.6, result.seed_error, spread, 3))


def test_mean_over_tasks_is_paired_over_seeds() -> None:
    up, down = sample([0.4, 0.5, 0.6]), sample([0.8, 0.7, 0.6])
    result = estimate([up, down])
    assert result.mean == pytest.approx(0.6)
    assert result.seed_error == pytest.approx(0.0, abs=1e-12)  # the per-seed means over tasks are all 0.6
    assert estimate([up, up]).seed_error == pytest.approx(seed_error(up.values))


def test_independent_tasks_average_out() -> None:
    rng = np.random.default_rng(0)
    tasks = [Sample((0, 1), np.zeros(2), rng.normal(0, 0.1, (1, 4000)).repeat(2, 0)) for _ in range(4)]
    assert estimate(tasks).example_error == pytest.approx(estimate(tasks[:1]).example_error / 2, rel=0.08)


def test_tasks_with_other_seeds_count_in_the_mean_and_only_common_seeds_in_the_interval() -> None:
    result = estimate([sample([0.4, 0.6, 0.8]), sample([0.1, 0.3], seeds=(1, 2))])
    assert result.mean == pytest.approx((0.6 + 0.2) / 2)
    assert result.seed_error == pytest.approx(seed_error(np.array([0.35, 0.55])))
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


def test_failure_counts_seeds_below_their_own_floor() -> None:
    found = failure(sample([0.5, 0.7, 0.6]), sample([0.6, 0.6, 0.6]))
    assert found is not None
    np.testing.assert_array_equal(found.values, [1, 0, 0])  # equal is no failure
    tasks = [found, failure(sample([0.1, 0.1, 0.1]), sample([0.6, 0.6, 0.6]))]
    assert estimate([task for task in tasks if task]).mean == pytest.approx(4 / 6)
    near = failure(sample([0.6 - 1e-9]), sample([0.6]))
    assert near is not None
    assert near.mean == 0


def test_improvement_counts_seeds_and_half_of_the_ties() -> None:
    a, b = sample([0.5, 0.7, 0.6, 0.2]), sample([0.6, 0.6, 0.6 - 1e-9], spread=0.3)
    found = improvement(a, b)
    assert found is not None
    np.testing.assert_array_equal(found.values, [0, 1, 0.5])
    assert found.seeds == (0, 1, 2)
    np.testing.assert_array_equal(np.unique(found.replicates), [0, 1])
    np.testing.assert_allclose(found.replicates[2].mean(), 0.5)
    assert improvement(a, sample([0.1], seeds=(9,))) is None
    a, b = (Sample((0,), np.zeros(1), np.array([replicates])) for replicates in ([0.2, 0.2], [np.nan, 0.1]))
    partly = improvement(a, b)
    assert partly is not None
    np.testing.assert_array_equal(partly.replicates, [[np.nan, 1]])


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
