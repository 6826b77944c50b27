"""RAVEN: its weights followed by hand, in plain Python floats, and each of its options."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.laws import seeds
from support.plain_losses import Vector, ce, entropy, log_softmax, mean, normalised, softmax
from torch import Tensor

from benchmark.api import Batch, Method, W2SError
from benchmark.core.registry import METHODS
from benchmark.testing import make_supervision

R, N, M, K, B = 2, 8, 3, 4, 4
few = settings(max_examples=15)
EPOCHS, STEPS = 5, 2  # easy_fraction 0.2: epoch 0 is the easy phase
RAVENS = [name for name in METHODS.names() if name == "raven" or METHODS[name].ablation_of == "raven"]


class Run:
    """A method, started on random soft labels in float64, and the engine's part of a training step."""

    def __init__(self, name: str = "raven", seed: int = 0, M: int = M, epochs: int = EPOCHS, **options: Any) -> None:
        self.rng = torch.Generator().manual_seed(seed)
        self.labels = (2 * torch.randn(R, N, M, K, generator=self.rng, dtype=torch.float64)).softmax(-1)
        self.method: Any = METHODS[name](**options)
        self.epochs = epochs
        self.method.start(make_supervision(self.labels, epochs, STEPS))

    def weights(self) -> Tensor:
        return self.method.diagnostics()["weights"].clone()

    def step(
        self, epoch: int, index: Tensor | None = None, logits: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step: (logits, index, loss of each example)."""
        if index is None:
            index = torch.stack([torch.randperm(N, generator=self.rng)[:B] for _ in range(R)])
        if logits is None:
            logits = 2 * torch.randn(R, K, B, generator=self.rng, dtype=torch.float64).transpose(1, 2)
        logits = logits.clone().requires_grad_()
        rows = self.labels[torch.arange(R)[:, None], index]
        loss = self.method.loss(logits, Batch(rows, index, epoch, progress=(epoch + 1) / self.epochs))
        loss.mean(1).sum().backward()
        self.method.after_step()
        return logits, index, loss


# the oracle: one example, one replica


def loss_of(w: Vector, z: Vector, p: list[Vector]) -> float:
    return ce(z, mean(p, w))


def gradient(w: Vector, z: Vector, p: list[Vector]) -> Vector:
    """d loss / d w_m by the quotient rule, without assuming that anything sums to 1."""
    log_q = log_softmax(z)
    u = [math.fsum(wm * pm[c] for wm, pm in zip(w, p, strict=True)) for c in range(len(z))]
    total = math.fsum(u)
    return [
        -math.fsum(lc * (pm[c] / total - u[c] * math.fsum(pm) / total**2) for c, lc in enumerate(log_q)) for pm in p
    ]


def stepped(w: Vector, grad: Vector, eta: float) -> Vector:
    return normalised([max(wm - eta * g, 1e-6) for wm, g in zip(w, grad, strict=True)])


def follow(run: Run, w: list[Vector], logits: Tensor, index: Tensor, eta: float) -> list[Vector]:
    """The weights of every replica after one step from `w`."""
    result = []
    for r in range(R):
        rows = [(logits[r, b].tolist(), run.labels[r, index[r, b]].tolist()) for b in range(B)]
        grads = [gradient(w[r], z, p) for z, p in rows]
        result.append(stepped(w[r], [math.fsum(g[m] for g in grads) / B for m in range(M)], eta))
    return result


# the rule


@few
@given(seeds, st.sampled_from((0.05, 0.4, 1e6)))
def test_three_steps_by_hand(seed: int, eta: float) -> None:
    """With the last eta every weight but one meets the clamp, which is before the division."""
    run, rel = Run(seed=seed, eta=eta), 1e-9 if eta < 1 else 1e-6
    w = [[1 / M] * M for _ in range(R)]
    for _ in range(3):
        logits, index, loss = run.step(epoch=1)
        for r in range(R):
            for b in range(B):
                expected = loss_of(w[r], logits[r, b].tolist(), run.labels[r, index[r, b]].tolist())
                assert loss[r, b].item() == pytest.approx(expected, rel=rel)
        w = follow(run, w, logits, index, eta)
        for r in range(R):
            assert run.weights()[r].tolist() == pytest.approx(w[r], rel=rel)
    assert max(abs(wm - 1 / M) for row in w for wm in row) > 1e-3


@few
@given(seeds)
def test_gradient_is_the_advantage_over_the_mixture(seed: int) -> None:
    """-Δw_m / η = CE(q, p_m) - CE(q, t) on the minibatch, before projection; the student's is q - t."""
    run = Run(seed=seed, eta=1e-3, init="random")
    before = run.weights()
    logits, index, _ = run.step(epoch=1)
    after = run.weights()
    for r in range(R):
        w, advantage = before[r].tolist(), [0.0] * M
        for b in range(B):
            z, p = logits[r, b].tolist(), run.labels[r, index[r, b]].tolist()
            mixture = mean(p, w)
            for m in range(M):
                advantage[m] += (ce(z, p[m]) - ce(z, mixture)) / B
            assert logits.grad is not None
            expected = [(qc - tc) / B for qc, tc in zip(softmax(z), mixture, strict=True)]
            assert logits.grad[r, b].tolist() == pytest.approx(expected, abs=1e-9)
        assert after[r].tolist() == pytest.approx(stepped(w, advantage, 1e-3), abs=1e-12)
        # the advantages weighted by w cancel: without the division in t they would not, and w would collapse
        assert math.fsum(wm * a for wm, a in zip(w, advantage, strict=True)) == pytest.approx(0, abs=1e-12)


def test_the_better_supervisor_gains() -> None:
    run = Run(eta=0.1)
    index = torch.arange(B).expand(R, B)
    for _ in range(20):
        run.step(epoch=1, index=index, logits=run.labels[:, :B, 1].log())  # a student that agrees with supervisor 1
    assert (run.weights().argmax(-1) == 1).all()


@pytest.mark.parametrize("name", RAVENS)
def test_weights_stay_on_the_simplex(name: str) -> None:
    run = Run(name, eta=50.0)  # far too large: every step meets the clamp
    for step in range(20):
        run.step(epoch=step // 4)
        weights = run.method.weights
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert (weights > 0).all()
        assert not run.weights().requires_grad
    if name != "raven_no_weights":
        assert (run.method.weights < 1e-5).any()


def test_no_gradient_is_left_behind() -> None:
    run = Run(eta=0.1)
    run.step(epoch=1)
    assert run.method.leaf.grad is None
    before = run.weights()
    run.method.after_step()  # nothing new to step on
    assert torch.equal(run.weights(), before)


# the easy phase


def test_easy_phase_masks_and_leaves_the_weights() -> None:
    run = Run(eta=0.5)
    seen = set()
    for _ in range(6):
        logits, index, loss = run.step(epoch=0)
        assert logits.grad is not None
        for r in range(R):
            for b in range(B):
                p = run.labels[r, index[r, b]].tolist()
                agree = len({pm.index(max(pm)) for pm in p}) == 1
                seen.add(agree)
                expected = loss_of([1 / M] * M, logits[r, b].tolist(), p) if agree else 0.0
                assert loss[r, b].item() == pytest.approx(expected, rel=1e-9)
                assert bool(logits.grad[r, b].any()) == agree
        assert torch.equal(run.weights(), torch.full((R, M), 1 / M, dtype=torch.float64))
    assert seen == {True, False}
    _, _, loss = run.step(epoch=1)
    assert (loss > 0).all()
    assert not torch.equal(run.weights(), torch.full((R, M), 1 / M, dtype=torch.float64))


@pytest.mark.parametrize(
    ("epochs", "fraction", "easy"), [(30, 0.2, 6), (100, 0.2, 20), (5, 0.5, 2), (3, 0.2, 1), (2, 0.2, 0)]
)
def test_easy_phase_is_whole_epochs(epochs: int, fraction: float, easy: int) -> None:
    run = Run(epochs=epochs, easy_fraction=fraction, eta=0.1)
    for epoch in range(epochs):
        before = run.weights()
        run.step(epoch)
        assert torch.equal(run.weights(), before) == (epoch < easy)


def test_no_easy() -> None:
    run = Run("raven_no_easy")
    _, _, loss = run.step(epoch=0)
    assert (loss > 0).all()
    assert (run.weights() != 1 / M).any()


def test_no_weights() -> None:
    run = Run("raven_no_weights")
    for epoch in range(EPOCHS):
        _, _, loss = run.step(epoch)
        assert bool((loss == 0).any()) <= (epoch == 0)
    assert torch.equal(run.weights(), torch.full((R, M), 1 / M, dtype=torch.float64))


def test_one_supervisor_keeps_all_the_weight() -> None:
    run = Run(M=1)
    run.step(epoch=1)
    assert run.weights().tolist() == [[1.0]] * R


# eta


@pytest.mark.parametrize(("name", "e"), [("raven", 0.2), ("raven_no_easy", 0.0)])
def test_default_eta(name: str, e: float) -> None:
    default, literal = Run(name), Run(name, eta=15 / (EPOCHS * STEPS * (1 - e)))
    for run in (default, literal):
        run.step(epoch=1)
    assert torch.equal(default.weights(), literal.weights())
    assert not torch.equal(default.weights(), torch.full((R, M), 1 / M, dtype=torch.float64))


# per-sample weights


@few
@given(seeds)
def test_per_sample_steps_its_own_rows_only(seed: int) -> None:
    eta = 0.02
    run = Run("raven_per_sample", seed=seed, eta=eta)
    w = torch.full((R, N, M), 1 / M, dtype=torch.float64)
    for _ in range(3):
        logits, index, _ = run.step(epoch=1)
        for r in range(R):
            for b in range(B):
                n = int(index[r, b])
                grad = gradient(w[r, n].tolist(), logits[r, b].tolist(), run.labels[r, n].tolist())
                w[r, n] = torch.tensor(stepped(w[r, n].tolist(), [g / B for g in grad], eta * N), dtype=torch.float64)
        torch.testing.assert_close(run.method.weights, w, rtol=1e-9, atol=0)
        untouched = [sorted(set(range(N)) - set(index[r].tolist())) for r in range(R)]
        assert all(untouched)
    torch.testing.assert_close(run.weights(), w.mean(1))


def test_per_sample_rows_out_of_the_minibatch_are_bitwise_the_same() -> None:
    run = Run("raven_per_sample")
    before = run.method.weights.clone()
    _, index, _ = run.step(epoch=1)
    changed = (run.method.weights != before).any(-1)
    expected = torch.zeros(R, N, dtype=torch.bool)
    expected[torch.arange(R)[:, None], index] = True
    assert torch.equal(changed, expected)


# initial weights and resets


@pytest.mark.parametrize("per_sample", [False, True])
def test_random_init_is_each_replicas_own(per_sample: bool) -> None:
    run = Run(init="random", per_sample=per_sample)
    w = run.method.weights
    assert w.shape == (R, N if per_sample else 1, M)
    assert (w > 0).all()
    torch.testing.assert_close(w.sum(-1), torch.ones_like(w[..., 0]))
    assert not torch.equal(w[0], w[1])
    alone = METHODS["raven"](init="random", per_sample=per_sample)
    supervision = make_supervision(run.labels, EPOCHS, STEPS)
    object.__setattr__(supervision, "generators", supervision.generators[1:])
    object.__setattr__(supervision, "soft_labels", run.labels[1:])
    alone.start(supervision)
    assert torch.equal(alone.weights[0], w[1])  # type: ignore[attr-defined]


@pytest.mark.parametrize("per_sample", [False, True])
def test_entropy_init(per_sample: bool) -> None:
    run = Run(init="entropy", per_sample=per_sample)
    for r in range(R):
        own = [[entropy(pm) for pm in p] for p in run.labels[r].tolist()]
        for n, row in enumerate(own if per_sample else [mean(own)]):
            expected = normalised([1 / (h + 1e-8) for h in row])
            assert run.method.weights[r, n].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("init", ["uniform", "random", "entropy"])
def test_reset_each_epoch(init: str) -> None:
    eta = 0.3
    run = Run(init=init, reset_each_epoch=True, eta=eta, easy_fraction=0.0)
    initial = run.weights()
    for epoch in range(3):
        w = initial.tolist()
        for _ in range(STEPS):
            logits, index, _ = run.step(epoch)
            w = follow(run, w, logits, index, eta)
        for r in range(R):
            assert run.weights()[r].tolist() == pytest.approx(w[r], rel=1e-9)  # the last epoch's stay for the record


def test_without_reset_the_weights_go_on() -> None:
    run = Run(eta=0.3)
    run.step(epoch=1)
    before = run.weights().tolist()
    logits, index, _ = run.step(epoch=2)
    for r, w in enumerate(follow(run, before, logits, index, 0.3)):
        assert run.weights()[r].tolist() == pytest.approx(w, rel=1e-9)


@pytest.mark.parametrize("options", [{"init": "best"}, {"easy_fraction": 1.0}, {"easy_fraction": -0.1}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(W2SError, match="easy_fraction"):
        Run(**options)


def test_ablations_differ_from_raven_in_one_option() -> None:
    raven = vars(METHODS["raven"]())
    assert set(RAVENS) == {"raven", "raven_no_easy", "raven_no_weights", "raven_per_sample"}
    for name in set(RAVENS) - {"raven"}:
        method: Method = METHODS[name]()
        assert method.ablation_of == "raven"
        assert len([key for key, value in vars(method).items() if raven[key] != value]) == 1
