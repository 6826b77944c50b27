from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import balanced_accuracy_score
from support.plain_metrics import PLAIN, random_groups
from support.synthetic import Task, evaluation

from benchmark.base.errors import W2SError
from benchmark.core.metrics import IDENTITIES, METRICS
from benchmark.core.records import Evaluation
from benchmark.core.scoring import compute_metrics, reference_predictions, score


def example(metric: str, seed: int = 0, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four rows; with 30 classes some are never the label, some never predicted."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=60)
    predictions = np.where(rng.random((4, 60)) < 0.5, labels, rng.integers(classes, size=(4, 60)))
    return predictions, labels, random_groups(metric, rng, 60, 5)


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


def test_an_example_of_no_group_counts_in_accuracy_and_in_no_group() -> None:
    labels, groups, predictions = np.zeros(3, int), np.array([0, 1, -1]), np.array([[0, 0, 1]])
    assert score("worst_group_accuracy", predictions, labels, groups, 2) == [1]
    assert score("accuracy", predictions, labels, groups, 2) == pytest.approx([2 / 3])


@pytest.mark.parametrize("classes", [3, 30])
@pytest.mark.parametrize("metric", METRICS)
def test_against_loops(metric: str, classes: int) -> None:
    predictions, labels, groups = example(metric, classes=classes)
    if metric == "worst_identity_accuracy":
        labels = labels % 3
    for row, found in zip(predictions, score(metric, predictions, labels, groups, classes), strict=True):
        assert found == pytest.approx(PLAIN[metric](row, labels, groups), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_unknown_labels_are_left_out(metric: str) -> None:
    predictions, labels, groups = example(metric)
    known = np.arange(60) % 3 > 0
    partly = np.where(known, labels, -1)
    found = score(metric, predictions, partly, groups, 3)
    np.testing.assert_array_equal(found, score(metric, predictions[:, known], labels[known], groups[known], 3))


def test_a_class_or_group_without_known_labels_does_not_count() -> None:
    labels, groups = np.array([0, 0, 2, -1]), np.array([1, 1, 1, 2])
    predictions = np.array([[0, 0, 2, 1]])
    for metric in METRICS:
        assert score(metric, predictions, labels, groups, 4) == [1.0]


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
    metrics = compute_metrics(evaluated, 0, truth.supervisors)
    assert list(metrics) == ["accuracy", "balanced_accuracy"]
    assert metrics["accuracy"] == pytest.approx(np.mean(truth.supervisors == truth.labels))
    each = [balanced_accuracy_score(truth.labels, row) for row in truth.supervisors]
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean(each))
    plain = evaluation(Task("t", metric="accuracy"), "ood", range(1))
    assert list(compute_metrics(plain, 0, truth.supervisors)) == ["accuracy"]


def test_reference_rows() -> None:
    truth = evaluation(Task("t", num_classes=4), "ood", range(1)).seeds[0]
    rows = reference_predictions(truth)
    np.testing.assert_array_equal(rows["mean_supervisor"], truth.supervisors)
    np.testing.assert_array_equal(rows["supervisor_ensemble"], truth.ensemble[None])
    assert (rows["majority_class"] == truth.majority).all()
    assert rows["majority_class"].shape == (1, len(truth.labels))
