"""Learners on simple features: what holds of all of them, whatever they read."""

import itertools
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.supervisors.classical import Classical, Learner, Reads
from support.laws import generators

ALL = [Classical(*both) for both in itertools.product(get_args(Reads), get_args(Learner))]
WORDS = [["red", "crimson", "scarlet"], ["blue", "azure", "navy"], ["green", "olive", "lime"]]


def made_up(reads, labels, rng):
    """Inputs that tell their class."""
    if reads in ("words", "characters"):
        return [" ".join(rng.choice(WORDS[label], 3)) for label in labels]
    signal = 40 * labels[:, None] + rng.integers(0, 20, (len(labels), 20))
    if reads == "pixels":
        return np.broadcast_to(signal[:, :, None], (len(labels), 20, 20)).astype(np.uint8)
    return np.stack([signal, signal + rng.normal(size=signal.shape)], -1)


@pytest.mark.parametrize("model", ALL, ids=lambda m: f"{m.reads}-{m.learner}")
def test_it_learns_and_gives_every_class_a_probability(model):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60) % 3)
    inputs, new = (made_up(model.reads, labels, rng) for _ in range(2))
    fitted = model.fit(inputs, labels, 5, seed=2**40 + 1)  # classes 3 and 4 are not there
    p = fitted.predict_proba(new)
    assert p.shape == (60, 5)
    assert (p[:, 3:] == 0).all()
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p.argmax(1) == labels).mean() > 0.9
    assert np.array_equal(model.fit(inputs, labels, 5, seed=2**40 + 1).predict_proba(new), p)
    cool = replace(model, temperature=10.0).fit(inputs, labels, 5, seed=2**40 + 1).predict_proba(new)
    np.testing.assert_allclose(cool.sum(1), 1)
    sure = np.sort(p, 1)[:, -1] - np.sort(p, 1)[:, -2] > 1e-6
    assert np.array_equal(cool.argmax(1)[sure], p.argmax(1)[sure])
    assert (cool.max(1) <= p.max(1) + 1e-12).all()
    assert cool.max(1).mean() < p.max(1).mean() - 0.1


@settings(max_examples=5)
@given(generators, st.sampled_from(ALL))
def test_one_class_is_certain(rng, model):
    labels = np.full(4, 2)
    inputs = made_up(model.reads, labels, rng)
    assert np.array_equal(model.fit(inputs, labels, 3, 0).predict_proba(inputs), np.eye(3)[labels])
