"""The tolerances of other tests: what rounding does passes, what a fault does fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.core.data import Recipe
from support.rounding import assert_close, assert_trained_alike


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_another_order_of_a_sum_passes_and_a_missing_term_fails(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        x = rng.normal(size=n).astype(np.float32)
        one, other = (np.cumsum(rng.permutation(x))[-1] for _ in range(2))  # one term after the other
        scale = np.abs(x).sum()
        assert_close(one, other, n, scale)
        with pytest.raises(AssertionError, match="rounding explains"):
            assert_close(one, other - x[np.abs(x).argmax()], n, scale)


def train(recipe: Recipe, noise: float = 0.0, skip: int | None = None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights before and after logistic regression with Adam; `noise` is a relative error of gradients."""
    rng = torch.Generator().manual_seed(0)
    x, w = torch.randn(64, 400, generator=rng), torch.zeros(400, requires_grad=True)
    start, y = w.detach().clone(), torch.rand(64, generator=rng)
    optimizer = torch.optim.Adam([w], lr=recipe.learning_rate)
    for epoch in range(recipe.epochs):
        for i, rows in enumerate(torch.arange(64).split(recipe.batch_size)):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(x[rows] @ w, y[rows])
            optimizer.zero_grad()
            loss.backward()
            assert w.grad is not None
            w.grad += noise * w.grad.abs().max() * torch.randn(400, generator=rng)
            if (epoch, i) != (0, skip):
                optimizer.step()
    return [start], [w.detach()]


def test_noise_in_gradients_passes_and_another_training_fails() -> None:
    recipe, roundings = Recipe(1e-3, 3, 8), 24 * 64
    start, expected = train(recipe)
    for noise in (1e-8, 1e-7, 1e-6):
        assert_trained_alike(train(recipe, noise)[1], expected, start, roundings)
    for other in (Recipe(1.01e-3, 3, 8), Recipe(1e-3, 4, 8), Recipe(1e-3, 3, 16)):
        with pytest.raises(AssertionError, match="of the distance moved"):
            assert_trained_alike(train(other)[1], expected, start, roundings)
    with pytest.raises(AssertionError, match="of the distance moved"):
        assert_trained_alike(train(recipe, skip=3)[1], expected, start, roundings)
    with pytest.raises(AssertionError, match="nothing was learned"):
        assert_trained_alike(start, start, start, roundings)
