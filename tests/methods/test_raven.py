"""RAVEN followed by hand, in plain Python floats, with any of its options: losses, gradients, and weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.api import Batch, Method, W2SError
from benchmark.core.data import Recipe
from benchmark.core.registry import METHODS
from benchmark.core.training import train
from benchmark.students.language.student import LanguageModel
from benchmark.testing import make_data, make_supervision
from support.laws import seeds
from support.plain_losses import Vector, ce, entropy, mean, normalised
from support.twins import RAVENS

R, N, B, STEPS = 2, 6, 3, 2


def slope(f: Callable[[Vector], float], x: Vector) -> Vector:
    """The gradient of f at x, by finite differences."""
    moved = [[[v + sign * 1e-5 * (i == j) for j, v in enumerate(x)] for sign in (1, -1)] for i in range(len(x))]
    return [(f(up) - f(down)) / 2e-5 for up, down in moved]


class ByHand:
    """One replica: p (N, M, K) soft labels; w (1, M) weights, or (N, M) per sample."""

    def __init__(self, method: Any, p: list[list[Vector]], initial: list[Vector], epochs: int, beta: float | None):
        self.method, self.p, self.initial, self.w, self.beta = method, p, initial, list(initial), beta
        self.easy_epochs, self.epochs, self.epoch = round(method.easy_fraction * epochs), epochs, 0
        eta = method.eta
        if eta is None:
            eta = 15 / (epochs * STEPS * (1 - method.easy_fraction))
        self.rate = eta * (len(p) if method.per_sample else 1)

    def loss(self, w: Vector, z: Vector, p: list[Vector], easy: bool) -> float:
        if self.beta is None:
            agree = len({pm.index(max(pm)) for pm in p}) == 1
            return ce(z, mean(p, w)) if agree or not easy else 0.0
        g = math.fsum(wm * math.log(a / b) for wm, (a, b) in zip(w, p, strict=True))
        h = (z[0] - z[1]) / self.beta * (1 if g >= 0 else -1)
        strength = self.beta if easy else self.beta + math.tanh(abs(g) / 2)
        return math.log1p(math.exp(-strength * h))

    def step(self, number: int, index: list[int], logits: list[Vector]) -> tuple[Vector, list[Vector]]:
        """Step `number` (from 0) on these examples: the losses, and their gradients by logits."""
        epoch = number // STEPS
        easy = epoch < self.easy_epochs if self.beta is None else number < STEPS / 2
        if self.method.reset_each_epoch and epoch != self.epoch:
            self.w = list(self.initial)
        self.epoch = epoch
        place = [n if self.method.per_sample else 0 for n in index]
        rows = [(self.w[at], z, self.p[n]) for at, n, z in zip(place, index, logits, strict=True)]
        losses = [self.loss(w, z, p, easy) for w, z, p in rows]
        by_logits = [slope(lambda z, w=w, p=p: self.loss(w, z, p, easy), z) for w, z, p in rows]
        if self.method.learn_weights and not easy:
            slopes = [slope(lambda w, z=z, p=p: self.loss(w, z, p, easy), w) for w, z, p in rows]
            for at in set(place):
                total = [
                    math.fsum(own) / B
                    for own in zip(*(s for s, i in zip(slopes, place, strict=True) if i == at), strict=True)
                ]
                self.w[at] = normalised([max(w - self.rate * g, 1e-6) for w, g in zip(self.w[at], total, strict=True)])
        return losses, by_logits


class Run:
    """A method, started on random soft labels in float64, and the engine's part of a training step."""

    def __init__(
        self, method: Any, seed: int = 0, M: int = 3, K: int = 4, epochs: int = 5, beta: float | None = None
    ) -> None:
        self.rng, self.method, self.epochs = torch.Generator().manual_seed(seed), method, epochs
        self.labels = (2 * torch.randn(R, N, M, K, generator=self.rng, dtype=torch.float64)).softmax(-1)
        self.supervision = replace(make_supervision(self.labels, epochs, STEPS), margin_beta=beta)
        method.start(self.supervision)

    def weights(self) -> Tensor:
        return self.method.diagnostics()["weights"].clone()

    def step(
        self, number: int, index: Tensor | None = None, logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Step `number` (from 0): (logits, index, loss of each example)."""
        if index is None:
            index = torch.stack([torch.randperm(N, generator=self.rng)[:B] for _ in range(R)])
        if logits is None:
            K = self.labels.shape[-1]
            logits = 2 * torch.randn(R, K, B, generator=self.rng, dtype=torch.float64).transpose(1, 2)
        logits = logits.clone().requires_grad_()
        rows = self.labels[torch.arange(R)[:, None], index]
        loss = self.method.loss(logits, Batch(rows, index, number // STEPS, (number + 1) / (self.epochs * STEPS)))
        loss.mean(1).sum().backward()
        self.method.after_step()
        return logits, index, loss


@settings(max_examples=100)
@given(
    st.sampled_from(RAVENS),
    st.fixed_dictionaries(
        {},
        optional={
            "eta": st.sampled_from((0.05, 0.4, 50.0)),  # with the last one, weights meet the clamp
            "easy_fraction": st.sampled_from((0.0, 0.2, 0.5)),
            "init": st.sampled_from(("uniform", "random", "entropy")),
            "reset_each_epoch": st.booleans(),
        },
    ),
    st.integers(1, 4),
    st.sampled_from(((2, None), (2, 0.3), (4, None))),
    st.integers(2, 5),
    seeds,
)
def test_every_step_is_the_one_by_hand(
    name: str, options: dict[str, Any], M: int, form: tuple[int, float | None], epochs: int, seed: int
) -> None:
    """In the soft-label form, and in the margin form of DPO, with the beta of the student."""
    (K, beta), method = form, METHODS[name](**options)
    run = Run(method, seed, M, K, epochs, beta)
    initial = method.weights.clone()
    assert initial.shape == (R, N if method.per_sample else 1, M)
    by_hand = [ByHand(method, run.labels[r].tolist(), initial[r].tolist(), epochs, beta) for r in range(R)]
    for number in range(epochs * STEPS):
        before = method.weights.clone()
        logits, index, loss = run.step(number)
        touched = torch.zeros(method.weights.shape[:2], dtype=torch.bool)
        for r, own in enumerate(by_hand):
            losses, by_logits = own.step(number, index[r].tolist(), logits[r].tolist())
            assert loss[r].tolist() == pytest.approx(losses, rel=1e-6, abs=1e-9)
            assert logits.grad is not None
            for found, expected in zip((B * logits.grad[r]).tolist(), by_logits, strict=True):
                assert found == pytest.approx(expected, abs=1e-6)
            for found, expected in zip(method.weights[r].tolist(), own.w, strict=True):
                assert found == pytest.approx(expected, rel=1e-6, abs=1e-8 * own.rate)
            touched[r, index[r] if method.per_sample else 0] = True
        reset = method.reset_each_epoch and number % STEPS == 0
        assert torch.equal((initial if reset else before)[~touched], method.weights[~touched]), "bit by bit"
        torch.testing.assert_close(run.weights(), method.weights.mean(1))
        assert not method.weights.requires_grad
        assert (method.weights > 0).all()


@settings(max_examples=15)
@given(seeds)
def test_the_gradient_is_the_advantage_over_the_mixture(seed: int) -> None:
    """-Δw_m / η = CE(q, p_m) - CE(q, t) on the minibatch, before projection."""
    run = Run(METHODS["raven"](eta=1e-3, init="random"), seed)
    before = run.weights()
    logits, index, _ = run.step(2)
    for r in range(R):
        w, advantage = before[r].tolist(), [0.0] * 3
        for b in range(B):
            z, p = logits[r, b].tolist(), run.labels[r, index[r, b]].tolist()
            for m in range(3):
                advantage[m] += (ce(z, p[m]) - ce(z, mean(p, w))) / B
        moved = [max(wm - 1e-3 * a, 1e-6) for wm, a in zip(w, advantage, strict=True)]
        assert run.weights()[r].tolist() == pytest.approx(normalised(moved), abs=1e-12)
        # the advantages weighted by w cancel: without the division in t they would not, and w would collapse
        assert math.fsum(wm * a for wm, a in zip(w, advantage, strict=True)) == pytest.approx(0, abs=1e-12)


def test_the_better_supervisor_gains() -> None:
    run = Run(METHODS["raven"](eta=0.1))
    index = torch.arange(B).expand(R, B)
    for _ in range(20):
        run.step(2, index, run.labels[:, :B, 1].log())  # a student that agrees with supervisor 1
    assert (run.weights().argmax(-1) == 1).all()


def test_no_gradient_is_left_behind() -> None:
    run = Run(METHODS["raven"](eta=0.1))
    run.step(2)
    assert run.method.leaf.grad is None
    before = run.weights()
    run.method.after_step()  # nothing new to step on
    assert torch.equal(run.weights(), before)


@given(st.sampled_from(("uniform", "random", "entropy")), st.booleans(), st.integers(1, 4), seeds)
def test_initial_weights(init: str, per_sample: bool, M: int, seed: int) -> None:
    run = Run(METHODS["raven"](init=init, per_sample=per_sample), seed, M)
    for r in range(R):
        entropies = [[entropy(pm) for pm in p] for p in run.labels[r].tolist()]
        for n, row in enumerate(entropies if per_sample else [mean(entropies)]):
            found = run.method.weights[r, n].tolist()
            assert math.fsum(found) == pytest.approx(1)
            if init != "random":
                by_entropy = normalised([1 / (h + 1e-8) for h in row])
                assert found == pytest.approx(by_entropy if init == "entropy" else [1 / M] * M)
    if init == "random":
        assume(M > 1)
        assert not torch.equal(run.method.weights[0], run.method.weights[1])
        alone = METHODS["raven"](init="random", per_sample=per_sample)
        alone.start(
            replace(run.supervision, soft_labels=run.labels[1:], generators=make_supervision(run.labels).generators[1:])
        )
        assert torch.equal(alone.weights[0], run.method.weights[1]), "each replica's own"  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{"init": "best"}, {"easy_fraction": 1.0}, {"easy_fraction": -0.1}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(W2SError, match=option):
        Run(METHODS["raven"](**options))


def test_variants_differ_from_raven_in_one_option() -> None:
    raven = vars(METHODS["raven"]())
    for name in set(RAVENS) - {"raven"}:
        method: Method = METHODS[name]()
        assert method.ablation_of == (None if name == "raven_released" else "raven")
        assert len([key for key, value in vars(method).items() if raven[key] != value]) == 1


def test_a_policy_without_the_option_asks_for_the_soft_form() -> None:
    assert LanguageModel("policy").margin_beta is None
    assert LanguageModel("policy", beta=0.2, preference_loss="margin").margin_beta == 0.2


@pytest.mark.parametrize("name", METHODS.names())
def test_only_raven_and_its_variants_know_the_margin_form(name: str) -> None:
    data = replace(make_data(supervisors=max(3, METHODS[name].min_supervisors), classes=2, pairs=True))
    recipe = Recipe(learning_rate=1e-2, epochs=2, batch_size=8)
    (soft,) = train([METHODS[name]()], data, recipe)
    (margin,) = train([METHODS[name]()], replace(data, margin_beta=0.3), recipe)
    assert margin.student.finite()
    same = torch.equal(soft.student.weight, margin.student.weight)  # type: ignore[attr-defined]
    assert same is (name not in RAVENS)
