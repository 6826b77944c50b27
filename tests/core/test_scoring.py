"""Metrics against loops, on random predictions; what they mean, by hand; what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import f1_score, recall_score

from benchmark.base.errors import W2SError
from benchmark.core.data import SPLITS
from benchmark.core.metrics import IDENTITIES, METRICS
from benchmark.core.names import TRAIN_TRUTH
from benchmark.core.records import Evaluation
from benchmark.core.scoring import compute_metrics, reference_predictions, score
from support.laws import generators
from support.plain_metrics import PLAIN, random_groups, random_split
from support.synthetic import Task, evaluation

SKLEARN = {"balanced_accuracy": recall_score, "macro_f1": f1_score}


@pytest.mark.parametrize("metric", METRICS)
@given(
    generators,
    st.integers(1, 60),
    st.integers(1, 8),
    st.sampled_from((2, 3, 30)),
    st.floats(0, 1),
)
def test_metrics_are_loops_over_the_examples_whose_label_is_known(
    metric: str, rng: np.random.Generator, n: int, groups: int, classes: int, unknown: float
) -> None:
    """So a class or a group without known labels does not count, nor what is in no group."""
    split = random_split(metric, rng, 3, n, groups, classes)
    known = rng.random(n) >= unknown
    assume(known.any() and METRICS[metric].undefined(split.groups[known]) is None)
    found = score(metric, split.predictions, np.where(known, split.labels, -1), split.groups, classes)
    for row, value in zip(split.predictions[:, known], found, strict=True):
        plain = PLAIN[metric](row, split.labels[known], split.groups[known])
        assert value == pytest.approx(plain, abs=1e-12)
        if metric in SKLEARN:
            labels = np.unique(split.labels[known])
            assert plain == pytest.approx(SKLEARN[metric](split.labels[known], row, labels=labels, average="macro"))


def test_by_hand() -> None:
    labels, groups = np.array([0, 0, 0, 1]), np.array([7, 7, 9, 9])
    predictions = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]])
    np.testing.assert_allclose(score("accuracy", predictions, labels, groups, 2), [3 / 4, 3 / 4, 0])
    np.testing.assert_allclose(score("balanced_accuracy", predictions, labels, groups, 2), [(2 / 3 + 1) / 2, 1 / 2, 0])
    np.testing.assert_allclose(score("worst_group_accuracy", predictions, labels, groups, 2), [1 / 2, 1 / 2, 0])


def test_macro_f1_by_hand() -> None:
    labels, groups = np.array([0, 0, 0, 2]), np.zeros(4, int)
    # Class 0: TP 2, FN 1, no FP: 4/5. Class 2: TP 1, FP 1: 2/3. Class 1 is never the label, whoever predicts it.
    assert score("macro_f1", np.array([[0, 0, 2, 2]]), labels, groups, 3) == pytest.approx([(4 / 5 + 2 / 3) / 2])
    assert score("macro_f1", np.array([[0, 0, 1, 2]]), labels, groups, 3) == pytest.approx([(4 / 5 + 1) / 2])
    assert score("macro_f1", np.array([[1, 1, 1, 1]]), labels, groups, 3) == [0]


def test_tenth_percentile_by_hand() -> None:
    """Eleven users with 0/10, 1/10, ... 10/10 right: the tenth percentile is the second lowest; of six, between two."""
    groups, labels = np.repeat(np.arange(11), 10), np.zeros(110, int)
    predictions = 1 - (np.tile(np.arange(10), 11) < groups)[None].astype(int)
    metric = "tenth_percentile_accuracy"
    assert score(metric, predictions, labels, groups, 2) == pytest.approx([0.1])
    assert score(metric, predictions[:, :60], labels[:60], groups[:60], 2) == pytest.approx([0.05])
    assert score(metric, predictions[:, 70:80], labels[70:80], groups[70:80], 2) == pytest.approx([0.7])


def test_worst_identity_by_hand() -> None:
    metric, female, both, none = "worst_identity_accuracy", 0b10, 0b10000010, 0
    labels, groups = np.array([0, 0, 1, 1, 0, 1]), np.array([female, female, female, both, none, none])
    # On those who mention `female`: label 0 2/2, label 1 1/2; `white` and label 1: 0/1. Who mentions none never counts.
    assert score(metric, np.array([[0, 0, 1, 0, 1, 0]]), labels, groups, 2) == [0]
    assert score(metric, np.array([[0, 0, 0, 1, 1, 0]]), labels, groups, 2) == [1 / 2]
    assert score(metric, np.array([[0, 0, 1, 1, 1, 0]]), labels, groups, 2) == [1]
    assert IDENTITIES.index("female") == 1
    assert IDENTITIES.index("white") == 7


@pytest.mark.parametrize("metric", METRICS)
def test_no_known_label_is_an_error(metric: str) -> None:
    with pytest.raises(W2SError, match=f"{metric} is undefined: none of the 3"):
        score(metric, np.zeros((1, 3), int), np.full(3, -1), np.zeros(3, int), 2)


@pytest.mark.parametrize(
    ("metric", "groups", "message"),
    [
        ("worst_group_accuracy", [-1, -2], "none of the 2 examples is in a group"),
        ("worst_identity_accuracy", [0, 0], "none of the 2 examples mentions an identity"),
        ("worst_identity_accuracy", [1, 256], r"groups are 1\.\.256, expected bit masks of identities, 0\.\.255"),
        ("worst_identity_accuracy", [-1, 5], r"groups are -1\.\.5, expected bit masks"),
    ],
)
def test_groups_on_which_a_metric_has_no_value_are_refused(metric: str, groups: list[int], message: str) -> None:
    with pytest.raises(W2SError, match=f"{metric} is undefined: {message}"):
        score(metric, np.zeros((1, 3), int), np.array([0, 1, -1]), np.array([*groups, 3]), 2)
    good = evaluation(Task("t"), "ood", range(1))
    truth = replace(good.seeds[0], groups=np.resize(groups, len(good.seeds[0].groups)))
    with pytest.raises(ValidationError, match=f"seed 0: groups: {metric} is undefined"):
        Evaluation(**{**good.model_dump(), "metric": metric, "seeds": {0: truth}})


def test_only_where_it_says_so_do_uniform_guesses_score_1_in_k() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, size=300, p=[0.7, 0.2, 0.05, 0.05])
    guesses = rng.integers(4, size=(400, 300))
    for metric, rule in METRICS.items():
        groups = random_groups(metric, rng, 300, 30)
        mean = score(metric, guesses, labels, groups, 4).mean()
        assert (abs(mean - 1 / 4) < 0.005) == rule.uniform_chance, metric


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (np.zeros(3, int), r"shape \(3,\), expected \(replicas, 3\)"),
        (np.zeros((1, 4), int), r"shape \(1, 4\)"),
        (np.array([[0, 1, 2]]), r"0..2, expected 0..1"),
        (np.array([[0, 1, -1]]), r"-1..1, expected 0..1"),
    ],
)
def test_impossible_predictions_are_refused(predictions: np.ndarray, message: str) -> None:
    with pytest.raises(W2SError, match=message):
        score("accuracy", predictions, np.zeros(3, int), np.zeros(3, int), 2)


def test_metrics_are_means_over_replicas() -> None:
    task = Task("t", metric="balanced_accuracy")
    evaluated = evaluation(task, "ood", range(1))
    truth = evaluated.seeds[0]
    metrics = compute_metrics(evaluated, 0, truth.supervisors, "naive")
    assert list(metrics) == ["accuracy", "balanced_accuracy"]
    assert metrics["accuracy"] == pytest.approx(np.mean(truth.supervisors == truth.labels))
    each = [PLAIN["balanced_accuracy"](row, truth.labels, truth.groups) for row in truth.supervisors]
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean(each))
    plain = evaluation(Task("t", metric="accuracy"), "ood", range(1))
    assert list(compute_metrics(plain, 0, truth.supervisors, "naive")) == ["accuracy"]


@pytest.mark.parametrize("row", ["naive", "random_supervision", *sorted(TRAIN_TRUTH)])
@pytest.mark.parametrize("metric", METRICS)
def test_the_whole_pool_is_scored_but_for_rows_that_have_seen_the_truth_of_its_train_split(
    row: str, metric: str
) -> None:
    """Whatever such rows say of train and validation split counts for nothing."""
    task = Task("t", metric=metric, whole=True)
    task.groups = task.groups % 4
    evaluated = evaluation(task, "ood", range(1))
    truth = evaluated.seeds[0]
    test = truth.splits == SPLITS.index("test")
    assert 0 < test.sum() < len(test)
    found = compute_metrics(evaluated, 0, truth.supervisors, row)
    assert found.keys() == {name.format(m) for name in ("{}", "test_{}") for m in ("accuracy", metric)}
    for on, prefix in ((test, "test_"), (test if row in TRAIN_TRUTH else np.ones_like(test), "")):
        each = [PLAIN[metric](said[on], truth.labels[on], truth.groups[on]) for said in truth.supervisors]
        assert found[prefix + metric] == pytest.approx(np.mean(each))
    cheating = np.where(test, truth.supervisors, truth.labels)
    changed = compute_metrics(evaluated, 0, cheating, row)
    assert (changed == found) == (row in TRAIN_TRUTH)
    assert changed[f"test_{metric}"] == found[f"test_{metric}"]


def test_reference_rows() -> None:
    truth = evaluation(Task("t", num_classes=4), "ood", range(1)).seeds[0]
    rows = reference_predictions(truth)
    np.testing.assert_array_equal(rows["mean_supervisor"], truth.supervisors)
    np.testing.assert_array_equal(rows["supervisor_ensemble"], truth.ensemble[None])
    assert (rows["majority_class"] == truth.majority).all()
    assert rows["majority_class"].shape == (1, len(truth.labels))
