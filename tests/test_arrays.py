"""Bring your own arrays: what is read, what is refused, how it is split."""

from __future__ import annotations

import os
import pickle
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError
from benchmark.core.data import SPLITS, Problem
from benchmark.core.problems import build_problem
from benchmark.store.cache import Cache
from support.laws import seeds
from support.made_up import make_arrays
from support.planted import Payload

Arrays = dict[str, NDArray[Any]]


def changed(**changes: Any) -> Arrays:
    """Good arrays (120 examples, 3 supervisors, 3 classes) with some replaced; None leaves one out."""
    arrays = {**make_arrays(D=4), **changes}
    return {name: value for name, value in arrays.items() if value is not None}


def refused(arrays: Arrays, message: str) -> None:
    with pytest.raises(W2SError, match=message) as caught:
        ArrayTask(**arrays)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 119), st.integers(0, 2), st.sampled_from((np.nan, np.inf, -np.inf)), st.integers(1, 300))
def test_a_bad_value_is_refused_by_its_array_and_row(row: int, column: int, value: float, n: int) -> None:
    arrays = changed(groups=np.arange(120))
    x, p, labels = (arrays[name].copy() for name in ("features", "soft_labels", "labels"))
    x[row, column] = value
    refused({**arrays, "features": x}, f"features: NaN or infinity in row {row}$")
    for own, message in (
        (value, f"NaN or infinity in row {row}$"),
        (-0.25, rf"negative value -0\.25 in row {row}$"),
        (5.0, rf"row {row} sums to 5\.\d+, expected 1"),
    ):
        p[row, 1, column] = own
        refused({**arrays, "soft_labels": p}, f"soft_labels: {message}")
    for label in (3 + column, -2 - column):
        labels[row] = label
        refused({**arrays, "labels": labels}, rf"labels: {label} in row {row}, expected 0\.\.2 or -1 for unknown")
    for name in ("features", "labels", "groups"):
        if n != 120:
            message = f"{name}: {n} examples, but soft_labels has 120"
            refused({**arrays, name: np.resize(arrays[name], (n, *arrays[name].shape[1:]))}, message)


