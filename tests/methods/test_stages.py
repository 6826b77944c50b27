"""Methods of several stages: what each stage is told to learn, and from which examples."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.core.registry import METHODS
from benchmark.testing import make_supervision
from support.laws import seeds
from support.minibatch import Case, N, R
from support.plain_losses import mean
from support.twins import assignment

classes, few = st.integers(2, 10), settings(max_examples=20)


def answers(K: int, seed: int) -> list[Tensor]:
    """Predictions (R, N, K) of four students."""
    rng = torch.Generator().manual_seed(seed + 1)
    return [(2 * torch.randn(R, N, K, generator=rng, dtype=torch.float64)).softmax(-1) for _ in range(4)]


class FakeTrainer:
    """Records what it is told to fit, and predicts what it is told to predict."""

    def __init__(self, labels: Tensor, predictions: Sequence[Tensor], encoders: tuple[str, ...] = ("own",)) -> None:
        supervision = make_supervision(labels)
        object.__setattr__(supervision, "encoders", encoders)
        self.supervision = supervision
        self.predictions = list(predictions)
        self.fits: list[dict[str, Tensor | str | None]] = []

    def fit(self, targets: Tensor | None = None, keep: Tensor | None = None, encoder: str | None = None) -> None:
        self.fits.append({"targets": targets, "keep": keep, "encoder": encoder})

    def predict(self) -> Tensor:
        return self.predictions[len(self.fits) - 1]


@few
@given(st.integers(1, 4), classes, seeds)
def test_bootstrapping_is_a_chain(encoders: int, K: int, seed: int) -> None:
    """Each student learns, of all examples, what the one before says; with one encoder there are two of them."""
    names, predictions = tuple("abcd"[:encoders]), answers(K, seed)
    trainer = FakeTrainer(Case(K, 1, seed).labels, predictions, names)
    METHODS["bootstrapping"]().fit(trainer)
    assert [fit["encoder"] for fit in trainer.fits] == list(names if encoders > 1 else "aa")
    assert trainer.fits[0]["targets"] is None, "the soft labels as they are given"
    for stage, fit in enumerate(trainer.fits[1:]):
        assert isinstance(fit["targets"], Tensor)
        assert fit["targets"].tolist() == predictions[stage].tolist()
    assert all(fit["keep"] is None for fit in trainer.fits)


@few
@given(classes, st.integers(1, 5), st.integers(0, 3), seeds)
def test_co_supervised_assigns_and_keeps(K: int, M: int, given_layers: int, seed: int) -> None:
    """Each layer from the student of the one before; without layers given there are two, of all supervisors."""
    labels, predictions, draws = Case(K, M, seed).labels, answers(K, seed), random.Random(seed)
    layers = [tuple(draws.sample(range(M), draws.randint(1, M))) for _ in range(given_layers)]
    trainer = FakeTrainer(labels, predictions)
    method = METHODS["co_supervised"](layers=tuple(layers) or None)
    method.start(trainer.supervision)
    method.fit(trainer)
    layers = layers or [tuple(range(M))] * 2
    assert len(trainer.fits) == len(layers)
    for stage, (layer, fit) in enumerate(zip(layers, trainer.fits, strict=True)):
        targets, keep = fit["targets"], fit["keep"]
        assert isinstance(targets, Tensor)
        for r in range(R):
            p = [[row[m] for m in layer] for row in labels[r].tolist()]
            if stage == 0:
                assert keep is None
                assert targets[r].tolist() == [pytest.approx(mean(row)) for row in p]
                continue
            assert isinstance(keep, Tensor)
            chosen, kept = assignment(predictions[stage - 1][r].tolist(), p)
            assert targets[r].tolist() == chosen
            assert set(keep[r].nonzero()[:, 0].tolist()) == kept
            if fit is trainer.fits[-1]:
                assert method.diagnostics()["kept"][r].item() == pytest.approx(len(kept) / N)


@pytest.mark.parametrize("K", [2, 10])
def test_co_supervised_filters(K: int) -> None:
    """The cases above do keep some and drop some, for few and for many classes."""
    made = [(Case(K, 3, seed).labels.tolist(), answers(K, seed)[0].tolist()) for seed in range(2)]
    kept = [len(assignment(student[r], labels[r])[1]) for labels, student in made for r in range(R)]
    assert any(0 < k < N for k in kept)
