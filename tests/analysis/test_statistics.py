"""Against slow loops, and against simulated worlds whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr, t

from benchmark.analysis.bootstrap import bootstrap
from benchmark.analysis.statistics import (
    ROUNDING,
    Sample,
    difference,
    estimate,
    example_error,
    failure,
    family_weights,
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
from support.laws import generators
from support.simulation import World


def sample(values: list[float], seeds: tuple[int, ...] | None = None) -> Sample:
    """A sample that is the same on every resample."""
    array = np.array(values, float)
    return Sample(seeds or tuple(range(len(values))), array, np.tile(array[:, None], 5))


@st.composite
def samples(draw: st.DrawFn, count: int) -> list[Sample]:
    """Of some of five seeds, on 20 resamples of which some are undefined; many values are equal, or nearly so."""
    rng, made = draw(generators), []
    for _ in range(count):
        seeds = sorted(draw(st.sets(st.integers(0, 4), min_size=1)))
        replicates = rng.integers(4, size=(len(seeds), 20)) / 10
        replicates[rng.random(replicates.shape) < 0.1] = np.nan
        values = rng.integers(4, size=len(seeds)) / 10 + rng.integers(2, size=len(seeds)) * 1e-9
        made.append(Sample(tuple(seeds), values, replicates))
    return made


# --- the two errors --------------------------------------------------------------------------------------------------


@given(generators, st.integers(1, 4), st.floats(0, 1))
def test_errors_are_standard_deviations_and_undefined_resamples_are_left_out(
    rng: np.random.Generator, S: int, undefined: float
) -> None:
    replicates = rng.normal(size=(S, 50)).astype(np.float32)
    replicates[rng.random(replicates.shape) < undefined] = np.nan
    expected = [np.std(own[~np.isnan(own)], dtype=float) if not np.isnan(own).all() else np.nan for own in replicates]
    np.testing.assert_allclose(example_error(replicates), expected, rtol=1e-6)
    np.testing.assert_allclose(example_error(replicates[0]), expected[0], rtol=1e-6)
    values = rng.normal(size=(3, S))
    expected = values.std(1, ddof=1) / np.sqrt(S) if S > 1 else np.full(3, np.nan)
    np.testing.assert_allclose(seed_error(values), expected)


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

errors = st.floats(0.01, 10)


freedoms = st.one_of(st.integers(1, 30), st.floats(1, 60))


@given(st.floats(0.01, 10), errors, errors, freedoms)
def test_a_p_value_is_where_the_interval_reaches_zero(mean: float, seeds: float, examples: float, df: float) -> None:
    p = float(p_value(mean, seeds, examples, df))
    assert p == p_value(-mean, seeds, examples, df)
    if p > 1e-190:
        assert float(half_width(p, seeds, examples, df)) == pytest.approx(mean, rel=1e-9)
    for alpha in (0.5, 0.05, 0.001):
        assert (p < alpha) == (mean > half_width(alpha, seeds, examples, df))


@given(st.floats(0.01, 30), freedoms)
def test_p_values_are_known_ones_when_only_one_error_counts(mean: float, df: float) -> None:
    assert p_value(mean, 1.0, 0.0, df) == pytest.approx(2 * t.sf(mean, df), rel=1e-9)
    assert p_value(mean, 0.0, 1.0, df) == pytest.approx(2 * norm.sf(mean), rel=1e-9)


def test_p_values_without_any_error() -> None:
    assert p_value(0.0, 0.0, 0.0, 4) == 1
    assert p_value(0.0, 1.0, 1.0, 4) == 1
    assert p_value(0.1, 0.0, 0.0, 4) < 1e-190
    assert np.isnan(p_value(0.1, np.nan, 0.1, 1))
    assert np.isnan(p_value(0.1, 0.1, np.nan, 5))


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from((0.01, np.nan)))))
def test_holm_steps_down(p: list[float]) -> None:
    """The ith smallest times how many are not smaller, at least the one before; what is undefined counts as 1."""
    adjusted, below = {}, 0.0
    counted = sorted((1.0 if np.isnan(value) else value, i) for i, value in enumerate(p))
    for i, (value, at) in enumerate(counted):
        adjusted[at] = below = max(below, min(1, value * (len(p) - i)))
    np.testing.assert_allclose(holm(p), [adjusted[i] for i in range(len(p))])


def test_holm_is_what_r_gives() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


# --- intervals cover what they say -----------------------------------------------------------------------------------

# skills: the method, another, the floor, the ceiling
SKILLS = (0.4, 0.0, -0.6, 2.0)
REGIMES = {
    "seeds and examples": World(SKILLS),
    "mostly examples, one split": World(SKILLS, own=0.02, shared=0.0, tested=300),
    "mostly examples, overlapping splits": World(SKILLS, own=0.02, shared=0.0),
    "mostly seeds": World(SKILLS, own=1.0, shared=0.5),
}


def recovered(student: Sample, floor: Sample, ceiling: Sample) -> Sample | None:
    """PGR where all three are of the same examples."""
    gain, gap = difference(student, floor), difference(ceiling, floor)
    return recovered_gap(gain, gap) if gain and gap else None


def coverage(world: World, worlds: int = 250, tasks: int = 3) -> dict[str, float]:
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
        pgr = [recovered(task[0], task[2], task[3]) for task in at_home]
        check("PGR", list(pgr), (method - floor) / (ceiling - floor))
        drop = [difference(there[0], here[0]) for there, here in zip(away, at_home, strict=True)]
        check("OOD minus InD", list(drop), shifted - method)
    return {name: float(np.mean(found)) for name, found in hits.items()}


@pytest.mark.parametrize("regime", REGIMES)
def test_intervals_cover(regime: str) -> None:
    """At least 95% within what 250 worlds can tell (two standard errors are 2.8 points)."""
    found = coverage(REGIMES[regime])
    whole = {name: share for name, share in found.items() if "alone" not in name}
    share = whole.pop("improvement")  # of 15 runs that are won or lost: few values, a shorter interval when all are won
    assert share >= 0.9
    assert len(whole) == 6
    assert min(whole.values()) >= 0.922, whole
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


families = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)


@given(families)
def test_tasks_weigh_alike_in_their_family_and_families_alike(names: list[str]) -> None:
    """So that a mean is that over families of means over their tasks."""
    weights, values = family_weights(names), np.random.default_rng(0).random(len(names))
    by_family = [np.mean([v for v, name in zip(values, names, strict=True) if name == one]) for one in set(names)]
    assert weights @ values == pytest.approx(np.mean(by_family))
    np.testing.assert_allclose(family_weights(["a"] * len(names)), 1 / len(names))


@given(families.flatmap(lambda names: st.tuples(st.just(names), samples(len(names)))), st.booleans())
def test_an_estimate_joins_both_errors_over_tasks_paired_by_seed(
    made: tuple[list[str], list[Sample]], plain: bool
) -> None:
    """Seeds that a task lacks count in the mean; in the interval only seeds that all have do."""
    names, tasks = made
    found = estimate(tasks) if plain else estimate(tasks, family_weights(names))

    def over(values: list[float]) -> float:
        """Over families of means over their tasks."""
        of = {name: [v for v, own in zip(values, names, strict=True) if plain or own == name] for name in names}
        return float(np.mean([np.mean(own) for own in of.values()]))

    assert found.mean == pytest.approx(over([task.values.mean() for task in tasks]))
    common = sorted(set.intersection(*(set(task.seeds) for task in tasks)))
    S, per_seed = len(common), [over([task.on([seed]).mean for task in tasks]) for seed in common]
    by_seed = np.std(per_seed, ddof=1) / np.sqrt(S) if S > 1 else np.nan
    drawn = np.array([[plain_mean(own) for own in task.replicates.T] for task in tasks])
    resamples = np.array([over(list(values)) for values in drawn.T])
    by_example = plain_mean(np.square(resamples - plain_mean(resamples))) ** 0.5
    assert (found.seed_error, found.example_error) == pytest.approx((by_seed, by_example), nan_ok=True)
    assert (found.freedom, found.tasks) == (max(S - 1, 1), len(tasks))
    assert found.runs == sum(len(task.seeds) for task in tasks)
    assert found.example_half == pytest.approx(1.959964 * by_example, nan_ok=True)
    assert found.half == pytest.approx(np.hypot(t.ppf(0.975, S - 1) * by_seed, 1.959964 * by_example), nan_ok=True)
    assert found.p == pytest.approx(p_value(found.mean, by_seed, by_example, max(S - 1, 1)), rel=1e-3, nan_ok=True)


@given(generators, st.lists(st.sampled_from("xyz"), min_size=1, max_size=6), st.integers(2, 6))
def test_the_variance_of_differences_is_pooled_over_blocks(rng: np.random.Generator, blocks: list[str], S: int) -> None:
    """V = sum_b s_b^2 / S and Satterthwaite's degrees of freedom, from loops over blocks, seeds and tasks."""
    T = len(blocks)
    values, weights = rng.normal(size=(T, S)) * rng.choice([0.01, 1, 5], size=(T, 1)), rng.random(T)
    tasks = [Sample(tuple(range(S)), own, own[:, None].repeat(2, 1)) for own in values]
    found = estimate(tasks, weights, blocks)
    variances = []
    for block in set(blocks):
        sums = [sum(weights[i] * values[i][s] for i in range(T) if blocks[i] == block) for s in range(S)]
        variances.append(sum((one - sum(sums) / S) ** 2 for one in sums) / (S - 1))
    assert found.seed_error == pytest.approx(np.sqrt(sum(variances) / S))
    df = (S - 1) * sum(variances) ** 2 / sum(variance**2 for variance in variances)
    assert found.freedom == pytest.approx(df)
    assert S - 1 - 1e-9 <= df <= (S - 1) * len(variances) + 1e-9
    alone = estimate(tasks, weights)
    assert estimate(tasks, weights, ["one"] * T) == alone
    assert (alone.mean, alone.example_error) == (found.mean, found.example_error)


