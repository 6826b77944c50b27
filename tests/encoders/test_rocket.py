"""Random convolutions beside a writing of them in loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.api import W2SError
from benchmark.encoders import rocket
from benchmark.encoders.rocket import Rocket
from support.laws import generators


def by_loops(x, kernels):
    """(2 kernels,) features of one series (time, channels)."""
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
    found = []
    for kernel in kernels:
        weights, reads, pad = kernel.weights[0].numpy(), kernel.channels.tolist(), kernel.padding
        padded = np.concatenate([np.zeros((pad, x.shape[1])), x, np.zeros((pad, x.shape[1]))])
        span = (weights.shape[1] - 1) * kernel.dilation
        values = []
        for start in range(len(padded) - span):
            total = kernel.bias
            for row, channel in zip(weights, reads, strict=True):
                total += sum(w * padded[start + i * kernel.dilation, channel] for i, w in enumerate(row))
            values.append(total)
        found += [max(values), np.mean(np.array(values) > 0)]
    return found


@settings(max_examples=10)
@given(generators, st.integers(11, 40), st.integers(1, 4))
def test_it_is_the_formula(rng, time, channels):
    x = rng.normal(2, 3, (3, time, channels)).astype(np.float32)
    found = Rocket(kernels=5).encode(x)
    expected = [by_loops(row.astype(float), rocket._draw(5, time, channels)) for row in x]
    # sums of some 50 products of numbers near 1 in float32; a value next to 0 may fall on either side
    np.testing.assert_allclose(found["full"][:, ::2], np.array(expected)[:, ::2], atol=1e-4)
    np.testing.assert_allclose(found["full"][:, 1::2], np.array(expected)[:, 1::2], atol=1 / time + 1e-6)
    assert np.array_equal(found["half"], found["full"][:, :5])


def test_every_series_by_itself_and_whatever_its_scale():
    x = np.random.default_rng(0).normal(size=(300, 20, 2)).astype(np.float32)
    whole = Rocket(kernels=8).encode(x)["full"]
    np.testing.assert_allclose(Rocket(kernels=8).encode(x[250:])["full"], whole[250:], atol=1e-5)
    np.testing.assert_allclose(Rocket(kernels=8).encode(8 * x)["full"], whole, atol=1e-5)
    assert np.isfinite(Rocket(kernels=8).encode(np.ones((2, 20, 2), np.float32))["full"]).all()


def test_kernels_are_rockets():
    kernels = rocket._draw(300, 200, 6)
    assert {k.weights.shape[2] for k in kernels} == {7, 9, 11}
    assert {len(k.channels) for k in kernels} == {1, 2, 3, 4, 5, 6}
    assert all(abs(k.weights.sum(2)).max() < 1e-5 for k in kernels)
    assert all(k.dilation * (k.weights.shape[2] - 1) < 200 for k in kernels)
    assert {k.padding > 0 for k in kernels} == {True, False}


@pytest.mark.parametrize("x", [np.zeros((3, 10, 2)), np.zeros((3, 20)), [1, 2]])
def test_what_is_no_series_is_refused(x):
    with pytest.raises(W2SError, match="time >= 11, channels"):
        Rocket().encode(x)
