"""DINE against a plain loop on one head, and its label smoothing in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmark.core.data import Recipe
from benchmark.core.minibatches import Minibatches
from benchmark.core.recording import Tape
from benchmark.core.training import train
from benchmark.students.linear import Heads, initial_head
from methods.dine import Dine, smoothed
from support.laws import generators
from support.rounding import assert_close, assert_trained_alike
from support.trained import SEEDS, make_data


def smoothed_by_hand(p: list[float], top: int) -> list[float]:
    kept = sorted(range(len(p)), key=lambda c: (-p[c], c))[:top]
    left = 1 - math.fsum(p[c] for c in kept)
    return [p[c] if c in kept else left / (len(p) - len(kept)) for c in range(len(p))]


@given(st.integers(2, 8), st.integers(1, 9), generators)
def test_label_smoothing_keeps_the_largest(K: int, top: int, rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(K), size=5)
    for found, row in zip(smoothed(torch.from_numpy(p), top).tolist(), p.tolist(), strict=True):
        assert found == pytest.approx(smoothed_by_hand(row, top), abs=1e-9)


def im_by_hand(q: Tensor) -> Tensor:
    """Mean entropy less the entropy of the mean, of q (B, K)."""
    return (-(q * q.log()).sum(1)).mean() + (q.mean(0) * q.mean(0).log()).sum()


def by_hand(x: Tensor, p: Tensor, seed: int, recipe: Recipe, gamma: float, top: int, rate: float) -> nn.Linear:
    """One seed: features (N, D), soft labels (M, N, K); ten equal parts of the first step's epochs."""
    head = nn.Linear(x.shape[1], p.shape[-1])
    for own, start in zip(head.parameters(), initial_head(seed, p.shape[-1], x.shape[1]), strict=True):
        own.data.copy_(start)
    t = torch.stack([torch.tensor([smoothed_by_hand(row, top) for row in own.tolist()]) for own in p]).mean(0)
    # the first epoch that ends at or after each tenth
    ends = {math.ceil(recipe.epochs * k / 10) for k in range(1, 10)} - {recipe.epochs}
    for step, factor in ((1, 1.0), (2, rate)):
        stream = Minibatches((seed,), len(x), recipe.batch_size)
        optimizer = torch.optim.Adam(head.parameters(), lr=recipe.learning_rate * factor)
        total = stream.steps_per_epoch * recipe.epochs
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
        for epoch in range(recipe.epochs):
            for index in stream.epoch(epoch)[:, 0, 0]:
                q = head(x[index]).softmax(1)
                loss = im_by_hand(q)
                if step == 1:
                    loss = loss + (t[index] * (t[index].log() - q.log())).sum(1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            if step == 1 and epoch + 1 in ends:
                t = gamma * t + (1 - gamma) * head(x).softmax(1).detach()
    return head


@pytest.mark.parametrize(
    ("epochs", "gamma", "top", "rate"), [(12, 0.6, 1, 0.17), (20, 0.9, 2, 1.0), (4, 0.0, 1, 0.17), (1, 0.6, 9, 0.3)]
)
@pytest.mark.parametrize("recorded", [False, True])
def test_dine_is_the_plain_loop(epochs: int, gamma: float, top: int, rate: float, recorded: bool) -> None:
    data, recipe = make_data(), Recipe(learning_rate=3e-3, epochs=epochs, batch_size=30)
    (found,) = train([Dine(gamma, top, rate)], data, recipe, recorder=Tape() if recorded else None)
    assert isinstance(found.student, Heads)
    assert found.student.bias is not None
    steps = 2 * epochs * 3
    assert found.steps == steps
    for s, seed in enumerate(SEEDS):
        head = by_hand(data.features["full"][s], data.soft_labels[s], seed, recipe, gamma, top, rate)
        own = [found.student.weight[s, 0], found.student.bias[s, 0]]
        assert_trained_alike(own, list(head.parameters()), list(initial_head(seed, 4, 6)), steps * (6 + 30 + 10))


def test_without_its_own_answers_it_distils_what_it_is_given() -> None:
    """gamma 1, and fine-tuning that moves nothing: distance from the mean's student comes from the two terms alone."""
    data, recipe = make_data(), Recipe(learning_rate=3e-3, epochs=3, batch_size=30)
    kept, moved = (train([Dine(1.0, 1, rate)], data, recipe)[0].student for rate in (1e-9, 1.0))
    assert isinstance(kept, Heads)
    assert isinstance(moved, Heads)
    assert (kept.weight - moved.weight).abs().max() > 1e-3
    head = by_hand(data.features["full"][0], data.soft_labels[0], SEEDS[0], recipe, 1.0, 1, 1e-9)
    assert_close(kept.weight[0, 0], head.weight.detach(), 18 * 46, scale=1.0)