def test_what_blocks_lack() -> None:
    """One with other seeds has its own number of them; of one seed nothing is known; what never varies has no error."""
    two, three, one = sample([0.0, 1.0]), sample([0.0, 1.0, 5.0], seeds=(3, 4, 5)), sample([1.0], seeds=(7,))
    found = estimate([two, three], np.ones(2), "ab")
    assert found.seed_error**2 == pytest.approx(0.5 / 2 + 7 / 3)
    assert found.freedom == pytest.approx((0.25 + 7 / 3) ** 2 / (0.25**2 / 1 + (7 / 3) ** 2 / 2))
    assert np.isnan(estimate([two, three], np.ones(2)).half), "no seed in common"
    assert np.isnan(estimate([two, one], np.ones(2), "ab").half)
    still = estimate([sample([0.25, 0.25, 0.25]), sample([0.5, 0.5, 0.5])], None, "ab")
    assert (still.half, still.freedom) == (0, 2)


# of a suite's tasks: one family of several, one of variants that share a pool, one of a task alone
FAMILIES, POOLS = "aaabbbc", "abcdddg"


@pytest.mark.parametrize("world", [World((0.4, 0.0), own=0.4), World((0.4, 0.0), own=1.0, shared=0.5, seeds=10)])
def test_pooled_intervals_cover(world: World) -> None:
    """As often as they say, and they are shorter than those of seed means.

    Where test examples are most of the error, they cover more, as all intervals here (`test_intervals_cover`).
    """
    weights, rng = family_weights(FAMILIES), np.random.default_rng(1)
    hits, halves = [], []
    for tasks in world.tasks(world.seed_effects(600, 5, rng), rng):
        gains = [gain for one, other in tasks if (gain := difference(one, other))]
        gains = [*gains[:4], gains[3], gains[3], gains[4]]  # of one pool, where differences are the same
        pooled, alone = (estimate(gains, weights, names) for names in (POOLS, None))
        hits.append(abs(pooled.mean - (world.truth(0.4) - world.truth(0.0))) <= pooled.half)
        halves.append((pooled.half, alone.half))
    assert 0.93 <= np.mean(hits) <= 0.97
    shorter, longer = np.mean(halves, axis=0)
    assert shorter < longer


