"""Joint EM 2: when its two parts begin, what each of them is, and what comes of it. (Its steps beside a twin's, and
under other orders of classes and supervisors, are in test_losses.py; parts it has from Joint EM in test_joint_em.py.)
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.api import Batch, W2SError, cross_entropy
from benchmark.core.data import Recipe
from benchmark.core.registry import METHODS
from benchmark.core.training import TrainingData, train
from benchmark.testing import make_supervision
from methods._annotators import answers_log_likelihood, first_targets
from methods.joint_em2 import JointEm2
from support.annotators import misled, percent_right, seen, world
from support.laws import seeds

R, N = 2, 30
INDEX = torch.arange(N).expand(R, N)
few = settings(max_examples=20)
weights = st.sampled_from((0.0, 0.3, 1.0, 4.0))


def draw(*shape: int, seed: int) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def begun(labels: Tensor, epochs: int = 10, **options: Any) -> JointEm2:
    method = JointEm2(**options)
    method.start(make_supervision(labels, epochs))
    return method


def loss_of(method: JointEm2, logits: Tensor, epoch: int) -> Tensor:
    """Of all examples at once."""
    return method.loss(
        logits, Batch(method.supervision.soft_labels, INDEX[: len(logits)], epoch, (epoch + 1) / method.epochs)
    )


def taught(labels: Tensor, logits: Tensor, **options: Any) -> JointEm2:
    """After a round of EM, by a student who said this of all examples."""
    method = begun(labels, **options)
    loss_of(method, logits, 0)
    method.after_epoch(5, pytest.fail)
    return method


# when


@few
@given(st.integers(2, 6), st.integers(1, 4), weights, seeds)
def test_at_first_it_learns_the_first_targets(K: int, M: int, information: float, seed: int) -> None:
    """Whatever the information is worth later."""
    labels, logits = draw(R, N, M, K, seed=seed).softmax(-1), draw(R, N, K, seed=seed + 1)
    method = begun(labels, information=information)
    for epoch in range(3):
        expected = cross_entropy(logits, first_targets(labels))
        torch.testing.assert_close(loss_of(method, logits, epoch), expected, rtol=1e-12, atol=1e-12)
        if epoch < 2:
            method.after_epoch(epoch, pytest.fail)


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (2, 1), (3, 1), (9, 3), (10, 3), (20, 6)])
def test_both_parts_begin_in_the_same_epoch(epochs: int, first: int) -> None:
    """The first at or after three tenths of all; with one epoch neither does. The last gives no targets to learn."""
    labels, logits = draw(R, N, 3, 3, seed=0).softmax(-1), draw(R, N, 3, seed=1)
    method, anew, informed = begun(labels, epochs), [], []
    for epoch in range(epochs):
        fit = cross_entropy(logits, method.targets)
        informed.append(bool((loss_of(method, logits, epoch) - fit).abs().max() > 1e-3))
        before = method.targets
        method.after_epoch(epoch, pytest.fail)
        anew.append(method.targets is not before)
    assert informed == [epoch >= first for epoch in range(epochs)]
    assert anew == [first <= epoch + 1 < epochs for epoch in range(epochs)]


# the information


@few
@given(st.integers(2, 6), st.integers(1, 4), weights, seeds)
def test_a_minibatchs_loss_is_less_by_a_share_of_what_there_is_to_know(
    K: int, M: int, information: float, seed: int
) -> None:
    """The mutual information of example and class, the mean divergence of what is said from its mean, over log K."""
    labels, logits = draw(R, N, M, K, seed=seed).softmax(-1), draw(R, N, K, seed=seed + 1)
    method = taught(labels, logits, information=information)
    q = logits.softmax(-1)
    share = (q * (q / q.mean(1, keepdim=True)).log()).sum(-1).mean(1) / math.log(K)
    assert ((share >= 0) & (share <= 1)).all()
    less = (cross_entropy(logits, method.targets) - loss_of(method, logits, 6)).mean(1)
    torch.testing.assert_close(less, information * share, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_of_sure_and_evenly_spread_answers_it_is_all_of_them_of_equal_ones_none(K: int) -> None:
    labels, sure = draw(R, N, 3, K, seed=0).softmax(-1), 50 * torch.eye(K, dtype=torch.float64).repeat(R, N // K, 1)
    method = begun(labels, information=2.5)
    method.targets = labels.mean(2)
    for logits, share in ((sure, 1), (sure[:, :1].expand_as(sure), 0)):
        less = cross_entropy(logits, method.targets) - loss_of(method, logits, 6)
        torch.testing.assert_close(less, torch.full_like(less, 2.5 * share), rtol=1e-9, atol=1e-9)


# EM


@few
@given(st.integers(2, 5), st.integers(1, 4), seeds)
def test_each_replica_is_its_own(K: int, M: int, seed: int) -> None:
    labels, logits = draw(R, N, M, K, seed=seed).softmax(-1), draw(R, N, K, seed=seed + 1)
    together, alone = taught(labels, logits), taught(labels[1:], logits[1:])
    torch.testing.assert_close(together.targets[1:], alone.targets, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        loss_of(together, logits, 6)[1:], loss_of(alone, logits[1:], 6), rtol=1e-9, atol=1e-9
    )  # fmt: skip


@few
@given(st.integers(2, 5), st.integers(1, 4), seeds, st.floats(0.05, 0.9))
def test_doubt_that_all_supervisors_share_cancels(K: int, M: int, seed: int, doubt: float) -> None:
    """Once EM has begun, of votes: the ridge is a share of the answers' variance."""
    hidden = draw(R, N, K, seed=seed)
    votes = torch.nn.functional.one_hot((hidden[:, :, None] + draw(R, N, M, K, seed=seed + 1)).argmax(-1), K).double()
    found, sure = (taught((1 - d) * votes + d / K, hidden).targets for d in (doubt, 0.0))
    torch.testing.assert_close(found, sure, rtol=0, atol=5e-3)


