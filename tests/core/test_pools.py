"""How examples are dealt: by group, by share, by seed; and never twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmark.base.errors import W2SError
from benchmark.core.data import SPLITS, Domain, Pool
from benchmark.core.pools import deal_by_group, draw_pairs, draw_pool, preferred, sample_pairs, source_parts, used
from benchmark.core.problems import data_fingerprint
from support.laws import blobs, conditions, generators, seeds
from support.made_up import Blobs


def domains_of(task: Blobs) -> dict[str, Domain]:
    return {name: task.domain(name) for name in task.DOMAINS}


def pool_of(task: Blobs, condition: str = "ood", seed: int = 0) -> Pool:
    return draw_pool(task, domains_of(task), condition, seed)


def sizes_of(pool: Pool) -> list[int]:
    return [len(pool.examples[split]) for split in SPLITS]


class Members:
    """What stands at each position of a pool's inputs: its domain's number, position in it, group and label."""

    def __init__(self, task: Blobs, pool: Pool) -> None:
        own = [domains_of(task)[name] for name in pool.domains]
        self.domain = np.repeat(np.arange(len(own)), [len(domain.labels) for domain in own])
        self.position = np.concatenate([np.arange(len(domain.labels)) for domain in own])
        self.group = np.concatenate([domain.groups for domain in own]) + 10_000 * self.domain
        self.label = np.concatenate([domain.labels for domain in own])


def disjoint(*sets: NDArray[np.int64]) -> bool:
    return all(not np.intersect1d(a, b).size for a, b in combinations(sets, 2))


# a few large groups, many small ones, ids anywhere
group_ids = st.tuples(generators, st.integers(1, 400), st.integers(1, 400), st.integers(1, 10**9)).map(
    lambda own: own[0].integers(own[2], size=own[1]) ** 2 * own[3] - 7
)


@given(group_ids, st.sampled_from([(0.7, 0.1, 0.2), (0.6, 0.4), (0.3, 0.7)]), seeds)
def test_groups_are_dealt_whole_and_shares_are_met_to_within_a_group(
    groups: NDArray[np.int64], shares: tuple[float, ...], seed: int
) -> None:
    parts = deal_by_group(groups, shares, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    assert disjoint(*(groups[part] for part in parts))
    largest = np.unique(groups, return_counts=True)[1].max()
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * len(groups)) <= largest
    again = deal_by_group(groups, shares, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@given(blobs(), seeds)
def test_source_parts_share_no_group_and_leave_out_what_the_task_leaves_out(task: Blobs, seed: int) -> None:
    domain = task.domain("left")
    first, second = source_parts(domain, 0.6, seed)
    assert disjoint(domain.groups[first], domain.groups[second])
    left_out = np.isnan(domain.labels) if domain.labels.dtype.kind == "f" else domain.labels < 0
    assert sorted([*first, *second]) == np.flatnonzero(~left_out).tolist() == used(domain).tolist()
    assert abs(len(first) - 0.6 * len(used(domain))) <= 4
    assert not np.array_equal(first, source_parts(domain, 0.6, seed + 1)[0])


@given(blobs(), conditions, seeds)
def test_a_pool(task: Blobs, condition: str, seed: int) -> None:
    pool, ratings = pool_of(task, condition, seed), task.card.modality == "preference"
    of = Members(task, pool)
    everything = np.concatenate([pool.examples[split].ravel() for split in SPLITS])

    # nothing twice, nothing that is left out, no group in two splits, nothing that supervisors see
    assert len(set(everything.tolist())) == len(everything)
    assert np.isfinite(of.label[everything]).all() if ratings else (of.label[everything] >= 0).all()
    assert disjoint(*(of.group[pool.examples[split]] for split in SPLITS))
    assert pool.domains == (("there",) if condition == "ood" else ("left", "right"))
    for k, name in enumerate(pool.domains):
        own = everything[of.domain[everything] == k]
        assert own.size
        if condition == "ind":
            domain = task.domain(name)
            seen, _ = source_parts(domain, task.source_share, seed)
            assert disjoint(of.position[own], seen)
            assert disjoint(of.group[own], domain.groups[seen] + 10_000 * k)

    # a round size, split 70/10/20
    size = 10 * round(len(pool.examples["train"]) / 7)
    assert size % (100 if size >= 1000 else 10) == 0
    assert sizes_of(pool)[::2] == [round(0.7 * size), round(0.2 * size)]
    assert len(pool.examples["val"]) <= round(0.1 * size)

    # labels are those of the examples; pairs are of one domain and keep the gap, in either order
    for split in SPLITS:
        examples = pool.examples[split]
        if ratings:
            first, second = examples.T
            assert (of.domain[first] == of.domain[second]).all()
            assert np.abs(of.label[first] - of.label[second]).min(initial=9) >= task.pair_gap
            np.testing.assert_array_equal(pool.labels[split], of.label[second] > of.label[first])
        else:
            np.testing.assert_array_equal(pool.labels[split], of.label[examples])
    if ratings:
        labels = np.concatenate([pool.labels[split] for split in SPLITS])
        assert abs(labels.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(labels))

    # the seed decides, and nothing else
    np.random.seed(seed % 2)  # noqa: NPY002 (the global state must not matter)
    again, other = pool_of(task, condition, seed), pool_of(task, condition, seed + 1)
    for split in SPLITS:
        for field in ("examples", "labels", "groups"):
            np.testing.assert_array_equal(getattr(pool, field)[split], getattr(again, field)[split])
    train = pool.examples["train"].ravel()
    assert not np.array_equal(np.sort(train), train), "order is random"
    assert set(train) != set(other.examples["train"].ravel())
    one, two = ids_of(of, pool), ids_of(of, other)
    assert all(one[group] == two[group] for group in one.keys() & two.keys()), "an id means the same in every seed"


def ids_of(of: Members, pool: Pool) -> dict[int, int]:
    """Group -> its id in the pool, of which each has one of its own."""
    leading = np.concatenate([pool.examples[split].reshape(len(pool.examples[split]), -1)[:, 0] for split in SPLITS])
    pairs = set(zip(of.group[leading].tolist(), np.concatenate([pool.groups[s] for s in SPLITS]).tolist(), strict=True))
    assert len(pairs) == len({group for group, _ in pairs}) == len({own for _, own in pairs})
    return dict(pairs)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (15, [7, 1, 2]),
        (108, [70, 10, 20]),
        (537, [371, 53, 106]),
        (1005, [700, 100, 200]),
        (1279, [840, 120, 240]),
        (4100, [2800, 400, 800]),
        (20_000, [2800, 400, 800]),
    ],
)
def test_pools_have_round_sizes_of_at_most_4000(n: int, sizes: list[int]) -> None:
    assert sizes_of(pool_of(Blobs((10, 10, n)))) == sizes_of(pool_of(Blobs((10, 10, n)), seed=1)) == sizes


def test_seeds_have_pools_of_one_size() -> None:
    """Only then do they train together; what groups of several and pairs leave varies a little."""
    task = Blobs((1000, 1000, 3050), group_size=3)
    for condition in ("ood", "ind"):
        sizes = [sizes_of(pool_of(task, condition, seed)) for seed in range(5)]
        assert len({(train, test) for train, _, test in sizes}) == 1


@given(blobs(), conditions, seeds, st.sets(st.integers(2, 120)))
def test_train_splits_of_few_sizes(task: Blobs, condition: str, seed: int, sizes: set[int]) -> None:
    """Each is the largest of the sizes that it has, a part of the whole one; nothing is taken from the test split."""
    try:
        whole = pool_of(task, condition, seed)
    except W2SError:
        assume(False)
    before = data_fingerprint(task)
    task.train_sizes = tuple(sizes)
    cut, n = pool_of(task, condition, seed), sizes_of(whole)[0]
    kept = max((size for size in sizes if size <= n), default=n)
    assert sizes_of(cut)[0] == kept
    for split in SPLITS:
        rows = whole.examples[split] if split == "test" else whole.examples[split][: len(cut.examples[split])]
        np.testing.assert_array_equal(cut.examples[split], rows)
    assert (data_fingerprint(task) == before) == (not sizes)


def test_a_mixed_pool_has_the_same_share_of_each_domain_in_train_and_test() -> None:
    """Also where one domain has a few large groups that cannot be dealt evenly."""
    task = Blobs((600, 900, 100))
    original = task.domain

    def domain(name: str) -> Domain:
        found = original(name)
        return replace(found, groups=np.arange(len(found.labels)) // 180) if name == "right" else found

    task.domain = domain  # type: ignore[method-assign]
    for seed in range(5):
        pool = pool_of(task, "ind", seed)
        right = {split: Members(task, pool).domain[pool.examples[split]].mean() for split in SPLITS}
        assert 0.2 < right["train"] < 0.8
        assert abs(right["train"] - right["test"]) < 0.06


def test_tasks_with_the_same_target_share_its_pool() -> None:
    """So that features, supervisors and the broken variant of a task can be compared example by example."""
    one, two = pool_of(Blobs((40, 40, 130))), pool_of(Blobs((60, 20, 130), name="other"))
    np.testing.assert_array_equal(one.examples["train"], two.examples["train"])


@given(generators, st.integers(0, 200), st.sampled_from((0.5, 1.0, 3.0)), seeds)
def test_pairs_keep_the_gap_and_use_a_text_once(rng: np.random.Generator, n: int, gap: float, seed: int) -> None:
    ratings = rng.uniform(-4, 4, n)
    pairs = draw_pairs(ratings, None, gap, np.random.default_rng(seed))
    assert len(set(pairs.ravel().tolist())) == pairs.size
    assert (np.abs(np.diff(ratings[pairs])) >= gap).all()
    left = np.delete(ratings, pairs.ravel())
    assert n < 50 or gap > 1 or len(left) < 10 + n / 20, "nearly every text that can be paired is"
    np.testing.assert_array_equal(draw_pairs(ratings, 7, gap, np.random.default_rng(seed)), pairs[:7])


@given(generators, st.integers(20, 60), seeds)
def test_training_pairs_may_use_a_text_again_but_keep_the_gap(rng: np.random.Generator, n: int, seed: int) -> None:
    ratings = rng.uniform(-4, 4, n)
    assume(np.ptp(ratings) > 4)
    pairs = sample_pairs(ratings, 200, 1.0, np.random.default_rng(seed))
    assert pairs.shape == (200, 2)
    assert np.abs(np.diff(ratings[pairs])).min() >= 1
    assert 0.3 < preferred(ratings, pairs).mean() < 0.7
    assert len({tuple(pair) for pair in pairs.tolist()}) > 50


def test_ratings_without_a_gap_are_an_error() -> None:
    with pytest.raises(W2SError, match="no two of 30 ratings differ by 1"):
        sample_pairs(np.linspace(0, 0.5, 30), 10, 1.0, np.random.default_rng(0))
    task = Blobs((50, 50, 200), ratings=True)
    task.pair_gap = 100.0
    with pytest.raises(W2SError, match="a split is empty"):
        pool_of(task)


@pytest.mark.parametrize(
    ("task", "condition"),
    [
        (Blobs((50, 50, 8)), "ood"),
        (Blobs((50, 50, 0)), "ood"),
        (Blobs((6, 6, 50)), "ind"),
        (Blobs((50, 50, 400), group_size=200), "ood"),
        (Blobs((50, 50, 200), unused=1.0), "ood"),
    ],
    ids=["few", "none", "few sources", "two groups", "all left out"],
)
def test_an_empty_split_is_an_error_that_names_the_task_the_condition_and_the_seed(task: Blobs, condition: str) -> None:
    with pytest.raises(W2SError, match=rf"task 'blobs' \({condition}, seed 3\): a split is empty or too small \(train"):
        pool_of(task, condition, seed=3)
