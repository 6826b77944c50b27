import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from synthetic import Task, evaluation

from benchmark.errors import W2SError
from benchmark.scoring import METRICS, compute_metrics, reference_predictions, score


def example(seed: int = 0, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(classes, size=(4, 60)), rng.integers(classes, size=60), rng.integers(5, size=60)


def test_by_hand() -> None:
    labels, groups = np.array([0, 0, 0, 1]), np.array([7, 7, 9, 9])
    predictions = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]])
    np.testing.assert_allclose(score("accuracy", predictions, labels, groups, 2), [3 / 4, 3 / 4, 0])
    np.testing.assert_allclose(score("balanced_accuracy", predictions, labels, groups, 2), [(2 / 3 + 1) / 2, 1 / 2, 0])
    np.testing.assert_allclose(score("worst_group_accuracy", predictions, labels, groups, 2), [1 / 2, 1 / 2, 0])


@pytest.mark.parametrize("metric", METRICS)
def test_against_loops(metric: str) -> None:
    predictions, labels, groups = example()
    for row, found in zip(predictions, score(metric, predictions, labels, groups, 3), strict=True):
        hits = row == labels
        expected = {
            "accuracy": hits.mean(),
            "balanced_accuracy": balanced_accuracy_score(labels, row),
            "worst_group_accuracy": min(hits[groups == g].mean() for g in set(groups)),
        }[metric]
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_unknown_labels_are_left_out(metric: str) -> None:
    predictions, labels, groups = example()
    known = np.arange(60) % 3 > 0
    partly = np.where(known, labels, -1)
    found = score(metric, predictions, partly, groups, 3)
    np.testing.assert_array_equal(found, score(metric, predictions[:, known], labels[known], groups[known], 3))


def test_a_class_or_group_without_known_labels_does_not_count() -> None:
    labels, groups = np.array([0, 0, 2, -1]), np.array([0, 0, 0, 1])
    predictions = np.array([[0, 0, 2, 1]])
    for metric in METRICS:
        assert score(metric, predictions, labels, groups, 4) == [1.0]


@pytest.mark.parametrize("metric", METRICS)
def test_no_known_label_is_an_error(metric: str) -> None:
    with pytest.raises(W2SError, match=f"{metric} is undefined: none of the 3"):
        score(metric, np.zeros((1, 3), int), np.full(3, -1), np.zeros(3, int), 2)


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
