"""Weak models: they learn, know every class, give probabilities, and are the same each time."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmark.supervisors.cnn import SmallCNN, _Pool
from benchmark.supervisors.pixels import PixelLogistic
from benchmark.supervisors.tfidf import TfidfBradleyTerry, TfidfClassifier
from support.laws import seeds
from support.rounding import assert_close

WORDS = {0: ["awful", "bad", "poor"], 1: ["good", "fine", "lovely"], 2: ["green", "blue", "red"]}


def texts(labels, seed):
    rng = np.random.default_rng(seed)
    return [f"it is {rng.choice(WORDS[c])} and {rng.choice(['a', 'b', 'c'])}x{rng.integers(50)}" for c in labels]


def pictures(labels, seed, size=40, channels=()):
    """Class c is a bright stripe at a third of the height, in noise."""
    x = np.random.default_rng(seed).integers(0, 120, (len(labels), size, size, *channels))
    for image, c in zip(x, labels, strict=True):
        image[c * size // 4 + 2 : c * size // 4 + 8] += 120
    return x.astype(np.uint8)


def labels(n, classes=3, seed=0):
    return np.random.default_rng(seed).integers(0, classes, n)


CLASSIFIERS = [
    pytest.param(TfidfClassifier(), texts, id="tfidf"),
    pytest.param(PixelLogistic(), pictures, id="pixels"),
    pytest.param(SmallCNN(epochs=10), pictures, id="cnn"),
]


def check(probabilities, shape):
    assert probabilities.shape == shape
    assert probabilities.dtype == np.float64
    assert (probabilities >= 0).all()
    assert np.abs(probabilities.sum(1) - 1).max() < 1e-6


@pytest.mark.parametrize(("model", "make"), CLASSIFIERS)
def test_classifiers_learn_and_give_probabilities(model, make):
    y, y_test = labels(200), labels(100, seed=1)
    fitted = model.fit(make(y, 0), y, 3, seed=0)
    probabilities = fitted.predict_proba(make(y_test, 1))
    check(probabilities, (100, 3))
    assert (probabilities.argmax(1) == y_test).mean() > 0.9


@pytest.mark.parametrize(("model", "make"), CLASSIFIERS)
def test_a_class_that_training_lacks_has_a_column(model, make):
    y = labels(120)
    y[y == 1] = 2
    probabilities = model.fit(make(y, 0), y, 4, seed=0).predict_proba(make(y, 1))
    check(probabilities, (120, 4))
    assert (probabilities.argmax(1) == y).mean() > 0.9
    assert probabilities[:, [1, 3]].max() < 0.3


@pytest.mark.parametrize(("model", "make"), CLASSIFIERS)
def test_one_class_only(model, make):
    y = np.full(20, 2)
    probabilities = model.fit(make(y, 0), y, 3, seed=0).predict_proba(make(y, 1))
    check(probabilities, (20, 3))
    assert (probabilities.argmax(1) == 2).all()


@pytest.mark.parametrize(("model", "make"), CLASSIFIERS)
def test_classifiers_are_the_same_each_time(model, make):
    y = labels(80)
    x, x_test = make(y, 0), make(y, 1)
    first = model.fit(x, y, 3, seed=5).predict_proba(x_test)
    torch.rand(3)
    assert np.array_equal(model.fit(x, y, 3, seed=5).predict_proba(x_test), first)


def test_the_cnn_depends_on_its_seed_and_leaves_torchs_random_state_alone():
    y = labels(80)
    x = pictures(y, 0)
    before = torch.get_rng_state()
    first, second = (SmallCNN(epochs=2).fit(x, y, 3, seed=seed).predict_proba(x) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.abs(first - second).max() > 1e-3
    with torch.no_grad():
        assert np.array_equal(SmallCNN(epochs=2).fit(x, y, 3, seed=0).predict_proba(x), first)


def test_the_cnns_predictions_do_not_depend_on_the_neighbours():
    y = labels(64)
    x = pictures(y, 0)
    fitted = SmallCNN(epochs=2).fit(x, y, 3, seed=0)
    assert_close(fitted.predict_proba(x)[:5], fitted.predict_proba(x[:5]), 1000)  # products of some hundred terms each


@pytest.mark.parametrize(("shape", "channels"), [((40, 40), ()), ((32, 32), ()), ((50, 70), (3,)), ((20, 33), (3,))])
def test_the_cnn_may_be_given_shrunk_images(shape, channels):
    x = np.random.default_rng(0).integers(0, 256, (40, *shape, *channels)).astype(np.uint8)
    model, y = SmallCNN(epochs=2), labels(40)
    small = model.prepare(x)
    assert small.shape == (40, 32, 32, *channels)
    assert small.dtype == np.uint8
    assert np.array_equal(model.prepare(x[3:4]), small[3:4])
    expected = model.fit(x, y, 3, seed=1).predict_proba(x)
    assert np.array_equal(model.fit(small, y, 3, seed=1).predict_proba(small), expected)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(2, 11), st.integers(2, 11), st.booleans(), seeds)
def test_the_cnns_pooling_is_torchs(n, channels, height, width, ties, seed):
    """Values and gradients, bit for bit; of equal values the first has the gradient."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, height, width, generator=rng)
    x = x.round() if ties else x
    gradient = torch.randn(n, channels, height // 2, width // 2, generator=rng)
    results = []
    for layers in ((_Pool(), nn.ReLU()), (nn.ReLU(), nn.MaxPool2d(2))):
        given = x.clone().requires_grad_()
        made = nn.Sequential(*layers)(given)
        made.backward(gradient)
        assert made.is_contiguous()
        assert given.grad.is_contiguous()
        results.append((made.detach(), given.grad))
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


def test_the_cnn_takes_colour():
    y = labels(100, classes=2)
    x = pictures(y, 0, channels=(3,))
    assert (SmallCNN(epochs=5).fit(x, y, 2, seed=0).predict_proba(x).argmax(1) == y).mean() > 0.8


@pytest.mark.parametrize("model", [TfidfClassifier(), SmallCNN(epochs=5)])
def test_classes_count_alike_where_the_metric_says_so(model):
    y = np.array([0] * 90 + [1] * 10)
    x = ["always the same"] * 100 if isinstance(model, TfidfClassifier) else pictures([0], 0).repeat(100, axis=0)
    assert np.abs(model.fit(x, y, 2, seed=0).predict_proba(x) - 0.5).max() < 0.2


def pairs(n, seed):
    y = labels(n, classes=2, seed=seed)
    return (texts(1 - y, seed + 10), texts(y, seed + 20)), y  # label 0: the first is the good one


def test_the_reward_model_learns_to_prefer():
    inputs, y = pairs(200, 0)
    fitted = TfidfBradleyTerry().fit(inputs, y, 2, seed=0)
    test_inputs, y_test = pairs(100, 1)
    probabilities = fitted.predict_proba(test_inputs)
    check(probabilities, (100, 2))
    assert (probabilities.argmax(1) == y_test).mean() > 0.9
    swapped = fitted.predict_proba(test_inputs[::-1])
    assert np.allclose(swapped, probabilities[:, ::-1])
    neutral = ["it is"] * 100
    through = [fitted.predict_proba(pair) for pair in ((test_inputs[0], neutral), (neutral, test_inputs[1]))]
    margin, *parts = (np.log(p[:, 0] / p[:, 1]) for p in (probabilities, *through))
    assert np.allclose(margin, sum(parts)), "a difference of rewards"
    assert fitted.predict_proba((["it is lovely"], ["it is awful"]))[0, 0] > 0.5


def test_the_reward_model_does_not_mind_which_side_wins():
    (first, second), y = pairs(120, 0)
    best, worst = zip(*[(b, a) if c else (a, b) for a, b, c in zip(first, second, y, strict=True)], strict=True)
    mixed = TfidfBradleyTerry().fit((first, second), y, 2, seed=0)
    sorted_pairs = TfidfBradleyTerry().fit((best, worst), np.zeros(120, np.int64), 2, seed=0)
    assert np.allclose(mixed.predict_proba((first, second)), sorted_pairs.predict_proba((first, second)), atol=1e-3)


def test_texts_of_unknown_words_get_even_odds():
    inputs, y = pairs(50, 0)
    fitted = TfidfBradleyTerry().fit(inputs, y, 2, seed=0)
    assert np.allclose(fitted.predict_proba((["zzz"], ["qqq"])), 0.5)


@pytest.mark.parametrize("model", [TfidfClassifier(), TfidfBradleyTerry(), PixelLogistic(), SmallCNN()])
def test_recipes_are_plain_frozen_parameters(model):
    assert json.loads(json.dumps(asdict(model))) == asdict(model)
    assert model.version >= 1
    assert "version" not in asdict(model)
    with pytest.raises(AttributeError):
        model.C = 3
