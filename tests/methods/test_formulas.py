"""Every loss against an independent computation: plain Python floats, one example at a time, no tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from torch import Tensor

from benchmark.api import Batch, Method, W2SError
from benchmark.core.registry import METHODS
from benchmark.testing import make_supervision
from support.laws import seeds
from support.plain_losses import Vector, ce, entropy, mean, mix, onehot, softmax

R, N, B = 2, 9, 6
classes, progresses = st.integers(2, 10), st.floats(0.01, 1)
few = settings(max_examples=20)  # each of a dozen examples, class by class


# the oracle


def dirichlet_kl(a: Vector) -> float:
    """KL(Dir(a) || Dir(1))."""
    K, S = len(a), math.fsum(a)
    value = math.lgamma(S) - math.lgamma(K)
    return value + math.fsum(-math.lgamma(ac) + (ac - 1) * (digamma(ac) - digamma(S)) for ac in a)


def evidential(z: Vector, t: Vector, s: float) -> float:
    a = [max(v, 0.0) + 1 for v in z]
    tilde = [(ac - 1) * (1 - tc) + 1 for ac, tc in zip(a, t, strict=True)]
    fit = math.fsum(tc * (math.log(math.fsum(a)) - math.log(ac)) for tc, ac in zip(t, a, strict=True))
    return fit + s * dirichlet_kl(tilde)


def agreement(z: Vector, given: Vector, temperature: float) -> Vector:
    """The student's own answer mixed into what is given, by how near it is to each."""
    own, other = (math.exp(ce(z, onehot(t)) / temperature) for t in (z, given))
    return mix(own / (own + other), given, onehot(z))


# method, options, and the target t of its loss CE(q, t): (logits z, soft labels [p_1 .. p_M], progress s) -> t
Target = Callable[[Vector, list[Vector], float], Vector]
TARGETS: list[tuple[str, dict[str, float], Target]] = [
    ("naive", {}, lambda z, p, s: p[0]),
    ("bootstrapping", {}, lambda z, p, s: p[0]),
    ("ensemble", {}, lambda z, p, s: mean(p)),
    ("co_supervised", {}, lambda z, p, s: mean(p)),
    ("majority_vote", {}, lambda z, p, s: mean([onehot(pm) for pm in p])),
    ("entropy_weighting", {}, lambda z, p, s: mean(p, [1 / (entropy(pm) + 1e-8) for pm in p])),
    ("confidence", {}, lambda z, p, s: mix(0.5 * min(1.0, s / 0.2), mean(p), onehot(z))),
    ("confidence", {"warmup": 0.0, "max_confidence": 0.3}, lambda z, p, s: mix(0.3, mean(p), onehot(z))),
    ("ensemble_confidence", {}, lambda z, p, s: mix(0.5 * min(1.0, s / 0.2), mean(p), onehot(z))),
    ("adaptive_confidence", {}, lambda z, p, s: agreement(z, mean(p), 1.0)),
    ("adaptive_confidence", {"temperature": 2.5}, lambda z, p, s: agreement(z, mean(p), 2.5)),
    ("ensemble_adaptive_confidence", {}, lambda z, p, s: agreement(z, mean(p), 1.0)),
]


# the case under test


class Case:
    """Random logits (R, B, K), soft labels (R, N, M, K) and a minibatch, in float64."""

    def __init__(self, K: int, M: int, seed: int, progress: float = 0.1) -> None:
        rng = torch.Generator().manual_seed(seed)
        self.labels = (2 * torch.randn(R, N, M, K, generator=rng, dtype=torch.float64)).softmax(-1)
        z = 2 * torch.randn(R, K, B, generator=rng, dtype=torch.float64)
        self.logits = z.transpose(1, 2).requires_grad_()  # classes strided, as the engine gives them
        self.index = torch.stack([torch.randperm(N, generator=rng)[:B] for _ in range(R)])
        self.progress = progress

    def loss(self, method: Method) -> Tensor:
        method.start(make_supervision(self.labels))
        rows = self.labels[torch.arange(R)[:, None], self.index]
        return method.loss(self.logits, Batch(rows, self.index, epoch=0, progress=self.progress))

    def examples(self) -> list[tuple[int, int, Vector, list[Vector]]]:
        """(replica, position in the minibatch, logits, soft labels) of every example."""
        z, p = self.logits.tolist(), self.labels.tolist()
        return [(r, b, z[r][b], p[r][self.index[r, b]]) for r in range(R) for b in range(B)]


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
    for r in range(R):
        rows = [(b, z, mean(p)) for replica, b, z, p in case.examples() if replica == r]
        count = round(math.fsum(labels[1] for _, _, labels in rows))
        second = {b for b, _, _ in sorted(rows, key=lambda row: row[1][1] - row[1][0], reverse=True)[:count]}
        for b, z, labels in rows:
            own = [0.0, 1.0] if b in second else [1.0, 0.0]
            assert loss[r, b].item() == pytest.approx(ce(z, mix(0.5, labels, own)))


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