def plain_mean(values: NDArray[np.float64]) -> float:
    """Of what is defined."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else np.nan


def test_independent_tasks_average_out() -> None:
    rng = np.random.default_rng(0)
    tasks = [Sample((0, 1), np.zeros(2), rng.normal(0, 0.1, (1, 4000)).repeat(2, 0)) for _ in range(4)]
    assert estimate(tasks).example_error == pytest.approx(estimate(tasks[:1]).example_error / 2, rel=0.08)


# --- differences, PGR, failures, weights -----------------------------------------------------------------------------

PAIRED: dict[Callable[[Sample, Sample], Sample | None], Callable[[float], float]] = {
    difference: lambda gain: gain,
    improvement: lambda gain: 1.0 if gain > ROUNDING else 0.0 if gain < -ROUNDING else 0.5,
    failure: lambda gain: 1.0 if gain < -ROUNDING else 0.0,  # equal is no failure
}


@pytest.mark.parametrize("quantity", PAIRED)
@given(samples(2))
def test_quantities_are_paired_by_seed_and_by_resample(
    quantity: Callable[[Sample, Sample], Sample | None], pair: list[Sample]
) -> None:
    a, b = pair
    found, common = quantity(a, b), [seed for seed in a.seeds if seed in b.seeds]
    if found is None:
        assert not common
        return
    assert found.seeds == tuple(common)
    for seed, value, replicates in zip(common, found.values, found.replicates, strict=True):
        i, j = a.seeds.index(seed), b.seeds.index(seed)
        assert value == pytest.approx(PAIRED[quantity](a.values[i] - b.values[j]))
        for one, x, y in zip(replicates, a.replicates[i], b.replicates[j], strict=True):
            assert one == pytest.approx(np.nan if np.isnan(x - y) else PAIRED[quantity](x - y), nan_ok=True)


@given(generators, st.integers(2, 5))
def test_pgr_is_the_ratio_of_seed_means(rng: np.random.Generator, S: int) -> None:
    """Not the mean of ratios; so on each resample, linearised around it."""
    floor, ceiling, student = (
        Sample(tuple(range(S)), x, x[:, None] + rng.normal(0, 0.05, (S, 50)))
        for x in (rng.uniform(0, 0.5, S), rng.uniform(0.5, 1, S), rng.uniform(0, 1, S))
    )
    gap = ceiling.mean - floor.mean
    assume(gap >= 0.02)
    ratio = (student.mean - floor.mean) / gap
    for row, expected in ((floor, 0), (ceiling, 1), (student, ratio)):
        found = recovered(row, floor, ceiling)
        assert found is not None
        assert found.mean == pytest.approx(expected, abs=1e-12)
        low = floor.mean_replicates
        linear = expected + (row.mean_replicates - low - expected * (ceiling.mean_replicates - low)) / gap
        np.testing.assert_allclose(found.mean_replicates, linear, atol=1e-12)


def test_pgr_is_undefined_below_two_points_of_gap() -> None:
    floor = sample([0.50, 0.60])
    assert recovered(floor, floor, sample([0.50, 0.63])) is None  # 1.5 points
    assert recovered(floor, floor, sample([0.52, 0.62])) is not None  # 2 points
    assert recovered(floor, floor, sample([0.40, 0.50])) is None  # the ceiling is below
    assert not gap_defined(difference(sample([0.9], seeds=(7,)), floor))


def test_pgr_is_decided_for_all_methods_alike() -> None:
    floor = sample([0.5, 0.5, 0.5])
    ceiling = sample([0.5, 0.5, 0.55])  # 1.7 points over all seeds, 2.5 over the last two
    assert recovered(sample([0.5, 0.5], seeds=(1, 2)), floor, ceiling) is None
    wide = sample([0.5, 0.5, 0.6])
    assert recovered(sample([0.5, 0.5], seeds=(1, 2)), floor, wide) is not None
    assert recovered(sample([0.5, 0.5], seeds=(0, 1)), floor, wide) is None  # no gap on the seeds that it has


@pytest.mark.filterwarnings("error")
@given(generators, st.integers(2, 9), st.integers(1, 9))
def test_rank_correlation_is_spearmans(rng: np.random.Generator, M: int, distinct: int) -> None:
    weights, scores = rng.integers(distinct, size=M) / 5.0, rng.integers(2 * distinct, size=M) / 7.0
    found = rank_correlation(weights, scores)
    if len(set(weights)) > 1 and len(set(scores)) > 1:
        assert found == pytest.approx(spearmanr(weights, scores).statistic)
    else:
        assert np.isnan(found)