def evidence(p: Tensor, truth: Tensor, ridge: float, copies: int = 1) -> float:
    """What the first supervisor's vote, given `copies` times, adds to the log odds of the second of two classes where
    all others are for the first one."""
    given = torch.cat([p[:, :, :1]] * (copies - 1) + [p], 2)
    found = answers_log_likelihood(given, 0.9 * torch.eye(2, dtype=torch.float64)[truth] + 0.05, ridge)
    odds, votes = found[..., 1] - found[..., 0], p.argmax(-1)
    others = (votes[:, :, 1:] == 0).all(-1)
    with_it, against = (odds[others & (votes[:, :, 0] == c)].mean().item() for c in (1, 0))
    return with_it - against


@pytest.mark.parametrize("accuracies", [(0.8, 0.7), (0.9, 0.7, 0.6), (0.7, 0.7, 0.7, 0.7)])
def test_what_the_ridge_costs(accuracies: tuple[float, ...]) -> None:
    """Who alone is half as sure counts about half; who is there twice counts up to a third more. With the ridge of
    Joint EM neither makes much of a difference."""
    truth, labels = world(2, accuracies, 0.5, size=2000)
    p = labels.double()
    half = torch.cat([p[:, :, :1] / 2 + 0.25, p[:, :, 1:]], 2)
    for ridge, (least, most), (no_less, no_more) in ((1.0, (0.35, 0.6), (1.1, 4 / 3)), (0.1, (0.75, 1.0), (1.0, 1.05))):
        whole = evidence(p, truth, ridge)
        assert least < evidence(half, truth, ridge) / whole < most
        assert no_less < evidence(p, truth, ridge, copies=2) / whole < no_more


# all of it


def right(name: str, truth: Tensor, data: TrainingData) -> float:
    """Percent of the pool that a linear student gets right."""
    (found,) = train([METHODS[name]()], data, Recipe(learning_rate=1e-2, epochs=30, batch_size=100))
    return percent_right(found.student.predict(data.features["full"]).flatten(0, 1), truth)


@pytest.mark.parametrize(
    ("K", "accuracies"), [(2, (0.8, 0.7, 0.6)), (3, (0.7, 0.6, 0.5)), (5, (0.7, 0.5, 0.4)), (2, (0.8, 0.8, 0.8, 0.2))]
)
def test_with_independent_errors_a_student_is_as_good_as_the_votes(K: int, accuracies: tuple[float, ...]) -> None:
    """Which is as good as it gets: errors that have nothing to do with features average out."""
    truth, data = seen(K, accuracies)
    found = right("joint_em2", truth, data)
    assert found > right("majority_vote", truth, data) - 1
    assert found > 90


@pytest.mark.parametrize(
    ("K", "gains", "gained"),
    [(2, (1.0, 0.7, 0.5), 3), (3, (1.0, 0.7, 0.5), 5), (2, (1.0, 1.0, 0.0, 0.0), 10), (3, (1.0, 1.0, 1.0, -1.0), 5)],
)
def test_a_student_of_misled_supervisors_is_better_than_the_votes(
    K: int, gains: tuple[float, ...], gained: float
) -> None:
    truth, data = misled(K, gains)
    assert right("joint_em2", truth, data) > right("majority_vote", truth, data) + gained


@pytest.mark.parametrize(
    "options", [{"information": -0.5}, {"information": math.nan}, {"shrink": -0.1}, {"shrink": 1.5}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    ((option, value),) = options.items()
    with pytest.raises(W2SError, match=rf"^joint_em2: expected {option}.*|^joint_em2: .*{option} in .*found .*{value}"):
        begun(draw(R, N, 2, 2, seed=0).softmax(-1), **options)
