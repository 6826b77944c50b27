"""Losses for noisy labels and self-reinforcing methods: every step beside a twin's, and the laws that they keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.api import Batch, Method, cross_entropy
from benchmark.core.registry import METHODS
from benchmark.testing import make_supervision
from methods._memory import remember
from methods.shot_im import information_maximisation
from support import twins_joint_em, twins_losses
from support.laws import seeds
from support.twins_losses import Twin

R, N, B, EPOCHS, PER_EPOCH = 2, 9, 4, 5, 2  # one example is left out of each epoch
STEPS = [*twins_losses.STEPS, *twins_joint_em.STEPS]
NAMES = sorted({name for name, _, _ in STEPS})
few, fewer = settings(max_examples=20), settings(max_examples=8)


def draw(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Course:
    """Soft labels (R, N, M, K) in float64, and the minibatches (R, B) and logits (R, B, K) of all steps."""

    def __init__(self, K: int, M: int, seed: int, epochs: int = EPOCHS) -> None:
        self.labels, self.epochs = draw(R, N, M, K, seed=seed).softmax(-1), epochs
        self.logits = draw(epochs * PER_EPOCH, R, B, K, seed=seed + 1)
        rng = torch.Generator().manual_seed(seed + 2)
        orders = [torch.stack([torch.randperm(N, generator=rng) for _ in range(R)]) for _ in range(epochs)]
        self.index = [order[:, B * part : B * (part + 1)] for order in orders for part in range(PER_EPOCH)]

    def run(self, method: Method) -> tuple[Tensor, Tensor]:
        """Losses (steps, R, B) and their gradients (steps, R, B, K)."""
        method.start(make_supervision(self.labels, self.epochs, PER_EPOCH))
        losses, slopes = [], []
        for number, (index, z) in enumerate(zip(self.index, self.logits, strict=True)):
            logits = z.mT.contiguous().mT.requires_grad_()  # classes strided, as the engine gives them
            rows = self.labels[torch.arange(R)[:, None], index]
            loss = method.loss(logits, Batch(rows, index, number // PER_EPOCH, (number + 1) / len(self.index)))
            assert loss.shape == (R, B)
            (loss.sum() / B).backward()
            method.after_step()
            if (number + 1) % PER_EPOCH == 0:
                method.after_epoch(number // PER_EPOCH, pytest.fail)  # no student is here to predict
            assert logits.grad is not None
            losses.append(loss.detach())
            slopes.append(B * logits.grad)
        return torch.stack(losses), torch.stack(slopes)


def course_of(name: str, K: int, M: int, seed: int) -> Course:
    """In which rounding decides nothing."""
    course = Course(K, supervisors_of(name, M), seed)
    assume("joint_em" not in name or all(twins_joint_em.settled(own) for own in course.labels.numpy()))
    return course


def supervisors_of(name: str, M: int) -> int:
    return 1 if METHODS[name].kind == "single" else M


@pytest.mark.parametrize(("name", "options", "twin_of"), STEPS)
@fewer
@given(st.integers(2, 4), st.integers(1, 4), seeds)
def test_every_step_is_the_twins(
    name: str, options: dict[str, Any], twin_of: type[Twin], K: int, M: int, seed: int
) -> None:
    """Losses, and their sum's slope in a random direction of all of a minibatch's logits."""
    course = course_of(name, K, M, seed)
    losses, slopes = course.run(METHODS[name](**options))
    directions = draw(*course.logits.shape, seed=seed + 3)
    for r in range(R):
        twin = twin_of(course.labels[r].numpy(), EPOCHS, **options)
        for number, index in enumerate(course.index):
            z, at, way = course.logits[number, r].numpy(), index[r].tolist(), directions[number, r].numpy()
            twin.see(z, at, number // PER_EPOCH, (number + 1) / len(course.index))
            np.testing.assert_allclose(losses[number, r].numpy(), twin.losses(z, at), rtol=1e-7, atol=1e-9)
            up, down = (twin.losses(z + sign * 1e-6 * way, at).sum() for sign in (1, -1))
            found = float((slopes[number, r].numpy() * way).sum())
            assert found == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-5)
            twin.step(z, at)


# what they are at the ends of their options

SPECIAL: list[tuple[str, dict[str, Any], str]] = [
    ("elr", {"strength": 0.0}, "ensemble"),
    ("single_elr", {"strength": 0.0}, "naive"),
    ("selc", {"turn": 1.0}, "ensemble"),
    ("small_loss", {"forget": 0.0}, "ensemble"),
    ("shot_im", {"weight": 0.0}, "ensemble"),
    ("raykar", {"burn_in": 1.0}, "majority_vote"),
    ("reliability", {"temperature": None}, "majority_vote"),
]


@pytest.mark.parametrize(("name", "options", "other"), SPECIAL)
@fewer
@given(st.integers(2, 10), st.integers(1, 5), seeds)
def test_at_the_end_of_an_option_it_is_another_method(
    name: str, options: dict[str, Any], other: str, K: int, M: int, seed: int
) -> None:
    course = Course(K, supervisors_of(name, M), seed)
    for found, expected in zip(course.run(METHODS[name](**options)), course.run(METHODS[other]()), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "options", "other"), SPECIAL)
def test_by_default_it_is_not(name: str, options: dict[str, Any], other: str) -> None:
    course = Course(3, supervisors_of(name, 4), 0)
    assert (course.run(METHODS[name]())[1] - course.run(METHODS[other]())[1]).abs().max() > 0.01


@pytest.mark.parametrize(("name", "other"), [("selc", "ensemble"), ("raykar", "majority_vote")])
@fewer
@given(st.integers(2, 10), st.integers(1, 5), seeds)
def test_from_the_second_epoch_on_it_is_not_another_method(name: str, other: str, K: int, M: int, seed: int) -> None:
    for epochs in (1, 2):
        course = Course(K, M, seed, epochs)
        apart = course.run(METHODS[name]())[1] - course.run(METHODS[other]())[1]
        assert not apart[:PER_EPOCH].any()
        assert epochs == 1 or apart[PER_EPOCH:].any()


def test_raykar_makes_no_posterior_that_nobody_learns() -> None:
    course, method = Course(3, 4, 0), METHODS["raykar"]()
    course.run(method)
    last: Any = method
    for r in range(R):
        twin = twins_losses.Raykar(course.labels[r].numpy(), EPOCHS)
        for number, index in enumerate(course.index):
            twin.see(course.logits[number, r].numpy(), index[r].tolist(), number // PER_EPOCH, 0.5)
        np.testing.assert_allclose(last.targets[r].numpy(), twin.targets, rtol=1e-7, atol=1e-9)


@few
@given(st.integers(2, 10), st.integers(1, 5), seeds, st.floats(1e-6, 0.1))
def test_gce_is_between_cross_entropy_and_absolute_error(K: int, M: int, seed: int, power: float) -> None:
    """For a small power below CE by less than power / 2 sum_c p̄_c log² q_c; at 1, for a hard label, half the L1."""
    course = Course(K, M, seed)
    gce, expected = course.run(METHODS["gce"](power=power))[0], course.run(METHODS["ensemble"]())[0]
    rows = torch.stack([course.labels.mean(2)[torch.arange(R)[:, None], index] for index in course.index])
    bound = power / 2 * (rows * course.logits.log_softmax(-1) ** 2).sum(-1)
    assert (gce <= expected + 1e-12).all()
    assert (gce >= expected - bound - 1e-9).all()
    course.labels = torch.nn.functional.one_hot(course.labels[:, :, :1].argmax(-1), K).double()
    rows = torch.stack([course.labels[:, :, 0][torch.arange(R)[:, None], index] for index in course.index])
    error = (course.logits.softmax(-1) - rows).abs().sum(-1) / 2
    torch.testing.assert_close(course.run(METHODS["gce"](power=1.0))[0], error, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["reverse_kl", "ensemble_reverse_kl"])
@few
@given(st.integers(2, 10), st.integers(1, 5), seeds)
def test_reverse_kl_is_least_at_the_target(name: str, K: int, M: int, seed: int) -> None:
    course = Course(K, supervisors_of(name, M), seed)
    assert (course.run(METHODS[name]())[0] > 0).all()
    target = course.labels.mean(2).log()
    course.logits = torch.stack([target[torch.arange(R)[:, None], index] for index in course.index])
    for found in course.run(METHODS[name]()):
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


# whoever numbers the classes, or the supervisors


@pytest.mark.parametrize("name", NAMES)
@fewer
@given(st.integers(2, 6), st.integers(1, 5), seeds)
def test_the_order_of_classes_and_supervisors_is_nothing(name: str, K: int, M: int, seed: int) -> None:
    course, M = course_of(name, K, M, seed), supervisors_of(name, M)
    losses, slopes = course.run(METHODS[name]())
    rng = torch.Generator().manual_seed(seed)
    classes, order = torch.randperm(K, generator=rng), torch.randperm(M, generator=rng)
    course.labels, course.logits = course.labels[:, :, order][..., classes], course.logits[..., classes]
    found, slope = course.run(METHODS[name]())
    torch.testing.assert_close(found, losses, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(slope, slopes[..., classes], rtol=1e-7, atol=1e-9)


# parts


@few
@given(st.integers(2, 6), st.floats(0, 0.99), seeds)
def test_memory(K: int, momentum: float, seed: int) -> None:
    """A running mean of each replica's own examples; those that do not come by keep what they have."""
    start, answers = draw(R, N, K, seed=seed), draw(R, B, K, seed=seed + 1).requires_grad_()
    index = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(seed + r))[:B] for r in range(R)])
    memory = start.clone()
    for times in (1, 2, 3):
        rows = remember(memory, index, answers, momentum)
        assert not rows.requires_grad
        for r in range(R):
            expected = start[r].clone()
            fresh = (1 - momentum**times) * answers[r].detach()
            expected[index[r]] = momentum**times * expected[index[r]] + fresh
            torch.testing.assert_close(memory[r], expected, rtol=1e-12, atol=1e-12)
            assert torch.equal(rows[r], memory[r, index[r]])
    remember(memory, index, answers)
    assert torch.equal(memory[torch.arange(R)[:, None], index], answers), "without momentum the last answer"


