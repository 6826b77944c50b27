"""log p(reply) and its hand-made gradient equal what autograd gives."""

from __future__ import annotations

import pytest
import torch
from support.rounding import assert_close
from torch import Tensor

from benchmark.students.language import log_probability
from benchmark.students.language.log_probability import OutputLayer, sequence_log_probs

D, V, R = 6, 11, 3


def roundings(counts: list[int]) -> int:
    """That follow on each other: of a logit, of the sum over the vocabulary, of the sum over tokens."""
    return D + V + sum(counts)


def plain(hidden: Tensor, targets: Tensor, counts: list[int], layer: OutputLayer) -> Tensor:
    """The formula, in the operations of autograd."""
    logits = hidden @ layer.weight.T
    if layer.down is not None and layer.up is not None:
        logits = logits + layer.scale * (hidden @ layer.down.T) @ layer.up.T
    log_p = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    return torch.stack([own.sum() for own in log_p.split(counts)])


def case(counts: list[int], low_rank: bool, seed: int = 0) -> tuple[list[Tensor], Tensor, OutputLayer]:
    """Leaves (hidden, and A, B), targets and the layer."""
    rng = torch.Generator().manual_seed(seed)
    hidden = torch.randn(sum(counts), D, generator=rng).requires_grad_()
    targets = torch.randint(V, (sum(counts),), generator=rng)
    weight = torch.randn(V, D, generator=rng)
    if not low_rank:
        return [hidden], targets, OutputLayer(weight)
    down, up = torch.randn(R, D, generator=rng).requires_grad_(), torch.randn(V, R, generator=rng).requires_grad_()
    return [hidden, down, up], targets, OutputLayer(weight, down, up, 0.7)


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("counts", [[1], [5], [3, 1, 4], [2, 9, 8, 30, 1, 7], [0, 4, 0], [40]], ids=str)
def test_equals_autograd(counts: list[int], low_rank: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_probability, "_TOKENS", 10)  # several parts, and sequences longer than one
    leaves, targets, layer = case(counts, low_rank)
    found, expected = (f(leaves[0], targets, counts, layer) for f in (sequence_log_probs, plain))
    assert_close(found, expected, roundings(counts))
    slopes = torch.linspace(-1, 2, len(counts))  # not the same for all sequences
    for a, b in zip(
        torch.autograd.grad(found @ slopes, leaves), torch.autograd.grad(expected @ slopes, leaves), strict=True
    ):
        assert_close(a, b, roundings(counts))


def test_longer_than_what_is_in_memory_at_a_time() -> None:
    counts = [300, 700, 40, 600]
    leaves, targets, layer = case(counts, True)
    found, expected = (f(leaves[0], targets, counts, layer) for f in (sequence_log_probs, plain))
    assert_close(found, expected, roundings(counts))
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True):
        assert_close(a, b, roundings(counts))


def test_low_rank_part_that_is_still_zero_gets_its_gradient() -> None:
    counts = [3, 2]
    (hidden, _, _), targets, layer = case(counts, True)
    up = torch.zeros(V, R, requires_grad=True)  # as LoRA begins
    fresh = layer._replace(up=up)
    bare = sequence_log_probs(hidden, targets, counts, OutputLayer(layer.weight))
    assert_close(sequence_log_probs(hidden, targets, counts, fresh), bare, roundings(counts))
    (found,) = torch.autograd.grad(sequence_log_probs(hidden, targets, counts, fresh).sum(), up)
    (expected,) = torch.autograd.grad(plain(hidden, targets, counts, fresh).sum(), up)
    assert found.abs().max() > 0.1
    assert_close(found, expected, roundings(counts))


def test_frozen_states_give_no_gradient_and_without_gradients_nothing_is_kept() -> None:
    counts = [3, 2]
    (hidden, _, up), targets, layer = case(counts, True)
    value = sequence_log_probs(hidden.detach(), targets, counts, layer)
    (a,) = torch.autograd.grad(value.sum(), up)
    (b,) = torch.autograd.grad(plain(hidden, targets, counts, layer).sum(), up)
    assert_close(a, b, roundings(counts))
    with torch.inference_mode():
        assert not sequence_log_probs(hidden, targets, counts, layer).requires_grad


def test_the_gradient_is_that_of_finite_differences() -> None:
    counts = [2, 3]
    (hidden, down, up), targets, layer = case(counts, True)
    sequence_log_probs(hidden, targets, counts, layer).sum().backward()
    for leaf in (hidden, down, up):
        assert leaf.grad is not None
        for at in (0, leaf.numel() // 2, leaf.numel() - 1):
            step = torch.zeros(leaf.numel())
            step[at] = 1e-2
            values = []
            for sign in (1, -1):
                moved = (leaf.detach() + sign * step.view_as(leaf)).double()
                given = [moved if x is leaf else x.detach().double() for x in (hidden, down, up)]
                there = OutputLayer(layer.weight.double(), given[1], given[2], layer.scale)
                values.append(float(plain(given[0], targets, counts, there).sum()))
            assert (values[0] - values[1]) / 2e-2 == pytest.approx(float(leaf.grad.flatten()[at]), abs=1e-3)
