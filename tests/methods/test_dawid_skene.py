"""Dawid and Skene's EM beside crowd-kit's: equal numbers, from the start to the stop rule."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.dawid_skene import posterior
from support.crowd_kit import crowd_kit, random_votes
from support.laws import seeds


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