# Dawid-Skene


def em(votes: list[list[int]], K: int, rounds: int) -> list[Vector]:
    """Dawid and Skene's EM from the vote shares: posteriors after `rounds` rounds of an E and an M step."""
    N, M, tiny = len(votes), len(votes[0]), 1e-10
    posterior = [[row.count(c) / M for c in range(K)] for row in votes]
    for _ in range(rounds):
        prior = mean(posterior)
        error = [[[tiny] * K for _ in range(K)] for _ in range(M)]  # supervisor, true class, vote
        for m in range(M):
            for c in range(K):
                for n in range(N):
                    error[m][c][votes[n][m]] += posterior[n][c]
                total = math.fsum(error[m][c])
                error[m][c] = [v / total for v in error[m][c]]
        logs = [[math.log(max(prior[c], tiny)) for c in range(K)] for _ in range(N)]
        for n, c, m in product(range(N), range(K), range(M)):
            logs[n][c] += math.log(error[m][c][votes[n][m]])
        posterior = [softmax(row) for row in logs]
    return posterior


def annotators(accuracies: Sequence[float], K: int, examples: int, seed: int) -> tuple[Tensor, Tensor]:
    """True classes (N,) and soft labels (N, M, K) whose argmax is right with the given probabilities."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(K, (examples,), generator=rng)
    votes = []
    for accuracy in accuracies:
        wrong = (truth + torch.randint(1, K, (examples,), generator=rng)) % K
        votes.append(torch.where(torch.rand(examples, generator=rng) < accuracy, truth, wrong))
    one_hot = torch.nn.functional.one_hot(torch.stack(votes, 1), K).double()
    return truth, 0.9 * one_hot + 0.1 / K


@settings(max_examples=5)
@given(st.integers(2, 4), st.integers(1, 5), st.integers(1, 4), seeds)
def test_dawid_skene_is_em(K: int, M: int, rounds: int, seed: int) -> None:
    _, p = annotators([0.5 + 0.1 * m for m in range(M)], K, examples=40, seed=seed)
    t = targets("dawid_skene", p, iterations=rounds, tolerance=-math.inf)
    for row, expected in zip(t.tolist(), em(p.argmax(-1).tolist(), K, rounds), strict=True):
        assert row == pytest.approx(expected, abs=1e-6)


def test_dawid_skene_sees_through_a_majority_that_guesses() -> None:
    truth, p = annotators([0.95, 0.95, 0.55, 0.5, 0.5], 2, examples=400, seed=0)

    def accuracy(name: str) -> float:
        return (targets(name, p).argmax(-1) == truth).double().mean().item()

    assert accuracy("dawid_skene") > accuracy("majority_vote") + 0.03


def test_dawid_skene_has_a_column_for_every_class() -> None:
    p = torch.eye(5, dtype=torch.float64)[torch.tensor([[3, 3], [1, 1], [3, 3], [1, 1]])]  # nobody votes 0, 2 or 4
    t = targets("dawid_skene", p)
    assert t.shape == (4, 5)
    torch.testing.assert_close(t, p[:, 0], rtol=0, atol=1e-6)


def test_dawid_skene_loss_looks_up_its_own_example() -> None:
    case = Case(3, 3, 0)
    method = METHODS["dawid_skene"](iterations=3)
    loss = case.loss(method)
    posteriors = [targets("dawid_skene", own, iterations=3).tolist() for own in case.labels]
    for r, b, z, _ in case.examples():
        assert loss[r, b].item() == pytest.approx(ce(z, posteriors[r][case.index[r, b]]))


# methods of several stages


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


@pytest.mark.parametrize("encoders", [("own",), ("half", "own"), ("a", "b", "c")])
def test_bootstrapping_is_a_chain(encoders: tuple[str, ...]) -> None:
    case = Case(3, 1, 0)
    predictions = [torch.rand(R, N, 3) for _ in range(4)]
    trainer = FakeTrainer(case.labels, predictions, encoders)
    METHODS["bootstrapping"]().fit(trainer)
    assert [fit["encoder"] for fit in trainer.fits] == list(encoders if len(encoders) > 1 else encoders * 2)
    assert trainer.fits[0]["targets"] is None
    for stage, fit in enumerate(trainer.fits[1:]):
        assert fit["targets"] is predictions[stage]
    assert all(fit["keep"] is None for fit in trainer.fits)


def assignment(student: list[Vector], p: list[list[Vector]]) -> tuple[list[Vector], set[int], list[float]]:
    """Targets, positions kept and CE of one replica, from the previous student's predictions and M soft labels."""

    def log(v: float) -> float:
        return math.log(max(v, 1e-8))

    chosen, hits, costs = [], 0, []
    for q, row in zip(student, p, strict=True):
        divergence = [math.fsum(qc * (log(qc) - log(pc)) for qc, pc in zip(q, pm, strict=True)) for pm in row]
        target = row[divergence.index(min(divergence))]
        chosen.append(target)
        top = sorted(range(len(q)), key=lambda c: -q[c])[: 1 if len(q) <= 3 else 3]
        hits += target.index(max(target)) in top
        costs.append(-math.fsum(tc * log(qc) for tc, qc in zip(target, q, strict=True)))
    return chosen, set(sorted(range(len(costs)), key=costs.__getitem__)[:hits]), costs


