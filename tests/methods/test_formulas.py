"""Losses and their gradients against an independent computation, and who has one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.api import W2SError
from benchmark.core.registry import METHODS
from support.laws import seeds
from support.minibatch import Case, R
from support.plain_losses import Vector, ce, mean, mix, onehot, softmax
from support.twins import TARGETS, TWINS, Target, evidential

classes, progresses = st.integers(2, 10), st.floats(0.01, 1)
few = settings(max_examples=20)  # each of a dozen examples, class by class


def test_every_method_has_its_twin() -> None:
    """A second writing, independent of it, with which a test compares it."""
    shipped = {method.name for method in METHODS if method.__module__.split(".")[0] == "methods"}
    assert shipped == TWINS.keys()
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert {name for names in TWINS.values() for name in names if f"\ndef {name}(" not in tests} == set()


@pytest.mark.parametrize(("name", "options", "target_of"), TARGETS)
@few
@given(classes, st.integers(1, 5), seeds, progresses)
def test_cross_entropy_losses_and_gradients(
    name: str, options: dict[str, float], target_of: Target, K: int, M: int, seed: int, progress: float
) -> None:
    case = Case(K, 1 if METHODS[name].kind == "single" else M, seed, progress)
    loss = case.loss(METHODS[name](**options))
    (grad,) = torch.autograd.grad(loss.sum(), case.logits)
    for r, b, z, p in case.examples():
        target = target_of(z, p, progress)
        assert loss[r, b].item() == pytest.approx(ce(z, target), rel=1e-9)
        # with t constant (no gradient through ŷ, c or α) the gradient for z is q - t
        expected = [qc - tc for qc, tc in zip(softmax(z), target, strict=True)]
        assert grad[r, b].tolist() == pytest.approx(expected, abs=1e-9)


@few
@given(classes, st.integers(1, 5), seeds, progresses)
def test_bayesian(K: int, M: int, seed: int, progress: float) -> None:
    case = Case(K, M, seed, progress)
    loss = case.loss(METHODS["bayesian"]())
    (grad,) = torch.autograd.grad(loss.sum(), case.logits)

    def expected(z: Vector, p: list[Vector], own: Vector) -> float:
        votes = math.fsum(evidential(z, onehot(pm), progress) for pm in p)
        return 0.5 * votes + 0.5 * evidential(z, own, progress)

    for r, b, z, p in case.examples():
        own = onehot(z)
        assert loss[r, b].item() == pytest.approx(expected(z, p, own), rel=1e-9)
        for c in range(K):
            up, down = list(z), list(z)
            up[c], down[c] = z[c] + 1e-6, z[c] - 1e-6
            slope = (expected(up, p, own) - expected(down, p, own)) / 2e-6
            assert grad[r, b, c].item() == pytest.approx(slope, abs=1e-6)


# confidence


@pytest.mark.parametrize("name", ["confidence", "ensemble_confidence"])
@few
@given(seeds)
def test_balanced_confidence(name: str, seed: int) -> None:
    M = 1 if name == "confidence" else 3
    case = Case(2, M, seed, progress=1.0)
    with torch.no_grad():
        case.logits[..., 0] += 5.0  # by argmax the student would call nearly everything class 0
    loss = case.loss(METHODS[name](balanced=True))
    (grad,) = torch.autograd.grad(loss.sum(), case.logits)
    for r in range(R):
        rows = [(b, z, mean(p)) for replica, b, z, p in case.examples() if replica == r]
        count = round(math.fsum(labels[1] for _, _, labels in rows))
        second = {b for b, _, _ in sorted(rows, key=lambda row: row[1][1] - row[1][0], reverse=True)[:count]}
        for b, z, labels in rows:
            own = [0.0, 1.0] if b in second else [1.0, 0.0]
            target = mix(0.5, labels, own)
            assert loss[r, b].item() == pytest.approx(ce(z, target))
            expected = [qc - tc for qc, tc in zip(softmax(z), target, strict=True)]
            assert grad[r, b].tolist() == pytest.approx(expected, abs=1e-9)


def test_balanced_confidence_is_for_two_classes() -> None:
    with pytest.raises(W2SError, match="2 classes, found 3"):
        Case(3, 1, 0).loss(METHODS["confidence"](balanced=True))


# votes


def targets(name: str, labels: Tensor, **options: object) -> Tensor:
    """The targets (N, K) that an ensemble method makes of soft labels (N, M, K)."""
    return METHODS[name](**options).aggregate(labels[None])[0]  # type: ignore[attr-defined]


def test_ties() -> None:
    """Of votes they stay; within a supervisor the lowest class has it."""
    p = torch.tensor([[[0.6, 0.4, 0.0], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.9, 0.0, 0.1]]], dtype=torch.float64)
    assert targets("majority_vote", p).tolist() == [[0.5, 0.5, 0.0]]
    p = torch.tensor([[[0.4, 0.2, 0.4], [0.0, 0.5, 0.5]]], dtype=torch.float64)
    assert targets("majority_vote", p).tolist() == [[0.5, 0.5, 0.0]]


def test_entropy_weighting_extremes() -> None:
    sure, flat = [1.0, 0.0, 0.0], [1 / 3] * 3
    p = torch.tensor([[sure, flat], [flat, flat], [sure, [0.0, 1.0, 0.0]]], dtype=torch.float32)
    t = targets("entropy_weighting", p)
    torch.testing.assert_close(t, torch.tensor([sure, flat, [0.5, 0.5, 0.0]]), rtol=0, atol=1e-6)
    above_one = torch.tensor([[[1 + 2**-23, 0.0], [0.0, 1.0]]])  # a rounding error must not make a weight negative
    assert targets("entropy_weighting", above_one)[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)