@few
@given(st.integers(2, 10), st.integers(1, 30), seeds)
def test_information_is_from_nothing_to_all_there_is(K: int, size: int, seed: int) -> None:
    """Minus its mean is the mutual information of example and class: at least 0, at most log K."""
    logits = draw(R, size, K, seed=seed)
    information = -information_maximisation(logits).mean(1)
    assert (information > -1e-12).all()
    assert (information < math.log(K) + 1e-12).all()
    alike = information_maximisation(logits[:, :1].expand(R, size, K))
    torch.testing.assert_close(alike, torch.zeros_like(alike), rtol=0, atol=1e-12)
    sure = information_maximisation(100 * torch.eye(K, dtype=torch.float64).repeat(R, 2, 1))
    torch.testing.assert_close(sure, torch.full_like(sure, -math.log(K)), rtol=1e-12, atol=0)


@few
@given(st.integers(2, 10), st.integers(1, 5), st.floats(0, 1), seeds)
def test_at_least_a_quarter_of_the_examples_is_voted_on(K: int, M: int, gate: float, seed: int) -> None:
    labels, index = draw(R, N, M, K, seed=seed).softmax(-1), torch.arange(N).expand(R, N)
    method = METHODS["knowledge_vote"](gate=gate, final_gate=gate)
    method.start(make_supervision(labels))
    loss = method.loss(draw(R, N, K, seed=seed + 1), Batch(labels, index, 0, 0.5))
    passing = (labels.amax((2, 3)) > gate).sum(1)
    assert (loss > 0).sum(1).tolist() == passing.clamp_min(math.ceil(N / 4)).tolist()


