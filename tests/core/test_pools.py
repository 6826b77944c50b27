"""How examples are dealt: by group, by share, by seed; and never twice."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from support.made_up import Blobs

from benchmark.base.errors import W2SError
from benchmark.core.data import SPLITS, Domain, Pool
from benchmark.core.pools import deal_by_group, draw_pairs, draw_pool, preferred, sample_pairs, source_parts, used


def domains_of(task: Blobs) -> dict[str, Domain]:
    return {name: task.domain(name) for name in task.DOMAINS}


def pool_of(task: Blobs, condition: str = "ood", seed: int = 0) -> Pool:
    return draw_pool(task, domains_of(task), condition, seed)


def members(task: Blobs, pool: Pool) -> dict[str, list[tuple[str, int, int]]]:
    """Split -> (domain, position in it, group in it) of every text or image in the pool."""
    domains = domains_of(task)
    ends = np.cumsum([len(domains[name].labels) for name in pool.domains])
    found = {}
    for split in SPLITS:
        found[split] = []
        for position in pool.examples[split].ravel():
            k = int(np.searchsorted(ends, position, side="right"))
            name, own = pool.domains[k], int(position - (ends[k - 1] if k else 0))
            found[split].append((name, own, int(domains[name].groups[own])))
    return found


def sizes_of(pool: Pool) -> list[int]:
    return [len(pool.examples[split]) for split in SPLITS]


GROUPS = {
    "alone": np.arange(1000),
    "threes": np.arange(999) // 3,
    "skewed": np.repeat(np.arange(60), np.arange(1, 61)),
    "negative and far": np.repeat([-7, 10**9, 3, 4, 5, 6, 8, 9, 11, 12], 100),
    "few": np.repeat(np.arange(7), 300),
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.2), (0.6, 0.4), (0.3, 0.7)])
def test_groups_are_dealt_whole_and_shares_are_met_to_within_a_group(name: str, shares: tuple[float, ...]) -> None:
    groups = np.random.default_rng(1).permutation(GROUPS[name])
    parts = deal_by_group(groups, shares, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    for a, b in combinations(parts, 2):
        assert not set(groups[a]) & set(groups[b])
    largest = np.unique(groups, return_counts=True)[1].max()
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * len(groups)) <= largest
    again = deal_by_group(groups, shares, np.random.default_rng(0))
    other = deal_by_group(groups, shares, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(parts, other, strict=True))


def test_source_parts_share_no_group_and_leave_out_what_the_task_leaves_out() -> None:
    for ratings in (False, True):
        domain = Blobs((600, 10, 10), group_size=4, unused=0.2, ratings=ratings).domain("left")
        first, second = source_parts(domain, 0.6, seed=3)
        assert not set(domain.groups[first]) & set(domain.groups[second])
        assert sorted([*first, *second]) == used(domain).tolist()
        left_out = ~np.isfinite(domain.labels) if ratings else domain.labels < 0
        assert 80 < left_out.sum() < 160
        assert not left_out[first].any()
        assert not left_out[second].any()
        assert len(first) / (len(first) + len(second)) == pytest.approx(0.6, abs=0.02)
        other, _ = source_parts(domain, 0.6, seed=4)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("condition", ["ood", "ind"])
@pytest.mark.parametrize("ratings", [False, True])
def test_no_group_and_no_example_is_in_two_splits(condition: str, ratings: bool) -> None:
    task = Blobs((900, 700, 1000), group_size=3, unused=0.1, ratings=ratings)
    for seed in range(3):
        pool = pool_of(task, condition, seed)
        found = members(task, pool)
        everyone = [(name, position) for split in SPLITS for name, position, _ in found[split]]
        assert len(everyone) == len(set(everyone))
        of = {split: {(name, group) for name, _, group in found[split]} for split in SPLITS}
        for a, b in combinations(SPLITS, 2):
            assert not of[a] & of[b]
        assert any(len(of[split]) < len(found[split]) for split in SPLITS), "groups were indeed larger than one"


@pytest.mark.parametrize("ratings", [False, True])
def test_the_ind_pool_has_nothing_of_what_supervisors_see(ratings: bool) -> None:
    task = Blobs((400, 300, 100), group_size=3, ratings=ratings)
    domains = domains_of(task)
    for seed in range(3):
        pool = pool_of(task, "ind", seed)
        assert pool.domains == ("left", "right")
        found = [item for split in SPLITS for item in members(task, pool)[split]]
        assert {name for name, _, _ in found} == {"left", "right"}
        for name in pool.domains:
            seen, _ = source_parts(domains[name], task.source_share, seed)
            assert not {i for n, i, _ in found if n == name} & set(seen.tolist())
            assert not {g for n, _, g in found if n == name} & set(domains[name].groups[seen].tolist())


def test_the_ood_pool_is_the_target() -> None:
    pool = pool_of(Blobs((50, 50, 130)), "ood")
    assert pool.domains == ("there",)
    assert max(pool.examples[split].max() for split in SPLITS) < 130


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
    task = Blobs((10, 10, n))
    for seed in range(2):
        assert sizes_of(pool_of(task, "ood", seed)) == sizes


def test_seeds_have_pools_of_one_size() -> None:
    """Only then do they train together; what groups of several and pairs leave varies a little."""
    task = Blobs((1000, 1000, 3050), group_size=3)
    for condition in ("ood", "ind"):
        sizes = [sizes_of(pool_of(task, condition, seed)) for seed in range(5)]
        assert len({(train, test) for train, _, test in sizes}) == 1


def test_a_mixed_pool_has_the_same_share_of_each_domain_in_train_and_test() -> None:
    """Also where one domain has a few large groups that cannot be dealt evenly."""
    task = Blobs((600, 900, 100), group_size=1)
    original = task.domain

    def domain(name: str) -> Domain:
        found = original(name)
        return replace(found, groups=np.arange(len(found.labels)) // 180) if name == "right" else found

    task.domain = domain  # type: ignore[method-assign]
    for seed in range(5):
        share = {}
        for split, found in members(task, pool_of(task, "ind", seed)).items():
            share[split] = sum(name == "right" for name, _, _ in found) / len(found)
        assert 0.2 < share["train"] < 0.8
        assert abs(share["train"] - share["test"]) < 0.06


@pytest.mark.parametrize("condition", ["ood", "ind"])
def test_pairs_are_of_one_domain(condition: str) -> None:
    task = Blobs((300, 250, 200), ratings=True)
    domains = domains_of(task)
    pool = pool_of(task, condition)
    ends = np.cumsum([len(domains[name].labels) for name in pool.domains])
    for split in SPLITS:
        of = np.searchsorted(ends, pool.examples[split], side="right")
        assert (of[:, 0] == of[:, 1]).all()


@pytest.mark.parametrize("condition", ["ood", "ind"])
def test_labels_and_groups_belong_to_their_examples(condition: str) -> None:
    task = Blobs((300, 200, 250), group_size=2, unused=0.2)
    pool, domains = pool_of(task, condition), domains_of(task)
    labels = np.concatenate([domains[name].labels for name in pool.domains])
    found = members(task, pool)
    ids: dict[tuple[str, int], int] = {}
    for split in SPLITS:
        np.testing.assert_array_equal(pool.labels[split], labels[pool.examples[split]])
        assert pool.labels[split].min() >= 0
        for (name, _, group), given in zip(found[split], pool.groups[split], strict=True):
            assert ids.setdefault((name, group), int(given)) == given
    assert len(set(ids.values())) == len(ids), "groups of different domains keep different ids"


def test_a_group_id_means_the_same_group_in_every_seed() -> None:
    task = Blobs((300, 200, 250), group_size=5)
    ids: dict[int, tuple[str, int]] = {}
    for seed in range(4):
        pool = pool_of(task, "ind", seed)
        for split in SPLITS:
            for (name, _, group), given in zip(members(task, pool)[split], pool.groups[split], strict=True):
                assert ids.setdefault(int(given), (name, group)) == (name, group)


@pytest.mark.parametrize("condition", ["ood", "ind"])
@pytest.mark.parametrize("ratings", [False, True])
def test_a_seed_always_deals_alike_and_another_seed_otherwise(condition: str, ratings: bool) -> None:
    task = Blobs((300, 200, 250), group_size=2, ratings=ratings)
    np.random.seed(1)  # noqa: NPY002 (the global state must not matter)
    one = pool_of(task, condition, 5)
    np.random.seed(2)  # noqa: NPY002
    again, other = pool_of(task, condition, 5), pool_of(task, condition, 6)
    for split in SPLITS:
        for field in ("examples", "labels", "groups"):
            np.testing.assert_array_equal(getattr(one, field)[split], getattr(again, field)[split])
        assert set(one.examples[split].ravel()) != set(other.examples[split].ravel())
    assert not np.array_equal(np.sort(one.examples["train"].ravel()), one.examples["train"].ravel()), "order is random"


def test_tasks_with_the_same_target_share_its_pool() -> None:
    """So that features, supervisors and the broken variant of a task can be compared example by example."""
    one, two = pool_of(Blobs((40, 40, 130))), pool_of(Blobs((60, 20, 130), name="other"))
    np.testing.assert_array_equal(one.examples["train"], two.examples["train"])


@pytest.mark.parametrize("condition", ["ood", "ind"])
def test_pairs_keep_the_gap_use_a_text_once_and_stand_in_either_order(condition: str) -> None:
    task = Blobs((1200, 900, 1500), group_size=2, ratings=True)
    task.pair_gap = 1.5
    domains = domains_of(task)
    pool = pool_of(task, condition, 1)
    ratings = np.concatenate([domains[name].labels for name in pool.domains])
    groups = np.concatenate([domains[name].groups + 10_000 * i for i, name in enumerate(pool.domains)])
    ids: dict[int, int] = {}
    for split in SPLITS:
        pairs = pool.examples[split]
        assert pairs.shape == (len(pairs), 2)
        assert len(set(pairs.ravel().tolist())) == pairs.size
        gaps = np.abs(ratings[pairs[:, 0]] - ratings[pairs[:, 1]])
        assert gaps.min() >= 1.5
        assert (pool.labels[split] == (ratings[pairs[:, 1]] > ratings[pairs[:, 0]])).all()
        for first, given in zip(pairs[:, 0], pool.groups[split], strict=True):
            assert ids.setdefault(int(groups[first]), int(given)) == given
    labels = np.concatenate([pool.labels[split] for split in SPLITS])
    assert abs(labels.mean() - 0.5) < 3 * 0.5 / np.sqrt(len(labels))
    assert len(set(ids.values())) == len(ids)


def test_nearly_every_text_that_can_be_paired_is() -> None:
    ratings = np.random.default_rng(0).uniform(-4, 4, 1000)
    assert len(draw_pairs(ratings, None, 1.0, np.random.default_rng(0))) >= 490


def test_drawn_pairs_are_cut_to_the_count() -> None:
    ratings = np.random.default_rng(0).uniform(-4, 4, 100)
    rng = np.random.default_rng
    whole, cut = draw_pairs(ratings, None, 1.0, rng(0)), draw_pairs(ratings, 7, 1.0, rng(0))
    np.testing.assert_array_equal(cut, whole[:7])
    assert len(draw_pairs(np.zeros(10), None, 1.0, rng(0))) == 0


def test_training_pairs_may_use_a_text_again_but_keep_the_gap() -> None:
    ratings = np.random.default_rng(0).uniform(-4, 4, 30)
    pairs = sample_pairs(ratings, 200, 1.0, np.random.default_rng(0))
    assert pairs.shape == (200, 2)
    assert np.abs(ratings[pairs[:, 0]] - ratings[pairs[:, 1]]).min() >= 1
    assert 0.35 < preferred(ratings, pairs).mean() < 0.65
    assert len({tuple(pair) for pair in pairs.tolist()}) > 100


def test_ratings_without_a_gap_are_an_error() -> None:
    with pytest.raises(W2SError, match="no two of 30 ratings differ by 1"):
        sample_pairs(np.linspace(0, 0.5, 30), 10, 1.0, np.random.default_rng(0))


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


def test_a_preference_pool_without_pairs_is_an_error() -> None:
    task = Blobs((50, 50, 200), ratings=True)
    task.pair_gap = 100.0
    with pytest.raises(W2SError, match="a split is empty"):
        pool_of(task)
