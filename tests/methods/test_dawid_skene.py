"""Dawid and Skene's EM beside crowd-kit's, from the start to the stop rule, and beside one by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.core.registry import METHODS
from methods.dawid_skene import posterior
from support.crowd_kit import crowd_kit, random_votes
from support.laws import seeds
from support.minibatch import Case
from support.plain_losses import ce, softmax
from support.twins import em_by_hand


def assert_equal(found: Tensor, expected: Tensor) -> None:
    """Equal but for float64's rounding, which rounds of EM make larger: a thousandth of float32's is far above it."""
    assert found.dtype == expected.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=2.0**-34, atol=0)


def em(votes: Tensor, K: int, iterations: int = 100, tolerance: float = 1e-5) -> tuple[Tensor, Tensor]:
    return posterior(votes, K, iterations, tolerance), crowd_kit(votes, K, iterations, tolerance)


# few examples may have votes so symmetric that the order of crowd-kit's additions decides where EM goes
@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(30, 150),
    st.integers(1, 6),
    st.integers(2, 12),
    st.sampled_from((0.0, 0.05, 0.3, 0.6, 0.9, 0.99, 1.0)),
    st.sampled_from((0, 1, 3, 100)),
    st.sampled_from((1e-5, 1e-2)),
    seeds,
)
def test_posteriors_are_crowd_kits(
    R: int, N: int, M: int, K: int, right: float, iterations: int, tolerance: float, seed: int
) -> None:
    """From votes near to random, where EM takes all its rounds, to unanimous ones; classes may lack votes."""
    assert_equal(*em(random_votes(R, N, M, K, right, seed), K, iterations, tolerance))


@settings(max_examples=5)
@given(st.integers(2, 12), st.floats(0, 1), seeds)
def test_pools_of_usual_size(K: int, right: float, seed: int) -> None:
    assert_equal(*em(random_votes(1, 1400, 4, K, right, seed), K))


def test_a_class_that_a_supervisor_never_votes_for() -> None:
    votes = random_votes(2, 60, 3, 4, 0.7, 0)
    votes[:, :, 1] = votes[:, :, 1].clamp(max=2)
    votes[1, :, 2] = 1
    assert_equal(*em(votes, 6))


def test_replicas_end_each_in_its_own_round() -> None:
    easy, hard = random_votes(1, 200, 3, 3, 1.0, 0), random_votes(1, 200, 3, 3, 0.1, 1)
    together = posterior(torch.cat([easy, hard]), 3, 100, 1e-5)
    for own, alone in zip(together, (easy, hard), strict=True):
        assert_equal(own[None], posterior(alone, 3, 100, 1e-5))
    assert (posterior(hard, 3, 2, 1e-5) - together[1]).abs().max() > 1e-3, "the harder one takes more rounds"
    assert_equal(posterior(easy, 3, 2, 1e-5), together[:1])


# by hand


def targets(name: str, labels: Tensor, **options: object) -> Tensor:
    """The targets (N, K) that an ensemble method makes of soft labels (N, M, K)."""
    return METHODS[name](**options).aggregate(labels[None])[0]  # type: ignore[attr-defined]


def annotators(accuracies: Sequence[float], K: int, examples: int, seed: int) -> tuple[Tensor, Tensor]:
    """True classes (N,) and soft labels (N, M, K) whose argmax is right with the given probabilities."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(K, (examples,), generator=rng)
    votes = []
    for accuracy in accuracies:
        wrong = (truth + torch.randint(1, K, (examples,), generator=rng)) % K
        votes.append(torch.where(torch.rand(examples, generator=rng) < accuracy, truth, wrong))
    one_hot = torch.nn.functional.one_hot(torch.stack(votes, 1), K).double()
    return truth, 0.9 * one_hot + 0.1 / K


@settings(max_examples=20)
@given(st.integers(2, 4), st.integers(1, 5), st.integers(0, 4), seeds)
def test_dawid_skene_is_em(K: int, M: int, rounds: int, seed: int) -> None:
    """After any number of rounds: what follows from priors and confusion matrices that are written out by hand."""
    _, p = annotators([0.5 + 0.1 * m for m in range(M)], K, examples=40, seed=seed)
    found = targets("dawid_skene", p, iterations=rounds, tolerance=-math.inf).tolist()
    for row, expected in zip(found, em_by_hand(p.argmax(-1).tolist(), K, rounds), strict=True):
        assert row == pytest.approx(expected, rel=1e-6, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(2, 10), st.integers(1, 5), st.integers(0, 4), seeds)
def test_dawid_skene_losses_and_gradients(K: int, M: int, rounds: int, seed: int) -> None:
    """Each replica's posterior from its own votes, and each example's own."""
    case = Case(K, M, seed)
    loss = case.loss(METHODS["dawid_skene"](iterations=rounds, tolerance=-math.inf))
    (grad,) = torch.autograd.grad(loss.sum(), case.logits)
    posteriors = [em_by_hand(own.argmax(-1).tolist(), K, rounds) for own in case.labels]
    for r, b, z, _ in case.examples():
        target = posteriors[r][int(case.index[r, b])]
        assert loss[r, b].item() == pytest.approx(ce(z, target), rel=1e-6)
        expected = [qc - tc for qc, tc in zip(softmax(z), target, strict=True)]
        assert grad[r, b].tolist() == pytest.approx(expected, abs=1e-6)


def test_dawid_skene_sees_through_a_majority_that_guesses() -> None:
    truth, p = annotators([0.95, 0.95, 0.55, 0.5, 0.5], 2, examples=400, seed=0)

    def accuracy(name: str) -> float:
        return (targets(name, p).argmax(-1) == truth).double().mean().item()

    assert accuracy("dawid_skene") > accuracy("majority_vote") + 0.03


def test_dawid_skene_has_a_column_for_every_class() -> None:
    p = torch.eye(5, dtype=torch.float64)[torch.tensor([[3, 3], [1, 1], [3, 3], [1, 1]])]  # nobody votes 0, 2 or 4
    t = targets("dawid_skene", p)
    assert t.shape == (4, 5)
    torch.testing.assert_close(t, p[:, 0], rtol=0, atol=1e-6)
