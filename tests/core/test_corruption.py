"""Supervisors made worse: what each kind does to soft labels; levels are nested, and each supervisor has its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError
from benchmark.base.seeding import numpy_rng
from benchmark.core.corruption import KINDS, Corruption, Tagged, base_tags, firsts, levels, read_tags
from benchmark.core.data import SPLITS
from benchmark.core.problems import build_problem, data_fingerprint
from benchmark.core.soft_labels import check_probabilities
from benchmark.core.stress_variants import stress_variants
from benchmark.running.evaluation import evaluate
from benchmark.store.cache import Cache
from support.laws import seeds
from support.made_up import Blobs, Centroids, Columns, make_arrays
from support.rounding import assert_close

SoftLabels = dict[str, NDArray[np.float32]]


@pytest.fixture(autouse=True)
def counts() -> Iterator[None]:
    yield
    Columns.calls.clear()
    Centroids.seen.clear()


def supervision(M: int, K: int, seed: int) -> SoftLabels:
    """Random, but for one example of which all are sure, and one of which they are sure in part."""
    rng = np.random.default_rng(seed)
    given = {split: rng.dirichlet(np.full(K, 0.7), (n, M)).astype(np.float32) for split, n in SIZES.items()}
    given["test"][0] = np.eye(K)[0]
    given["test"][1, :, :2], given["test"][1, :, 2:] = (0.6, 0.4), 0
    return given


SIZES = {"train": 100, "val": 20, "test": 40}


def corrupt(kind: str, count: int, given: SoftLabels, seed: int = 0, first: int = 0) -> SoftLabels:
    return Corruption(kind, count, "base", first).apply(given, numpy_rng("corruption", "base", seed))


def changed(given: SoftLabels, made: SoftLabels) -> set[int]:
    """Supervisors whose soft labels differ in any split; corrupted ones differ in all."""
    differ = {
        split: {m for m in range(p.shape[1]) if (p[:, m] != made[split][:, m]).any()} for split, p in given.items()
    }
    assert all(found == differ["train"] for found in differ.values())
    return differ["train"]


def check_random(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    """The same answers, whole, to other examples."""
    assert sorted(map(tuple, before)) == sorted(map(tuple, after))
    assert (before == after).all(-1).mean() < 0.5


def check_adversarial(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    K = before.shape[-1]
    for k in range(K):
        np.testing.assert_array_equal(after[:, (k + 1) % K], before[:, k])


def check_power(before: NDArray[np.float32], after: NDArray[np.float32], power: float) -> None:
    powers = before.astype(np.float64) ** power
    assert_close(after, powers / powers.sum(-1, keepdims=True), 1)
    best = np.take_along_axis(after, before.argmax(-1, keepdims=True), -1)
    np.testing.assert_array_equal(best[:, 0], after.max(-1), "its most probable class stays")


def check_overconfident(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    check_power(before, after, 10)


def check_underconfident(before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
    check_power(before, after, 0.1)


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(2, 5), st.integers(2, 10), st.integers(0, 4), seeds)
def test_levels_are_nested_and_each_corrupts_as_its_kind_says(kind: str, M: int, K: int, first: int, seed: int) -> None:
    given, first = supervision(M, K, seed), first % M
    before = {split: p.copy() for split, p in given.items()}
    lower: SoftLabels | None = None
    for count in levels(kind, M):
        made = corrupt(kind, count, given, seed, first)
        others = changed(given, made)
        among = [(first + i) % M for i in range(count)]
        assert Corruption(kind, count, "base", first).among(M) == among
        assert others == set(among[kind == "copies" :]), "the one that is copied stays as it is"
        for split, p in made.items():
            assert p.dtype == np.float32
            check_probabilities(p, (SIZES[split], M, K), kind)
            np.testing.assert_array_equal(given[split], before[split])
            if kind == "copies":
                np.testing.assert_array_equal(p[:, [first]].repeat(count - 1, 1), p[:, sorted(others)])
            for m in others if kind != "copies" else ():
                CHECKS[kind](before[split][:, m], p[:, m])
            for m in changed(given, lower) if lower else ():
                np.testing.assert_array_equal(lower[split][:, m], p[:, m])
            np.testing.assert_array_equal(corrupt(kind, count, given, seed, first)[split], p)
        lower = made


CHECKS = {
    "random": check_random,
    "adversarial": check_adversarial,
    "overconfident": check_overconfident,
    "underconfident": check_underconfident,
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(2, 6))
def test_every_supervisor_is_corrupted_equally_often_and_first_once(kind: str, M: int) -> None:
    for count in levels(kind, M):
        made = [Corruption(kind, count, "base", first).among(M) for first in firsts(kind, count, M)]
        assert len(set(Counter(m for among in made for m in among).values())) == 1
        assert {m for among in made for m in among} == set(range(M))
        if count < M or kind == "copies":
            assert sorted(among[0] for among in made) == list(range(M))
        else:
            assert len(made) == 1, "another first would be the same task"


@pytest.mark.parametrize(("K", "said", "left"), [(2, 0.9, 0.55), (10, 0.9, 0.15)])
def test_an_underconfident_supervisor_is_nearly_uniform(K: int, said: float, left: float) -> None:
    p = np.full((1, 1, K), (1 - said) / (K - 1), np.float32)
    p[..., 0] = said
    assert corrupt("underconfident", 1, {"train": p})["train"].max() == pytest.approx(left, abs=0.006)


def test_random_answers_are_dealt_anew_to_each_and_seeds_differ() -> None:
    rng = np.random.default_rng(0)
    given = {"train": rng.dirichlet(np.ones(3), (400, 4)).astype(np.float32)}
    order = [np.argsort(made[:, m, 0]) for made in [corrupt("random", 4, given)["train"]] for m in (0, 1)]
    before = [np.argsort(given["train"][:, m, 0]) for m in (0, 1)]
    assert not np.array_equal(order[0][np.argsort(before[0])], order[1][np.argsort(before[1])])
    assert len({corrupt("random", 1, given, seed)["train"].tobytes() for seed in range(20)}) == 20


def test_bad_corruptions_are_refused() -> None:
    with pytest.raises(W2SError, match="unknown kind of corruption 'randon': did you mean 'random'"):
        Corruption("randon", 1, "base")
    with pytest.raises(W2SError, match="corruption 'random' of 0 supervisors: expected at least 1"):
        Corruption("random", 0, "base")
    with pytest.raises(W2SError, match="corruption 'copies' of 1 supervisors: expected at least 2"):
        Corruption("copies", 1, "base")
    four = {"train": np.full((9, 4, 2), 0.5, np.float32)}
    with pytest.raises(W2SError, match="of 5 supervisors from number 1 on: there are only 4"):
        corrupt("random", 5, four)
    with pytest.raises(W2SError, match="of 1 supervisors from number 5 on: there are only 4"):
        corrupt("random", 1, four, first=4)


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_the_variants_of_a_task(tmp_path: Path) -> None:
    base = Blobs()
    tasks = {task.name: task for task in stress_variants(base)}
    assert list(tasks) == [
        "stress-blobs",
        *(f"stress-blobs-random-{level}" for level in ("1-1", "1-2", "1-3", "2-1", "2-2", "2-3", "3")),
        *(f"stress-blobs-adversarial-{level}" for level in ("1-1", "1-2", "1-3", "2-1", "2-2", "2-3")),
        *(f"stress-blobs-overconfident-{level}" for level in ("1-1", "1-2", "1-3", "2-1", "2-2", "2-3", "3")),
        *(f"stress-blobs-underconfident-{level}" for level in ("1-1", "1-2", "1-3", "2-1", "2-2", "2-3", "3")),
        *(f"stress-blobs-copies-{level}" for level in ("2-1", "2-2", "2-3", "3-1", "3-2", "3-3")),
    ]
    assert (base.name, base.corruption, base.card.tags) == ("blobs", None, ())
    told = f"{base.card.shift}; 2 of 3 supervisors (3, 1): random answers"
    assert tasks["stress-blobs-random-2-3"].card.shift == told
    for task in tasks.values():
        made, evaluated = task.corruption, evaluate(task, [build_problem(task, "ood", 0, Cache(tmp_path))])
        expected = Tagged("blobs", made.kind, made.count, made.first + 1) if made else Tagged("blobs")
        assert read_tags(evaluated.tags) == expected
        assert evaluated.family == base.family == "blobs", "one family with the base, which names none"
    assert len({data_fingerprint(task) for task in tasks.values()}) == len(tasks)


@given(
    st.sampled_from(list(KINDS)),
    st.integers(2, 99),
    st.integers(0, 99),
    st.sampled_from(["a", "solar-mono-to-poly", "b=c"]),
)
def test_tags_say_what_a_task_is(kind: str, count: int, first: int, base: str) -> None:
    corruption = Corruption(kind, count, base, first)
    assert read_tags(("broken", *corruption.tags, "x=y")) == Tagged(base, kind, count, first + 1)
    assert read_tags(corruption.tags[:-1]) == Tagged(base, kind, count, 0), "of version 1, which drew them by seed"
    assert read_tags(base_tags(base)) == Tagged(base)
    assert corruption.fingerprint("f").partition("+")[0] == "f"


def test_tags_of_other_tasks_say_nothing() -> None:
    assert read_tags(()) is read_tags(("broken",)) is read_tags(("stress",)) is None
    assert read_tags(("base=a",)) is read_tags((*base_tags("a"), "kind=random")) is None
    assert read_tags((*base_tags("a"), "kind=random", "count=many")) is None
    assert read_tags((*base_tags("a"), "kind=spam", "count=1")) is None


@pytest.mark.parametrize("ratings", [False, True])
@pytest.mark.parametrize("condition", ["ood", "ind"])
def test_variants_differ_in_soft_labels_only_and_share_the_cache(tmp_path: Path, condition: str, ratings: bool) -> None:
    """Both conditions corrupt the same supervisors in the same way."""
    cache = Cache(tmp_path)
    base = Blobs(ratings=ratings)
    plain = build_problem(base, condition, 1, cache)
    for what in (Columns.calls, Centroids.seen, base.loads):
        what.clear()
    for task in stress_variants(base):
        problem = build_problem(task, condition, 1, cache)
        assert (Columns.calls, Centroids.seen, base.loads) == ([], [], [])
        assert problem.fingerprint == data_fingerprint(task)
        assert problem.fingerprint.partition("+")[0] == plain.fingerprint == data_fingerprint(base)
        expected = plain.soft_labels
        if task.corruption is not None:
            expected = task.corruption.apply(plain.soft_labels, numpy_rng("corruption", "blobs", 1))
            assert problem.fingerprint != plain.fingerprint
        for split in SPLITS:
            np.testing.assert_array_equal(problem.soft_labels[split], expected[split])
            np.testing.assert_array_equal(problem.features["all"][split], plain.features["all"][split])
            np.testing.assert_array_equal(problem.truth.labels[split], plain.truth.labels[split])


def test_given_arrays_can_be_corrupted_too(tmp_path: Path) -> None:
    task = ArrayTask(**make_arrays(), name="given")
    plain = build_problem(task, "ood", 0, Cache(tmp_path))
    task.corruption = Corruption("adversarial", 1, "given")
    problem = build_problem(task, "ood", 0, Cache(tmp_path))
    assert len(changed(plain.soft_labels, problem.soft_labels)) == 1
    assert problem.fingerprint == data_fingerprint(task) == f"{plain.fingerprint}+given/adversarial/1/1/v2"
