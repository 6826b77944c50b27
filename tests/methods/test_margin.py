"""RAVEN's margin form of DPO, followed by hand in plain Python floats."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.votes import remembered_votes  # noqa: F401
from torch import Tensor

from benchmark.api import Batch
from benchmark.core.data import Recipe
from benchmark.core.registry import METHODS
from benchmark.core.training import train
from benchmark.testing import make_data, make_supervision

R, N, M, B = 2, 6, 3, 4
EPOCHS, STEPS, BETA = 4, 4, 0.3


def started(name: str = "raven", beta: float | None = BETA, **options: Any) -> tuple[Any, Tensor]:
    """The method, and soft labels (R, N, M, 2)."""
    rng = torch.Generator().manual_seed(0)
    labels = (2 * torch.randn(R, N, M, 2, generator=rng, dtype=torch.float64)).softmax(-1)
    method: Any = METHODS[name](**options)
    method.start(replace(make_supervision(labels, EPOCHS, STEPS), margin_beta=beta))
    return method, labels


def take_step(method: Any, labels: Tensor, number: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Step `number` (from 1): logits, positions, losses."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(R, B, 2, generator=rng, dtype=torch.float64).requires_grad_()
    index = torch.stack([torch.randperm(N, generator=rng)[:B] for _ in range(R)])
    batch = Batch(labels[torch.arange(R)[:, None], index], index, (number - 1) // STEPS, number / (EPOCHS * STEPS))
    return logits, index, method.loss(logits, batch)


def by_hand(w: list[float], p: list[list[float]], logits: list[float], plain: bool) -> float:
    """One pair: p (M, 2), logits beta (log pi - log pi_ref) of both responses."""
    g = math.fsum(wm * math.log(a / b) for wm, (a, b) in zip(w, p, strict=True))
    h = (logits[0] - logits[1]) / BETA
    ordered = h if g >= 0 else -h
    strength = BETA if plain else BETA + math.tanh(abs(g) / 2)
    return math.log1p(math.exp(-strength * ordered))


@pytest.mark.parametrize("number", [1, 2, 3, 5, 16])
def test_losses(number: int) -> None:
    method, labels = started()
    method.weights = torch.tensor([[[0.2, 0.5, 0.3]], [[0.7, 0.2, 0.1]]], dtype=torch.float64)
    logits, index, losses = take_step(method, labels, number)
    for r in range(R):
        for b in range(B):
            w, p = method.weights[r, 0].tolist(), labels[r, index[r, b]].tolist()
            expected = by_hand(w, p, logits[r, b].tolist(), plain=number <= STEPS / 2)
            assert losses[r, b].item() == pytest.approx(expected, abs=1e-9)


def test_weights_are_fixed_for_the_first_half_epoch_and_learned_after() -> None:
    method, labels = started()
    for number in range(1, STEPS + 1):
        before = method.weights.clone()
        _, _, losses = take_step(method, labels, number)
        losses.mean(1).sum().backward()
        method.after_step()
        assert torch.equal(method.weights, before) is (number <= STEPS / 2)
        torch.testing.assert_close(method.weights.sum(-1), torch.ones(R, 1, dtype=torch.float64))


def test_the_gradient_of_the_weights_is_that_of_finite_differences() -> None:
    method, labels = started()
    w = torch.tensor([[[0.2, 0.5, 0.3]], [[0.7, 0.2, 0.1]]], dtype=torch.float64)
    method.weights = w.clone()
    _, _, losses = take_step(method, labels, 9)
    losses.mean(1).sum().backward()
    found = method.leaf.grad
    for r in range(R):
        for m in range(M):
            values = []
            for sign in (1, -1):
                method.weights = w.clone()
                method.weights[r, 0, m] += sign * 1e-6
                values.append(float(take_step(method, labels, 9)[2].detach().mean(1).sum()))
            assert found[r, 0, m].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)
    assert found.abs().min() > 1e-6


def test_a_step_of_the_weights_by_hand() -> None:
    method, labels = started(eta=0.05)
    _, _, losses = take_step(method, labels, 9)
    before = method.weights.clone()
    losses.mean(1).sum().backward()
    moved = (before - 0.05 * method.leaf.grad).clamp_min(1e-6)
    method.after_step()
    torch.testing.assert_close(method.weights, moved / moved.sum(-1, keepdim=True))


def test_no_pair_is_left_out_in_the_first_phase() -> None:
    """Unlike the soft-label form, where supervisors that disagree silence an example."""
    method, labels = started()
    assert not method.agreed.all()
    _, _, losses = take_step(method, labels, 1)
    assert (losses > 0).all()


@pytest.mark.parametrize("name", ["raven", "raven_no_weights", "raven_per_sample", "raven_no_easy"])
def test_the_soft_form_is_the_rule(name: str) -> None:
    """Without beta the same losses as ever; with it, others."""
    expected = []
    for beta in (None, BETA):
        method, labels = started(name, beta)
        expected.append(take_step(method, labels, 9)[2].detach())
    method, labels = started(name, None)
    w = method.weights.expand(R, N, M)
    logits, index, losses = take_step(method, labels, 9)
    t = (w[..., None] * labels).sum(2)[torch.arange(R)[:, None], index]
    torch.testing.assert_close(losses, -(t / t.sum(-1, keepdim=True) * logits.log_softmax(-1)).sum(-1))
    assert torch.equal(expected[0], losses.detach())
    assert not torch.allclose(expected[0], expected[1])


def test_a_policy_without_the_option_asks_for_the_soft_form() -> None:
    from benchmark.students.language.student import LanguageModel

    assert LanguageModel("policy").margin_beta is None
    assert LanguageModel("policy", beta=0.2, preference_loss="margin").margin_beta == 0.2


@pytest.mark.parametrize("name", METHODS.names())
def test_only_raven_and_its_variants_know_the_margin_form(name: str) -> None:
    data = replace(make_data(supervisors=max(3, METHODS[name].min_supervisors), classes=2, pairs=True))
    recipe = Recipe(learning_rate=1e-2, epochs=2, batch_size=8)
    (soft,) = train([METHODS[name]()], data, recipe)
    (margin,) = train([METHODS[name]()], replace(data, margin_beta=BETA), recipe)
    assert margin.student.finite()
    same = torch.equal(soft.student.weight, margin.student.weight)  # type: ignore[attr-defined]
    assert same is (name != "raven" and METHODS[name].ablation_of != "raven")