BAD: dict[str, tuple[Arrays, str]] = {
    "features of one dimension": (changed(features=np.zeros(120)), r"features: shape \(120,\), expected \(N, D\) or"),
    "features of triples": (changed(features=np.zeros((120, 3, 4))), r"features: shape \(120, 3, 4\), expected"),
    "features of text": (changed(features=np.full((120, 4), "x")), "features: dtype <U1, expected numbers"),
    "features empty": (changed(features=np.zeros((120, 0))), r"features: shape \(120, 0\); expected N, M, D >= 1"),
    "logits": (changed(soft_labels=np.ones((120, 3, 3))), r"soft_labels: row 0 sums to 3"),
    "soft labels of two dimensions": (
        changed(soft_labels=np.full((120, 3), 1 / 3)),
        r"soft_labels: shape \(120, 3\), expected \(N, M, K\)",
    ),
    "no supervisor": (changed(soft_labels=np.zeros((120, 0, 3))), r"soft_labels: shape \(120, 0, 3\)"),
    "one class": (changed(soft_labels=np.ones((120, 3, 1))), r"soft_labels: shape \(120, 3, 1\).*K >= 2"),
    "no example": ({k: v[:0] for k, v in make_arrays().items()}, r"soft_labels: shape \(0, 3, 3\).*N, M, D >= 1"),
    "labels in between": (changed(labels=np.full(120, 0.5)), "labels: dtype float64, expected whole"),
    "labels NaN": (changed(labels=np.full(120, np.nan)), "labels: dtype float64, expected whole numbers"),
    "labels of text": (changed(labels=np.full(120, "cat")), "labels: dtype <U3, expected whole numbers"),
    "one-hot labels": (changed(labels=np.zeros((120, 3), int)), r"labels: shape \(120, 3\), expected \(N,\)"),
    "a single label": (changed(labels=np.array(1)), r"labels: shape \(\), expected \(N,\)"),
    "all labels unknown": (changed(labels=np.full(120, -1)), r"labels: all unknown \(-1\)"),
    "pairs of three classes": (changed(features=np.zeros((120, 2, 4))), r"K = 3, but features are pairs.*need K = 2"),
    "groups of two dimensions": (changed(groups=np.zeros((120, 1), int)), r"groups: shape \(120, 1\), expected \(N,\)"),
    "groups in between": (changed(groups=np.full(120, 0.5)), "groups: dtype float64, expected whole numbers or text"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arrays_are_refused_with_what_was_found_and_expected(what: str) -> None:
    refused(*BAD[what])


def test_splitting_by_group_needs_groups() -> None:
    with pytest.raises(W2SError, match="groups: missing, but --split-by-group needs them"):
        ArrayTask(**make_arrays(), split_by_group=True)


def test_what_a_lab_may_bring() -> None:
    """Lists, other number types, unknown labels, groups by name: all are taken, and make the same task."""
    arrays = make_arrays()
    arrays["labels"][::5] = -1
    arrays["groups"] = np.arange(120) % 4
    plain = ArrayTask(**arrays)
    other = ArrayTask(
        arrays["features"].astype(np.float64).tolist(),
        arrays["soft_labels"].astype(np.float32),
        arrays["labels"].astype(np.float32),
        np.array(["a", "b", "c", "d"])[arrays["groups"]],
    )
    assert other.fingerprint == plain.fingerprint
    assert plain.card.metric == "worst_group_accuracy"
    assert plain.card.classes == ("0", "1", "2")
    assert plain.conditions == ("ood",)
    assert ArrayTask(**make_arrays()).card.metric == "accuracy"
    pairs = ArrayTask(**make_arrays(K=2, pairs=True))
    assert pairs.card.modality == "preference"
    assert len(pairs.card.classes) == 2


def test_the_fingerprint_changes_with_every_array_and_with_the_way_of_splitting() -> None:
    arrays = {**make_arrays(), "groups": np.arange(120) % 4}
    tasks = [ArrayTask(**arrays), ArrayTask(**arrays, split_by_group=True), ArrayTask(**make_arrays())]
    for name, value in arrays.items():
        other = value.copy()
        other[[0, 1]] = other[[1, 0]]
        assert not np.array_equal(other, value) or name == "labels"
        if name == "labels":
            other[0] = (other[0] + 1) % 3
        tasks.append(ArrayTask(**{**arrays, name: other}))
    assert len({task.fingerprint for task in tasks}) == len(tasks) == 7


def write(path: Path, arrays: Arrays) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, path)
    return path


def test_npz_and_safetensors_are_the_same_task_named_after_the_file(tmp_path: Path) -> None:
    arrays = {**make_arrays(), "groups": np.arange(120) % 4}
    one, two = (
        ArrayTask.from_file(write(tmp_path / f"My data (v2).{kind}", arrays)) for kind in ("npz", "safetensors")
    )
    assert one.fingerprint == two.fingerprint == ArrayTask(**arrays).fingerprint
    assert one.name == two.name == "My-data-v2"


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_file_that_is_not_what_it_should_be_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"data.{kind}"

    def is_refused(message: str) -> None:
        with pytest.raises(W2SError, match=message) as caught:
            ArrayTask.from_file(path)
        assert str(caught.value).startswith(f"--arrays {path}: ")
        assert "\n" not in str(caught.value)

    is_refused("no such file")
    path.write_bytes(b"")
    is_refused("cannot be read")
    path.write_text("features,labels\n1,2\n")
    is_refused("cannot be read")
    write(path, make_arrays())
    path.write_bytes(path.read_bytes()[:-100])
    is_refused("cannot be read")
    write(path, changed(labels=None))
    is_refused("array 'labels' is missing, found features, soft_labels")
    write(path, changed(weights=np.ones(3)))
    is_refused("unknown array 'weights', expected features, groups, labels, soft_labels")
    write(path, BAD["logits"][0])
    is_refused("soft_labels: row 0 sums to 3")
    path.unlink()
    path.mkdir()
    is_refused("no such file")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("1,2")
    with pytest.raises(W2SError, match=r"expected a name that ends in \.npz or \.safetensors"):
        ArrayTask.from_file(path)
    np.save(tmp_path / "data.npy", np.ones(3))
    os.rename(tmp_path / "data.npy", tmp_path / "one-array.npz")
    with pytest.raises(W2SError, match="cannot be read"):
        ArrayTask.from_file(tmp_path / "one-array.npz")


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    """Neither an object array in an npz, nor a pickle that is called npz."""
    bomb = np.array([Payload(tmp_path / "boom")] * 120, dtype=object)
    for name in ("labels", "groups"):
        np.savez(tmp_path / "bomb.npz", **changed(**{name: bomb}))
        with pytest.raises(W2SError, match=r"cannot be read.*pickled objects, which are never read") as caught:
            ArrayTask.from_file(tmp_path / "bomb.npz")
        assert "\n" not in str(caught.value)
    (tmp_path / "bomb.npz").write_bytes(pickle.dumps(Payload(tmp_path / "boom")))
    (tmp_path / "boom").unlink(missing_ok=True)
    with pytest.raises(W2SError, match="cannot be read"):
        ArrayTask.from_file(tmp_path / "bomb.npz")
    assert not (tmp_path / "boom").exists()
    with np.load(write_bomb(tmp_path), allow_pickle=True) as file:
        file["labels"]
    assert (tmp_path / "boom").exists(), "the bomb works"


def write_bomb(folder: Path) -> Path:
    np.savez(folder / "live.npz", labels=np.array([Payload(folder / "boom")], dtype=object))
    return folder / "live.npz"


def build(task: ArrayTask, seed: int = 0) -> Problem:
    return build_problem(task, "ood", seed, Cache(Path("unused")))


def identified(N: int = 100, **options: Any) -> ArrayTask:
    """A task whose first feature is the example's position."""
    arrays = make_arrays(N, D=4)
    arrays["features"][:, 0] = np.arange(N)
    return ArrayTask(**arrays, **options)


def rows(problem: Problem) -> dict[str, NDArray[np.int64]]:
    return {split: problem.features["features"][split][:, 0].astype(int) for split in SPLITS}


@given(st.integers(40, 150), st.none() | st.integers(20, 30), st.booleans(), seeds)
def test_the_pool_is_split_70_10_20_by_seed_and_nothing_is_mixed_up(
    N: int, count: int | None, whole: bool, seed: int
) -> None:
    """Groups are kept whole if asked, and only then; without groups each example is its own."""
    groups = None if count is None else np.random.default_rng(seed).permutation(N) % count
    task = identified(N, groups=groups, split_by_group=whole and groups is not None)
    problem = build(task, seed)
    found = rows(problem)
    assert sorted(np.concatenate([found[split] for split in SPLITS])) == list(range(N))
    for share, (split, own) in zip((0.7, 0.1, 0.2), found.items(), strict=True):
        assert abs(len(own) - share * N) <= (1 if groups is None or not whole else N / 20 + 1)
        np.testing.assert_array_equal(problem.features["features"][split], task.features[own])
        np.testing.assert_array_equal(problem.soft_labels[split], task.soft_labels[own])
        np.testing.assert_array_equal(problem.truth.labels[split], task.labels[own])
        np.testing.assert_array_equal(own, rows(build(task, seed))[split])
        if groups is not None:
            np.testing.assert_array_equal(problem.truth.groups[split], groups[own])
    assert set(rows(build(task, seed + 1))["test"]) != set(found["test"])
    of = [set(problem.truth.groups[split]) for split in SPLITS]
    shared = sum(len(a & b) for a, b in combinations(of, 2))
    assert (shared == 0) == (groups is None or whole)
    assert groups is not None or sum(map(len, of)) == N


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ArrayTask(**make_arrays(2)), "the (train|val|test) split is empty; 2 examples are too few to split 70/10/20"),
        (
            identified(groups=np.arange(100) % 2, split_by_group=True),
            "the val split is empty; 100 examples in 2 groups are too few to split 70/10/20",
        ),
        (
            ArrayTask(**changed(labels=np.where(np.arange(120) < 1, 0, -1))),
            r"no label of the test split \(seed \d\) is known, so nothing can be scored",
        ),
    ],
    ids=["few", "two groups", "unknown"],
)
def test_an_empty_split_is_refused(task: ArrayTask, message: str) -> None:
    with pytest.raises(W2SError, match=rf"^task 'arrays': {message}$"):
        [build(task, seed) for seed in range(9)]


def test_features_are_the_same_at_every_stage() -> None:
    """There is one encoder output only, so bootstrapping uses it twice."""
    assert list(build(identified()).features) == ["features"]
