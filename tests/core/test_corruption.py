"""Supervisors made worse: what each kind does to soft labels, and that levels are nested."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.made_up import Blobs, Centroids, Columns, make_arrays

from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError
from benchmark.base.seeding import numpy_rng
from benchmark.core.corruption import KINDS, Corruption, base_tags, levels, read_tags, uncorrupted
from benchmark.core.data import SPLITS
from benchmark.core.problems import build_problem, data_fingerprint
from benchmark.core.soft_labels import check_probabilities
from benchmark.core.stress_variants import stress_variants
from benchmark.running.unit import evaluate
from benchmark.store.cache import Cache

SIZES = {"train": 400, "val": 60, "test": 120}
SoftLabels = dict[str, NDArray[np.float32]]


@pytest.fixture(autouse=True)
def counts() -> Iterator[None]:
    yield
    Columns.calls.clear()
    Centroids.seen.clear()


def supervision(M: int = 4, K: int = 3) -> SoftLabels:
    rng = np.random.default_rng(M * K)
    return {split: rng.dirichlet(np.full(K, 0.7), (n, M)).astype(np.float32) for split, n in SIZES.items()}


def corrupt(kind: str, count: int, given: SoftLabels, seed: int = 0) -> SoftLabels:
    return Corruption(kind, count, "base").apply(given, numpy_rng("corruption", "base", seed))


def changed(given: SoftLabels, made: SoftLabels) -> set[int]:
    """Supervisors whose soft labels differ in any split; corrupted ones differ in all."""
    differ = {
        split: {m for m in range(p.shape[1]) if (p[:, m] != made[split][:, m]).any()} for split, p in given.items()
    }
    assert all(found == differ["train"] for found in differ.values())
    return differ["train"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("K", [2, 3, 10])
@pytest.mark.parametrize("M", [2, 3, 4])
def test_levels_are_nested_and_leave_the_others_alone(kind: str, K: int, M: int) -> None:
    given = supervision(M, K)
    before = {split: p.copy() for split, p in given.items()}
    made = [corrupt(kind, count, given) for count in levels(kind, M)]
    for count, level in zip(levels(kind, M), made, strict=True):
        first = kind == "copies"  # the one that is copied stays as it is
        assert len(changed(given, level)) == count - first
        for split, p in level.items():
            assert p.dtype == np.float32
            check_probabilities(p, (SIZES[split], M, K), kind)
            np.testing.assert_array_equal(given[split], before[split])
    for lower, higher in pairwise(made):
        for m in changed(given, lower):
            for split in SPLITS:
                np.testing.assert_array_equal(lower[split][:, m], higher[split][:, m])


def test_all_kinds_begin_with_the_same_supervisor_and_seeds_differ() -> None:
    given = supervision()
    firsts = {kind: changed(given, corrupt(kind, 1, given, seed=3)) for kind in KINDS if kind != "copies"}
    assert len(set(map(frozenset, firsts.values()))) == 1
    assert len({frozenset(changed(given, corrupt("random", 1, given, seed))) for seed in range(20)}) == 4
    again = [corrupt("random", 2, given, seed=1) for _ in range(2)]
    np.testing.assert_array_equal(again[0]["train"], again[1]["train"])


def test_random_answers_are_the_same_answers_to_other_examples() -> None:
    given = supervision()
    made = corrupt("random", 4, given)
    for split, p in made.items():
        for m in range(4):
            np.testing.assert_array_equal(np.sort(p[:, m], axis=0), np.sort(given[split][:, m], axis=0))
            same = (p[:, m] == given[split][:, m]).all(-1).mean()
            assert same < 0.05
    rows = {p.tobytes() for p in given["train"][:, 0]}
    assert {p.tobytes() for p in made["train"][:, 0]} == rows, "rows stay whole"
    assert not np.array_equal(made["train"][:, 0].argsort(0), made["train"][:, 1].argsort(0)), "each is dealt anew"


def test_adversarial_supervisors_have_their_classes_rotated() -> None:
    given = supervision()
    made = corrupt("adversarial", 2, given)
    for m in changed(given, made):
        for k in range(3):
            np.testing.assert_array_equal(made["test"][:, m, (k + 1) % 3], given["test"][:, m, k])


def test_overconfident_supervisors_keep_their_answers_and_exaggerate_them() -> None:
    given = supervision()
    given["test"][0] = [1, 0, 0]
    given["test"][1] = [0.6, 0.4, 0]
    given["test"][2] = [0.5, np.nextafter(np.float32(0.5), np.float32(0)), 0]
    made = corrupt("overconfident", 4, given)
    for split, p in made.items():
        np.testing.assert_array_equal(p.argmax(-1), given[split].argmax(-1))
        assert (p.max(-1) >= given[split].max(-1) - 1e-6).all()
    np.testing.assert_array_equal(made["test"][0], given["test"][0])
    expected = 0.6**10 / (0.6**10 + 0.4**10)
    np.testing.assert_allclose(made["test"][1], np.tile([expected, 1 - expected, 0], (4, 1)), rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_copies_say_what_one_supervisor_says_in_every_split(count: int) -> None:
    given = supervision()
    made = corrupt("copies", count, given)
    for split, p in made.items():
        same = {m for m in range(4) if (p[:, m] == p[:, min(changed(given, made))]).all()}
        assert len(same) == count
        (kept,) = same - changed(given, made)
        np.testing.assert_array_equal(p[:, kept], given[split][:, kept])


def test_bad_corruptions_are_refused() -> None:
    with pytest.raises(W2SError, match="unknown kind of corruption 'randon': did you mean 'random'"):
        Corruption("randon", 1, "base")
    with pytest.raises(W2SError, match="corruption 'random' of 0 supervisors: expected at least 1"):
        Corruption("random", 0, "base")
    with pytest.raises(W2SError, match="corruption 'copies' of 1 supervisors: expected at least 2"):
        Corruption("copies", 1, "base")
    with pytest.raises(W2SError, match="of 5 supervisors: there are only 4"):
        corrupt("random", 5, supervision())


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_the_variants_of_a_task(tmp_path: Path) -> None:
    base = Blobs()
    tasks = {task.name: task for task in stress_variants(base)}
    assert list(tasks) == [
        "stress-blobs",
        *(f"stress-blobs-random-{count}" for count in (1, 2, 3)),
        *(f"stress-blobs-adversarial-{count}" for count in (1, 2)),
        *(f"stress-blobs-overconfident-{count}" for count in (1, 2, 3)),
        *(f"stress-blobs-copies-{count}" for count in (2, 3)),
    ]
    assert (base.name, base.corruption, base.card.tags) == ("blobs", None, ())
    assert tasks["stress-blobs-random-2"].card.shift == f"{base.card.shift}; 2 of 3 supervisors: random answers"
    for task in tasks.values():
        told = read_tags(evaluate(task, [build_problem(task, "ood", 0, Cache(tmp_path))]).tags)
        assert told == ("blobs", task.corruption)
    assert len({data_fingerprint(task) for task in tasks.values()}) == len(tasks)


def test_tags_of_other_tasks_say_nothing() -> None:
    assert read_tags(()) is read_tags(("broken",)) is read_tags(("stress",)) is None
    assert read_tags(("base=a",)) is read_tags((*base_tags("a"), "kind=random")) is None
    assert read_tags((*base_tags("a"), "kind=random", "count=many")) is None
    assert read_tags((*base_tags("a"), "kind=spam", "count=1")) is None
    assert read_tags(("broken", *base_tags("a"))) == ("a", None)


@pytest.mark.parametrize("ratings", [False, True])
@pytest.mark.parametrize("condition", ["ood", "ind"])
def test_variants_differ_in_soft_labels_only_and_share_the_cache(tmp_path: Path, condition: str, ratings: bool) -> None:
    cache = Cache(tmp_path)
    base = Blobs(ratings=ratings)
    plain = build_problem(base, condition, 1, cache)
    for what in (Columns.calls, Centroids.seen, base.loads):
        what.clear()
    for task in stress_variants(base):
        problem = build_problem(task, condition, 1, cache)
        assert (Columns.calls, Centroids.seen, base.loads) == ([], [], [])
        assert problem.fingerprint == data_fingerprint(task)
        assert uncorrupted(problem.fingerprint) == plain.fingerprint == data_fingerprint(base)
        expected = plain.soft_labels
        if task.corruption is not None:
            expected = task.corruption.apply(plain.soft_labels, numpy_rng("corruption", "blobs", 1))
            assert problem.fingerprint != plain.fingerprint
        for split in SPLITS:
            np.testing.assert_array_equal(problem.soft_labels[split], expected[split])
            np.testing.assert_array_equal(problem.features["all"][split], plain.features["all"][split])
            np.testing.assert_array_equal(problem.truth.labels[split], plain.truth.labels[split])


def test_both_conditions_corrupt_the_same_supervisors(tmp_path: Path) -> None:
    base = Blobs()
    task = next(task for task in stress_variants(base) if task.name.endswith("adversarial-1"))
    for seed in range(4):
        found = []
        for condition in ("ood", "ind"):
            plain, problem = (build_problem(t, condition, seed, Cache(tmp_path)) for t in (base, task))
            found.append(changed(plain.soft_labels, problem.soft_labels))
        assert found[0] == found[1]


def test_given_arrays_can_be_corrupted_too(tmp_path: Path) -> None:
    task = ArrayTask(**make_arrays(), name="given")
    plain = build_problem(task, "ood", 0, Cache(tmp_path))
    task.corruption = Corruption("adversarial", 1, "given")
    problem = build_problem(task, "ood", 0, Cache(tmp_path))
    assert len(changed(plain.soft_labels, problem.soft_labels)) == 1
    assert problem.fingerprint == data_fingerprint(task) == f"{plain.fingerprint}+given/adversarial/1/v1"
