"""What the canaries that know the truth are taught; that they are taught it of the train split alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.arrays import ArrayTask
from benchmark.core.canaries import CANARY_METHODS, mixture_weights
from benchmark.core.data import Problem, Truth
from benchmark.core.names import CANARIES, TRAIN_TRUTH
from benchmark.store.cache import Cache
from support.laws import generators


def make_problem(rng: np.random.Generator, K: int = 3, M: int = 4) -> Problem:
    """Supervisors of several skills; a fifth of the labels unknown."""
    labels = rng.integers(K, size=120)
    skill = rng.uniform(0.3, 3, size=M)
    logits = skill[:, None] * np.eye(K)[labels][:, None] + rng.normal(size=(120, M, K))
    soft_labels = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    known = np.where(rng.random(120) < 0.2, -1, labels)
    return ArrayTask(rng.normal(size=(120, 2)), soft_labels, known, name="made").problem("ood", 0, Cache())


def fit(weights: np.ndarray, likelihoods: np.ndarray) -> float:
    return float(np.log(np.maximum(likelihoods @ weights, 1e-300)).mean())


@given(generators, st.integers(1, 50), st.integers(1, 6), st.floats(0.05, 5))
def test_no_other_weights_fit_better(rng: np.random.Generator, N: int, M: int, sharpness: float) -> None:
    """After t steps EM is within log(M) / t of the maximum: the divergence of any weights from the first, uniform ones
    goes down by at least what they fit better."""
    likelihoods = rng.beta(sharpness, sharpness, size=(N, M))
    found = mixture_weights(likelihoods)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    for other in (*np.eye(M), *rng.dirichlet(np.ones(M), 20), *rng.dirichlet(np.full(M, 0.2), 20)):
        mixed = 0.9 * found + 0.1 * other
        assert (
            max(fit(other, likelihoods), fit(mixed, likelihoods)) <= fit(found, likelihoods) + np.log(M) / 1000 + 1e-9
        )


def test_weights_of_two_supervisors_by_hand() -> None:
    """The one says 3/4 of the true class of two examples and 1/4 of a third, the other 1/4 and 3/4: the mixture says
    1/4 + w/2 and 3/4 - w/2, whose product (1/4 + w/2)^2 (3/4 - w/2) is largest at w = 5/6."""
    likelihoods = np.array([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75]])
    np.testing.assert_allclose(mixture_weights(likelihoods), [5 / 6, 1 / 6], atol=1e-5)
    silent = np.concatenate([likelihoods, np.zeros((2, 2))])
    np.testing.assert_array_equal(mixture_weights(silent), mixture_weights(likelihoods))
    np.testing.assert_array_equal(mixture_weights(np.zeros((2, 4))), np.full(4, 0.25))


@given(generators)
def test_the_mixture_is_by_the_weights_that_the_record_has(rng: np.random.Generator) -> None:
    problem = make_problem(rng)
    p, labels = problem.soft_labels["train"], problem.truth.labels["train"]
    canary = CANARY_METHODS["oracle_weights"]
    weights = np.array(canary.remarks(problem, "accuracy")["weights"])
    made = canary.supervise(problem, "accuracy")
    np.testing.assert_allclose(made, np.einsum("m,nmk->nk", weights, p), atol=1e-5)
    np.testing.assert_allclose(made.sum(1), 1, atol=1e-5)
    known = np.flatnonzero(labels >= 0)
    likelihoods = p[known, :, labels[known]]
    assert fit(weights, likelihoods) >= max(fit(one, likelihoods) for one in np.eye(len(weights))) - 2e-3


def test_a_supervisor_who_knows_has_all_the_weight() -> None:
    problem = make_problem(np.random.default_rng(0))
    truth = {split: np.eye(3, dtype=np.float32)[y.clip(0)] for split, y in problem.truth.labels.items()}
    for at in range(4):
        knows = {split: p.copy() for split, p in problem.soft_labels.items()}
        for split, p in knows.items():
            p[:, at] = truth[split]
        weights = CANARY_METHODS["oracle_weights"].remarks(replace(problem, soft_labels=knows), "accuracy")["weights"]
        np.testing.assert_allclose(weights, np.eye(4)[at], atol=1e-4)


@pytest.mark.parametrize("name", CANARIES)
def test_what_a_canary_is_taught_depends_on_the_truth_of_the_train_split_or_on_none(name: str) -> None:
    problem = make_problem(np.random.default_rng(1))
    labels, canary = problem.truth.labels, CANARY_METHODS[name]
    usual = canary.supervise(problem, "accuracy")

    def taught(**changed: np.ndarray) -> bool:
        other = replace(problem, truth=Truth({**labels, **changed}, problem.truth.groups))
        return not np.array_equal(canary.supervise(other, "accuracy"), usual)

    def rotated(split: str) -> np.ndarray:
        return np.where(labels[split] >= 0, (labels[split] + 1) % 3, -1)

    assert not taught(test=rotated("test"), val=rotated("val"))
    assert taught(train=rotated("train")) == (name in TRAIN_TRUTH)