@few
@given(st.integers(2, 6), st.integers(2, 5), st.sampled_from((0.25, 0.5, 0.75, 1.0)), seeds)
def test_reliable_are_those_of_one_opinion(K: int, M: int, keep: float, seed: int) -> None:
    """Unanimous examples count in full, no other counts as much; as many are kept as asked for, and ties."""
    labels = draw(R, N, M, K, seed=seed).softmax(-1)
    weight = METHODS["reliability"](keep=keep).aggregate(labels).sum(-1)  # type: ignore[attr-defined]
    votes = labels.argmax(-1)
    unanimous = (votes == votes[..., :1]).all(-1)
    assert (weight[unanimous] > 1 - 1e-12).all()
    assert (weight[~unanimous] < 1 - 1e-3).all()
    assert ((weight > 0).sum(1) >= keep * N).all()


def test_confusion_of_supervisors_is_found_beside_a_student_who_is_right() -> None:
    rng = torch.Generator().manual_seed(0)
    truth, size = torch.randint(3, (R, 400), generator=rng), 400
    confusion = torch.tensor([[[0.9, 0.1, 0.0], [0.0, 0.8, 0.2], [0.3, 0.0, 0.7]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]]])
    labels = confusion.double()[:, truth].permute(1, 2, 0, 3)  # (R, 400, 2, 3)
    method: Any = METHODS["annotator_confusion"](rate=0.1, trace=0.0)
    method.start(make_supervision(labels))
    for _ in range(300):
        logits = (20 * torch.nn.functional.one_hot(truth, 3).double()).requires_grad_()
        loss = method.loss(logits, Batch(labels, torch.arange(size).expand(R, size), 0, 0.5))
        (loss.sum() / size).backward()
        method.after_step()
    assert (method.confusion().detach() - confusion).abs().max() < 0.02
    assert method.diagnostics()["skill"].detach().tolist() == [pytest.approx([0.8, 0], abs=0.02)] * R


@few
@given(st.integers(2, 6), st.integers(1, 4), seeds)
def test_supervisors_without_confusion_are_learned_as_they_are(K: int, M: int, seed: int) -> None:
    labels, logits, index = draw(R, N, M, K, seed=seed).softmax(-1), draw(R, N, K, seed=seed + 1), torch.arange(N)
    method: Any = METHODS["annotator_confusion"](trace=0.25)
    method.start(make_supervision(labels))
    with torch.no_grad():
        method.scores.copy_(100 * torch.eye(K) - 50)
    expected = M * cross_entropy(logits, labels.mean(2)) + 0.25 * M * K
    torch.testing.assert_close(method.loss(logits, Batch(labels, index.expand(R, N), 0, 0.5)).detach(), expected)