@few
@given(classes, st.integers(1, 5), seeds)
def test_co_supervised_assigns_and_keeps(K: int, M: int, seed: int) -> None:
    case = Case(K, M, seed)
    rng = torch.Generator().manual_seed(seed + 1)
    student = (2 * torch.randn(R, N, K, generator=rng, dtype=torch.float64)).softmax(-1)
    trainer = FakeTrainer(case.labels, [student])
    method = METHODS["co_supervised"]()
    method.start(trainer.supervision)
    method.fit(trainer)
    generalist, specialists = trainer.fits
    assert generalist["keep"] is None
    targets, keep = specialists["targets"], specialists["keep"]
    assert isinstance(targets, Tensor)
    assert isinstance(keep, Tensor)
    for r in range(R):
        for n, p in enumerate(case.labels[r].tolist()):
            assert generalist["targets"][r, n].tolist() == pytest.approx(mean(p))  # type: ignore[index]
        chosen, kept, _ = assignment(student[r].tolist(), case.labels[r].tolist())
        assert targets[r].tolist() == chosen
        assert set(keep[r].nonzero()[:, 0].tolist()) == kept
        assert method.diagnostics()["kept"][r].item() == pytest.approx(len(kept) / N)


def test_co_supervised_filters_in_the_grid() -> None:
    """The cases above do keep some and drop some, for few and for many classes."""
    for K in (2, 10):
        kept = []
        for seed in range(2):
            case = Case(K, 3, seed)
            rng = torch.Generator().manual_seed(seed + 1)
            student = (2 * torch.randn(R, N, K, generator=rng, dtype=torch.float64)).softmax(-1)
            kept += [len(assignment(student[r].tolist(), case.labels[r].tolist())[1]) for r in range(R)]
        assert any(0 < k < N for k in kept)


def test_co_supervised_takes_given_layers() -> None:
    case = Case(3, 4, 0)
    predictions = [torch.rand(R, N, 3, dtype=torch.float64).softmax(-1) for _ in range(3)]
    trainer = FakeTrainer(case.labels, predictions)
    METHODS["co_supervised"](layers=((2,), (0, 1), (0, 1, 3))).fit(trainer)
    assert len(trainer.fits) == 3
    assert torch.equal(trainer.fits[0]["targets"], case.labels[:, :, 2])  # type: ignore[arg-type]
    for stage, layer in ((1, [0, 1]), (2, [0, 1, 3])):
        for r in range(R):
            chosen, _, _ = assignment(predictions[stage - 1][r].tolist(), case.labels[r][:, layer].tolist())
            assert trainer.fits[stage]["targets"][r].tolist() == chosen  # type: ignore[index]
