"""DivideMix against a plain loop on single heads, and its mixture of Gaussians against scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from benchmark.base.seeding import derive
from benchmark.core.data import Recipe
from benchmark.core.minibatches import Minibatches
from benchmark.core.recording import Tape
from benchmark.core.training import train
from benchmark.students.linear import Heads, initial_head
from methods._mixture import clean_probability
from methods.dividemix import DivideMix, sharpen
from support.laws import generators
from support.rounding import assert_trained_alike
from support.trained import SEEDS, make_data


def probability_by_hand(losses: NDArray[np.float64]) -> list[float]:
    """Of one replica: two means from the ends, then EM for two Gaussians, example by example."""
    low, high = min(losses), max(losses)
    x = [(v - low) / max(high - low, 1e-12) for v in losses]
    means = [0.0, 1.0]
    shares: list[list[float]] = []
    for _ in range(11):
        shares = [[1.0, 0.0] if abs(v - means[0]) <= abs(v - means[1]) else [0.0, 1.0] for v in x]
        sizes = [max(sum(own[c] for own in shares), 1) for c in (0, 1)]
        means = [sum(own[c] * v for own, v in zip(shares, x, strict=True)) / sizes[c] for c in (0, 1)]
    bounds: list[float] = []
    for number in range(11):
        parts = []
        for c in (0, 1):
            count = max(sum(own[c] for own in shares), 1e-12)
            mean = sum(own[c] * v for own, v in zip(shares, x, strict=True)) / count
            spread = sum(own[c] * (v - mean) ** 2 for own, v in zip(shares, x, strict=True)) / count + 5e-4
            parts.append((count / len(x), mean, spread))
        joint = [[w / math.sqrt(s) * math.exp(-((v - m) ** 2) / s / 2) for w, m, s in parts] for v in x]
        shares = [[own / sum(both) for own in both] for both in joint]
        if number > 1 and abs(bounds[-1] - bounds[-2]) < 1e-2:
            break
        bounds.append(sum(math.log(sum(both)) for both in joint) / len(x))
    clean = 0 if parts[0][1] <= parts[1][1] else 1
    return [own[clean] for own in shares]


@settings(max_examples=30)
@given(st.floats(0.2, 0.8), st.floats(0.5, 4.0), generators)
def test_clean_probabilities_are_those_of_scikit_learn(share: float, apart: float, rng: np.random.Generator) -> None:
    """Of its defaults in the release, from the same start."""
    losses = np.abs(rng.normal(0, 0.3, size=(2, 60))) + apart * (rng.random((2, 60)) < share)
    found = clean_probability(torch.from_numpy(losses)).numpy()
    for own, row in zip(found, losses, strict=True):
        scaled = ((row - row.min()) / (row.max() - row.min()))[:, None]
        labels = np.array([v > 0.5 for v in scaled[:, 0]])
        for _ in range(10):
            ends = [scaled[labels == c].mean() for c in (False, True)]
            labels = np.abs(scaled[:, 0] - ends[0]) > np.abs(scaled[:, 0] - ends[1])

        class FromTwoMeans(GaussianMixture):  # type: ignore[misc]
            def _initialize_parameters(self, X: NDArray[np.float64], *rest: object, **more: object) -> None:
                self._initialize(X, np.eye(2)[self.start], **more)

        gmm = FromTwoMeans(2, max_iter=10, tol=1e-2, reg_covar=5e-4)
        gmm.start = labels.astype(int)
        gmm.fit(scaled)
        np.testing.assert_allclose(own, gmm.predict_proba(scaled)[:, gmm.means_.argmin()], atol=1e-6)


@pytest.mark.parametrize("losses", [[0.7] * 5, [0.0, 1.0], [2.0, 2.0, 2.0, 9.0]])
def test_losses_without_two_clusters(losses: list[float]) -> None:
    found = clean_probability(torch.tensor([losses]))
    assert found.isfinite().all()
    assert found[0, 0] > 0.5
    assert (found[0, -1] > 0.5) == (losses[-1] == losses[0])


def head_of(seed: int, x: Tensor, K: int) -> nn.Linear:
    head = nn.Linear(x.shape[1], K)
    for own, start in zip(head.parameters(), initial_head(seed, K, x.shape[1]), strict=True):
        own.data.copy_(start)
    return head


def go(head: nn.Linear, x: Tensor, seed: int, recipe: Recipe, loss: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """One stage: `loss` of logits, examples and the share of steps that are done."""
    stream = Minibatches((seed,), len(x), recipe.batch_size)
    optimizer = torch.optim.Adam(head.parameters(), lr=recipe.learning_rate)
    total, step = stream.steps_per_epoch * recipe.epochs, 0
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for epoch in range(recipe.epochs):
        for index in stream.epoch(epoch)[:, 0, 0]:
            step += 1
            optimizer.zero_grad()
            loss(head(x[index]), index, step / total).backward()
            optimizer.step()
            schedule.step()


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0, "penalty": 0.0}, {"unlabelled": 0.0, "penalty": 3.0}], ids=str
)
@pytest.mark.parametrize("recorded", [False, True])
def test_dividemix_is_the_plain_loop(options: dict[str, float], recorded: bool) -> None:
    data, recipe = make_data(), Recipe(learning_rate=3e-3, epochs=8, batch_size=30)
    (found,) = train([DivideMix(**options)], data, recipe, recorder=Tape() if recorded else None)  # type: ignore[arg-type]
    chosen = {"temperature": 0.5, "unlabelled": 25.0, "penalty": 1.0, **options}
    assert isinstance(found.student, Heads)
    assert found.student.bias is not None
    for s, seed in enumerate(SEEDS):
        x, p = data.features["full"][s], data.soft_labels[s].mean(0)
        K, other = p.shape[1], derive("variant", 1, seed)
        heads = [head_of(own, x, K) for own in (seed, other)]
        for head, own in zip(heads, (seed, other), strict=True):
            go(head, x, own, recipe, lambda z, i, progress, p=p: -(p[i] * z.log_softmax(1)).sum(1).mean())
        a, b = (head(x).softmax(1).detach() for head in heads)
        losses = [-float(t @ q.log()) for t, q in zip(p, a, strict=True)]
        w = probability_by_hand(np.array(losses))
        clean = torch.tensor([v > 0.5 for v in w])
        assert 0 < clean.sum() < len(clean)
        assert min(abs(v - 0.5) for v in w) > 1e-3, "no example is divided by rounding"
        assert found.diagnostics["labelled"][s].item() == pytest.approx(clean.float().mean().item())
        u = torch.stack(
            [v * t + (1 - v) * own if v > 0.5 else (q + own) / 2 for v, t, q, own in zip(w, p, a, b, strict=True)]
        )
        u = u ** (1 / chosen["temperature"])
        u /= u.sum(1, keepdim=True)

        def last(z: Tensor, i: Tensor, progress: float, u: Tensor = u, clean: Tensor = clean) -> Tensor:
            q, labelled = z.softmax(1), clean[i]
            loss = -chosen["penalty"] * (math.log(z.shape[1]) + q.mean(0).log().mean())
            if labelled.any():
                loss = loss - (u[i] * q.log()).sum(1)[labelled].mean()
            if not labelled.all():
                ramp = min(1.0, progress / (16 / 290))
                loss = loss + chosen["unlabelled"] * ramp * (q - u[i]).square()[~labelled].mean()
            return loss

        go(heads[1], x, seed, recipe, last)
        own = [found.student.weight[s, 0], found.student.bias[s, 0]]
        start = list(initial_head(other, K, 6))
        assert_trained_alike(own, list(heads[1].parameters()), start, 3 * 24 * (6 + 30 + 10))


@settings(max_examples=30)
@given(st.integers(2, 10), st.floats(0.01, 5.0), generators)
def test_sharpening_is_a_power_that_does_not_vanish(K: int, temperature: float, rng: np.random.Generator) -> None:
    p = 0.5 * rng.dirichlet(np.ones(K), size=5) + 0.5 / K
    powers = [[v ** (1 / temperature) for v in row] for row in p.tolist()]
    expected = [[v / math.fsum(row) for v in row] for row in powers]
    np.testing.assert_allclose(sharpen(torch.from_numpy(p), temperature).numpy(), expected, rtol=1e-9)
    uniform = torch.full((1, K), 1 / K)  # float32, of which the power may be 0
    torch.testing.assert_close(sharpen(uniform, temperature), uniform)
