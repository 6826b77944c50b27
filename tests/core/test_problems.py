"""From a task to a problem: what is encoded and trained, once, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError
from benchmark.core.data import SPLITS, Problem
from benchmark.core.pools import source_parts
from benchmark.core.problems import build_problem, data_fingerprint, training_data
from benchmark.core.soft_labels import check_probabilities
from benchmark.core.task import Supervisor
from benchmark.store.cache import Cache
from support.laws import blobs, conditions, seeds
from support.made_up import Blobs, Centroids, Columns, FittedCentroids, make_arrays
from support.rounding import assert_close

both = partial(build_problem, also=("ind", "ood"))  # as a run of both conditions makes problems


@pytest.fixture(autouse=True)
def counts() -> Iterator[None]:
    """Nothing has been encoded or trained yet."""
    Columns.calls.clear()
    Centroids.seen.clear()
    yield
    Columns.calls.clear()
    Centroids.seen.clear()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def encoded_and_trained() -> tuple[int, int]:
    """How often since the last call."""
    found = len(Columns.calls), len(Centroids.seen)
    Columns.calls.clear()
    Centroids.seen.clear()
    return found


def assert_equal(a: Problem, b: Problem) -> None:
    for split in SPLITS:
        for output in a.features:
            np.testing.assert_array_equal(a.features[output][split], b.features[output][split])
        np.testing.assert_array_equal(a.soft_labels[split], b.soft_labels[split])
        np.testing.assert_array_equal(a.truth.labels[split], b.truth.labels[split])
        np.testing.assert_array_equal(a.truth.groups[split], b.truth.groups[split])


@settings(max_examples=20)
@given(blobs(200, 300), conditions, seeds)
def test_a_problem(task: Blobs, condition: str, seed: int) -> None:
    """What is learned from and the truth are of the same examples; supervisors see others, as many as they may."""
    Centroids.seen.clear()
    with TemporaryDirectory() as folder:
        problem = build_problem(task, condition, seed, Cache(Path(folder)))
    ratings = task.card.modality == "preference"
    assert (problem.task, problem.condition, problem.seed) == ("blobs", condition, seed)
    assert problem.fingerprint == data_fingerprint(task)
    assert list(problem.features) == ["first two", "all"]
    assert problem.supervisors == ("1 (left)", "2 (right)", "3 (left+right)")
    domains = {k: task.domain(name) for k, name in enumerate(task.DOMAINS)}
    label, group = (
        {10_000 * k + i: value for k, domain in domains.items() for i, value in enumerate(getattr(domain, name))}
        for name in ("labels", "groups")
    )
    own_groups, (pair, K) = set(), ((2,), 2) if ratings else ((), 3)
    for split in SPLITS:
        features, truth = problem.features["all"][split], problem.truth.labels[split]
        n = len(truth)
        assert features.shape == (n, *pair, 4)
        assert features.dtype == np.float32
        np.testing.assert_array_equal(problem.features["first two"][split], features[..., :2])
        ids = features[..., 0].astype(int)  # the first column is an id
        own = np.vectorize(label.get, otypes=[float])(ids)
        np.testing.assert_array_equal(truth, own[:, 1] > own[:, 0] if ratings else own)
        assert problem.truth.groups[split].shape == (n,)
        assert problem.soft_labels[split].dtype == np.float32
        check_probabilities(problem.soft_labels[split], (n, 3, K), "found")
        own_groups |= {(i // 10_000, group[i]) for i in ids.ravel().tolist()}
    right = (problem.soft_labels["train"].argmax(-1) == problem.truth.labels["train"][:, None]).mean(0)
    assert right.min() > (0.65 if ratings else 0.45), "columns, features and truth are of the same examples"

    parts = [set((source_parts(domains[k], task.source_share, seed)[0] + 10_000 * k).tolist()) for k in (0, 1)]
    for seen, supervisor, sources in zip(Centroids.seen, task.supervisors(seed), ((0,), (1,), (0, 1)), strict=True):
        allowed = set().union(*(parts[k] for k in sources))
        assert set(seen.tolist()) <= allowed
        assert not {(i // 10_000, group[i]) for i in seen.tolist()} & own_groups
        assert len(seen) // (2 if ratings else 1) == (supervisor.size or len(allowed))
        assert ratings or len(set(seen.tolist())) == len(seen)


@pytest.mark.parametrize("ratings", [False, True])
def test_nothing_is_encoded_or_trained_a_second_time(cache: Cache, ratings: bool) -> None:
    first = both(Blobs(ratings=ratings), "ood", 0, cache)
    assert encoded_and_trained() == (1, 3)
    task = Blobs(ratings=ratings)
    assert_equal(both(task, "ood", 0, Cache(cache.root)), first)
    assert encoded_and_trained() == (0, 0)
    assert task.loads == [], "warm, not even the inputs are loaded"

    other = both(Blobs(ratings=ratings), "ood", 1, cache)
    assert encoded_and_trained() == (0, 3)
    assert not np.array_equal(other.soft_labels["train"], first.soft_labels["train"])
    both(Blobs(ratings=ratings), "ind", 0, cache)
    assert encoded_and_trained() == (2, 0), "supervisors have labelled the pools of both conditions"
    both(Blobs(ratings=ratings), "ind", 1, cache)
    assert encoded_and_trained() == (0, 0)
    both(Blobs(ratings=ratings, name="same-data"), "ind", 1, cache)
    assert encoded_and_trained() == (0, 0)


def test_an_emptied_cache_gives_the_same_again(tmp_path: Path) -> None:
    one, two = (build_problem(Blobs(ratings=True), "ind", 2, Cache(tmp_path / name)) for name in "ab")
    assert_equal(one, two)


class Hotter(Centroids):
    """The same recipe, in its next version."""

    name = Centroids.name
    version = 2


class Unnamed(Centroids):
    """Its inherited name would take the other's cached soft labels."""


Change = Callable[[Blobs], object]


def first(**changes: Any) -> Change:
    """Of the first supervisor."""
    return lambda task: task._supervisors.__setitem__(0, replace(task._supervisors[0], **changes))


CHANGES: dict[str, tuple[Change, tuple[int, int]]] = {  # and what is encoded and trained again
    "encoder": (lambda task: setattr(task, "encoder", Columns(fingerprint="columns-2")), (1, 0)),
    "inputs": (lambda task: setattr(task, "_edition", "2"), (1, 3)),
    "share": (lambda task: setattr(task, "source_share", 0.5), (0, 3)),
    "gap": (lambda task: setattr(task, "pair_gap", task.pair_gap + 1e-9), (0, 3)),  # the pool stays as it is
    "a source": (lambda task: task._sizes.update(left=151), (0, 2)),
    "the target": (lambda task: task._sizes.update(there=131), (1, 3)),
    "groups": (lambda task: setattr(task, "_group_size", 2), (0, 3)),
    "left out": (lambda task: setattr(task, "_unused", 0.1), (0, 3)),
    "a size": (lambda task: task._supervisors.__setitem__(0, replace(task._supervisors[0], size=41)), (0, 1)),
    "a parameter": (lambda task: task._supervisors.__setitem__(0, Supervisor(Centroids(1.5), ("left",), 40)), (0, 1)),
    "a version": (lambda task: task._supervisors.__setitem__(0, Supervisor(Hotter(), ("left",), 40)), (0, 1)),
    "a domain": (lambda task: task._supervisors.__setitem__(0, Supervisor(Centroids(), ("right",), 40)), (0, 1)),
    "adversarial": (
        lambda task: task._supervisors.__setitem__(0, replace(task._supervisors[0], adversarial=True)),
        (0, 0),
    ),
    "fewer": (lambda task: task._supervisors.pop(), (0, 0)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_the_values_is_made_again_and_nothing_else(cache: Cache, what: str) -> None:
    """And changes the fingerprint of the data, each in its own way."""
    ratings = what == "gap"
    build_problem(tried(ratings), "ood", 0, cache)
    encoded_and_trained()
    task = tried(ratings, what)
    build_problem(task, "ood", 0, cache)
    assert encoded_and_trained() == CHANGES[what][1]
    others = {data_fingerprint(tried(ratings, name)) for name in CHANGES if name != what}
    assert data_fingerprint(task) not in others
    assert data_fingerprint(task) != data_fingerprint(tried(ratings)) == data_fingerprint(tried(ratings, name="other"))


def tried(ratings: bool, change: str | None = None, **options: Any) -> Blobs:
    """A task, changed."""
    task = Blobs(ratings=ratings, **options)
    task._supervisors = list(task._supervisors)
    if change:
        CHANGES[change][0](task)
    return task


def test_a_weak_model_declares_a_name_of_its_own(cache: Cache) -> None:
    task = Blobs(supervisors=[Supervisor(Unnamed(), ("left",))])
    with pytest.raises(W2SError, match="weak model Unnamed: declare a class attribute `name` of its own"):
        build_problem(task, "ood", 0, cache)


def test_so_are_the_pools_examples(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the protocol had changed and its version had been forgotten."""
    build_problem(Blobs(), "ood", 0, cache)
    encoded_and_trained()
    monkeypatch.setattr(Blobs, "max_pool", 100)
    monkeypatch.setattr("benchmark.core.task.Task.max_pool", 100)
    assert len(build_problem(Blobs(), "ood", 0, cache).soft_labels["train"]) == 70
    assert encoded_and_trained() == (0, 3)


def test_only_what_is_wanted_is_labelled(cache: Cache) -> None:
    build_problem(Blobs(), "ood", 0, cache)
    assert len(list((cache.root / "soft_labels").glob("*.safetensors"))) == 3
    both(Blobs(), "ood", 1, cache)
    assert len(list((cache.root / "soft_labels").glob("*.safetensors"))) == 3 + 2 * 3


@pytest.mark.parametrize("ratings", [False, True])
def test_both_conditions_have_the_same_supervisors_whichever_is_made_first(tmp_path: Path, ratings: bool) -> None:
    for condition, other in (("ood", "ind"), ("ind", "ood")):
        alone = both(Blobs(ratings=ratings), condition, 0, Cache(tmp_path / condition))
        assert_equal(both(Blobs(ratings=ratings), condition, 0, Cache(tmp_path / other)), alone)
    assert len(Centroids.seen) == 6
    for a, b in zip(Centroids.seen[:3], Centroids.seen[3:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_conditions_made_at_once_train_a_supervisor_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Centroids.fit
    monkeypatch.setattr(Centroids, "fit", lambda *given: (sleep(0.05), fit(*given))[1])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda condition: both(Blobs(), condition, 0, cache), ("ood", "ind")))
    assert len(Centroids.seen) == 3


def test_a_condition_that_cannot_be_made_does_not_disturb_the_other(cache: Cache) -> None:
    class Choosy(FittedCentroids):
        def predict_proba(self, inputs: Any) -> Any:
            if inputs[0, 0] < 20_000:
                raise RuntimeError("not these")
            return super().predict_proba(inputs)

    class OneSided(Centroids):
        name = "tests.one-sided"

        def fit(self, *given: Any) -> Any:
            return Choosy(**vars(super().fit(*given)))

    task = Blobs(supervisors=[Supervisor(OneSided(), ("left",))])
    both(task, "ood", 0, cache)
    with pytest.raises(W2SError, match="RuntimeError: not these"):
        both(task, "ind", 0, cache)
    small = Blobs((150, 120, 8))
    both(small, "ind", 0, cache)
    with pytest.raises(W2SError, match="too small"):
        both(small, "ood", 0, cache)


class Doubling(Centroids):
    """Prepares twice the inputs."""

    name = "tests.doubling"

    def prepare(self, inputs: Any) -> Any:
        Columns.calls.append(inputs)
        return 2 * inputs


@pytest.mark.parametrize("ratings", [False, True])
def test_what_a_model_prepares_is_made_once_a_domain(cache: Cache, ratings: bool) -> None:
    """Of all supervisors, seeds and conditions; it reads nothing else."""
    sources = (Supervisor(Doubling(), ("left",)), Supervisor(Doubling(), ("left", "right"), 50))
    task = Blobs(supervisors=sources, ratings=ratings)
    for condition, seed in (("ood", 0), ("ood", 1), ("ind", 1)):
        build_problem(task, condition, seed, cache)
    assert len(Columns.calls) == 3 + 3  # domains that the student's encoder and this have read
    assert all((seen % 2 == 0).all() for seen in Centroids.seen)


class Kept(Centroids):
    """What checkpoints keep."""

    name = "tests.kept"
    resumable = True

    def fit(self, *given: Any, checkpoints: Any) -> Any:
        return super().fit(*given)


def test_what_checkpoints_keep_labels_only_what_is_asked_for(cache: Cache) -> None:
    task = Blobs(supervisors=[Supervisor(Kept(), ("left",))])
    build_problem(task, "ood", 0, cache)
    build_problem(task, "ind", 0, cache)
    assert len(Centroids.seen) == 2


def test_supervisors_of_one_recipe_differ_by_their_place_and_by_seed(cache: Cache) -> None:
    alike = [Supervisor(Centroids(), ("left",), 50)] * 2
    problems = [build_problem(Blobs(supervisors=alike), "ood", seed, cache) for seed in (0, 1)]
    one, two = (problem.soft_labels["train"] for problem in problems)
    assert not np.allclose(one[:, 0], one[:, 1])
    assert len({tuple(seen) for seen in Centroids.seen}) == 4
    assert not np.allclose(one, two)


@pytest.mark.parametrize("ratings", [False, True])
def test_an_adversarial_supervisor_is_the_honest_one_rolled_by_one_class(cache: Cache, ratings: bool) -> None:
    honest = Blobs(ratings=ratings)
    broken = Blobs(ratings=ratings, name="blobs-broken")
    broken._supervisors = [replace(s, adversarial=i == 1) for i, s in enumerate(honest.supervisors(0))]
    one = build_problem(honest, "ood", 0, cache)
    files = sorted(cache.root.rglob("*.safetensors"))
    encoded_and_trained()
    two = build_problem(broken, "ood", 0, cache)
    assert encoded_and_trained() == (0, 0)
    assert sorted(cache.root.rglob("*.safetensors")) == files
    for split in SPLITS:
        for m in (0, 2):
            np.testing.assert_array_equal(two.soft_labels[split][:, m], one.soft_labels[split][:, m])
        np.testing.assert_array_equal(two.soft_labels[split][:, 1], np.roll(one.soft_labels[split][:, 1], 1, axis=-1))
    worse = build_problem(broken, "ood", 0, Cache(cache.root / "cold"))
    assert_equal(worse, two)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("nan", "'all' holds NaN or infinity|'first two' holds NaN or infinity"),
        ("dtype", r"'all' is float64 \(130, 4\), expected float32 \(130, D\)|'first two' is float64"),
        ("rows", r"float32 \(129, \d\), expected float32 \(130, D\)"),
        ("dimensions", r"float32 \(130, 1, \d\), expected float32 \(130, D\)"),
        ("raises", "RuntimeError: made to fail"),
        ("exits", "SystemExit: 5"),
        ("outputs", r"gave \['all'\], expected \['first two', 'all'\]"),
    ],
)
def test_an_encoder_that_gives_something_else_is_named(cache: Cache, spoil: str, message: str) -> None:
    task = Blobs(encoder=Columns(spoil=spoil))
    with pytest.raises(W2SError, match=r"^encoder 'columns' of task 'blobs': ") as caught:
        build_problem(task, "ood", 0, cache)
    assert caught.match(message)
    assert "\n" not in str(caught.value)
    build_problem(Blobs(), "ood", 0, cache)  # what was refused was not stored


@pytest.mark.parametrize("ratings", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("nan", "soft labels hold NaN, infinity or negative values"),
        ("negative", "soft labels hold NaN, infinity or negative values"),
        ("sum", "rows of soft labels don't sum to 1"),
        ("rows", r"soft labels have shape \(\d+, [23]\), expected \(\d+, [23]\)"),
        ("classes", r"soft labels have shape \(\d+, [34]\), expected \(\d+, [23]\)"),
        ("raises", "RuntimeError: made to fail"),
        ("exits", "SystemExit: 5"),
        ("dtype", r"soft labels are <U\d+, expected real numbers"),
        ("columns", r"soft labels have shape \(\d+,\), expected \(\d+, [23]\)"),
    ],
)
def test_a_supervisor_that_gives_something_else_is_named(cache: Cache, spoil: str, message: str, ratings: bool) -> None:
    good = Supervisor(Centroids(), ("right",))
    task = Blobs(supervisors=[good, Supervisor(Centroids(spoil=spoil), ("left", "right"))], ratings=ratings)
    with pytest.raises(W2SError, match=r"^supervisor on left\+right of task 'blobs': ") as caught:
        build_problem(task, "ood", 0, cache)
    assert caught.match(message)
    assert "\n" not in str(caught.value)
    build_problem(Blobs(supervisors=[good], ratings=ratings), "ood", 0, Cache(cache.root / "good"))
    roots = (cache.root, cache.root / "good")
    stored, expected = ({p.name for p in (root / "soft_labels").glob("*.safetensors")} for root in roots)
    assert stored == expected, "only the good one is stored"


def test_labels_beyond_the_classes_are_named(cache: Cache) -> None:
    task = Blobs()
    task.card = replace(task.card, classes=("a", "b"))  # but labels go up to 2
    with pytest.raises(W2SError, match=r"task 'blobs'.*2"):
        build_problem(task, "ood", 0, cache)


def test_a_domain_whose_parts_differ_in_length_is_named(cache: Cache) -> None:
    task = Blobs()
    domain = task.domain
    task.domain = lambda name: replace(domain(name), groups=np.arange(7))  # type: ignore[method-assign]
    with pytest.raises(W2SError, match=r"task 'blobs'.*groups"):
        build_problem(task, "ood", 0, cache)


def test_an_unknown_condition_is_refused(cache: Cache) -> None:
    with pytest.raises(W2SError, match="task 'blobs' has no condition 'odd', only ind, ood"):
        build_problem(Blobs(), "odd", 0, cache)
    with pytest.raises(W2SError, match="task 'arrays' has no condition 'ind', only ood"):
        build_problem(ArrayTask(**make_arrays()), "ind", 0, cache)


@pytest.mark.parametrize("ratings", [False, True])
def test_training_data_are_the_train_split_standardised_by_itself(cache: Cache, ratings: bool) -> None:
    problems = [build_problem(Blobs(ratings=ratings), "ood", seed, cache) for seed in (3, 1)]
    data, held_out = training_data(Blobs(ratings=ratings).student, problems, held_out=("test", "train", "val"))
    assert list(held_out) == ["test", "train", "val"]
    for s, inputs in enumerate(held_out["train"]):
        assert inputs.data_ptr() == data.features["all"][s].data_ptr(), "in memory once"
    assert data.seeds == (3, 1)
    assert list(data.features) == ["first two", "all"]
    assert data.soft_labels.is_contiguous()
    for s, problem in enumerate(problems):
        given = problem.soft_labels["train"]
        np.testing.assert_array_equal(data.soft_labels[s].numpy(), given.transpose(1, 0, 2))
        for output, splits in problem.features.items():
            raw = splits["train"].astype(np.float64)
            axes = tuple(range(raw.ndim - 1))  # for pairs, over both responses
            mean, deviation = raw.mean(axes), raw.std(axes)
            expected = (raw - mean) / deviation
            size = np.abs(raw).max(axes) / deviation
            assert_close(data.features[output][s], expected, len(raw), scale=size)
            if output == "all":  # the student's own
                for split, inputs in held_out.items():
                    assert inputs[s].shape[0] == 1
                    assert_close(inputs[s][0], (splits[split] - mean) / deviation, len(raw), scale=size)
