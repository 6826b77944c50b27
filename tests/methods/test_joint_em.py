"""Joint EM: laws of its parts, and what EM makes of annotators. (Its steps beside a twin's are in test_losses.py.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.api import Batch, W2SError
from benchmark.core.registry import METHODS
from benchmark.testing import make_supervision
from methods._annotators import align, answers_log_likelihood, start_weights
from support.annotators import percent_right, world
from support.laws import seeds
from support.twins_joint_em import log_likelihood, settled

R, N = 2, 30
few, fewer = settings(max_examples=20), settings(max_examples=10)
shrinks = st.sampled_from((0.1, 0.25, 0.5, 1.0))
ABLATIONS = {
    "joint_em_no_likelihood": "likelihood",
    "joint_em_no_sharpening": "sharpen",
    "joint_em_no_student": "student",
}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def size(x: Tensor) -> float:
    """Its root mean square."""
    return x.square().mean().sqrt().item()


def begun(name: str, labels: Tensor, epochs: int = 10, **options: Any) -> Any:
    method = METHODS[name](**options)
    method.start(make_supervision(labels, epochs))
    return method


# alignment


@few
@given(st.integers(2, 6), shrinks, seeds)
def test_alignment_reaches_the_wanted_shares(K: int, shrink: float, seed: int) -> None:
    """By one shift of all examples."""
    z = draw(R, N, K, seed=seed) + draw(R, 1, K, seed=seed + 1)
    found, before = align(z, shrink), z.softmax(-1).mean(1)
    wanted = (1 - shrink) * before + shrink / K
    torch.testing.assert_close(found.softmax(-1).mean(1), wanted, rtol=0, atol=2e-3)
    near((found - z).softmax(-1), (found - z)[:, :1].softmax(-1).expand_as(z))


@few
@given(st.integers(2, 6), seeds)
def test_without_shrinking_nothing_is_aligned(K: int, seed: int) -> None:
    z = draw(R, N, K, seed=seed)
    assert torch.equal(align(z, 0.0), z)


@few
@given(st.integers(2, 6), shrinks, seeds)
def test_alignment_knows_no_order_and_no_scale(K: int, shrink: float, seed: int) -> None:
    """Of classes, of examples, and of what is added to all of an example's scores; each replica's is its own."""
    z, classes, examples = draw(R, N, K, seed=seed), order(K, seed), order(N, seed)
    found = align(z, shrink)
    near(align(z[..., classes], shrink), found[..., classes])
    near(align(z[:, examples], shrink), found[:, examples])
    near(align(z + 3 * draw(R, N, 1, seed=seed + 1), shrink).softmax(-1), found.softmax(-1))
    near(align(z[1:], shrink), found[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_class_of_which_nobody_thinks_is_found_again(dtype: torch.dtype) -> None:
    z = draw(R, N, 3, seed=0).to(dtype)
    z[..., 0] -= 60
    found = align(z, 0.5).softmax(-1).mean(1)
    torch.testing.assert_close(found[:, 0], torch.full((R,), 0.5 / 3, dtype=dtype), rtol=0, atol=2e-3)


# what supervisors say


def case(K: int, M: int, seed: int) -> tuple[Tensor, Tensor]:
    """Soft labels (R, N, M, K) and responsibilities (R, N, K) that have to do with one another."""
    hidden = 2 * draw(R, N, 1, K, seed=seed)
    return (hidden + draw(R, N, M, K, seed=seed + 1)).softmax(-1), (hidden[:, :, 0]).softmax(-1)


@fewer
@given(st.integers(2, 4), st.integers(1, 4), st.sampled_from((0.1, 1.0)), seeds)
def test_the_likelihood_is_a_gaussian_density(K: int, M: int, ridge: float, seed: int) -> None:
    """But for a constant of each example; each replica's is its own."""
    p, gamma = case(K, M, seed)
    found = answers_log_likelihood(p, gamma, ridge)
    for r in range(R):
        expected = torch.from_numpy(log_likelihood(p[r].numpy(), gamma[r].numpy(), ridge))
        torch.testing.assert_close(found[r] - found[r, :, :1], expected - expected[:, :1], rtol=1e-7, atol=1e-7)
    near(answers_log_likelihood(p[1:], gamma[1:], ridge), found[1:])


@few
@given(st.integers(2, 5), st.integers(1, 4), seeds)
def test_the_likelihood_knows_no_names(K: int, M: int, seed: int) -> None:
    """Neither of classes, nor of supervisors, nor what each calls a class: one who is always wrong is as good."""
    p, gamma = case(K, M, seed)
    found, classes = answers_log_likelihood(p, gamma), order(K, seed)
    near(answers_log_likelihood(p, gamma[..., classes]), found[..., classes])
    near(answers_log_likelihood(p[:, :, order(M, seed)], gamma), found)
    renamed = p.clone()
    renamed[:, :, 0] = p[:, :, 0][..., classes]
    near(answers_log_likelihood(renamed, gamma), found)


@few
@given(st.integers(2, 5), st.integers(1, 4), seeds, st.floats(0.05, 0.9))
def test_confidence_cancels(K: int, M: int, seed: int, doubt: float) -> None:
    p, gamma = case(K, M, seed)
    votes = torch.nn.functional.one_hot(p.argmax(-1), K).double()
    found, sure = (answers_log_likelihood((1 - d) * votes + d / K, gamma) for d in (doubt, 0.0))
    assert size(found - sure) < 0.01 * size(sure) + 1e-6


@few
@given(st.integers(2, 4), st.integers(1, 4), seeds)
def test_who_always_says_the_same_says_nothing(K: int, M: int, seed: int) -> None:
    """Whatever it is; a column more makes the ridge a little smaller."""
    p, gamma = case(K, M, seed)
    found = []
    for constant in (draw(R, 1, 1, K, seed=seed).softmax(-1), torch.eye(K, dtype=torch.float64)[:1]):
        found.append(answers_log_likelihood(torch.cat([p, constant.expand(R, N, 1, K)], 2), gamma))
    near(found[0], found[1])
    alone = answers_log_likelihood(p, gamma)
    assert size(found[0] - alone) < 0.15 * size(alone)


def log_odds(p: Tensor, truth: Tensor) -> Tensor:
    """Of two classes, by what supervisors say, given almost sure responsibilities."""
    found = answers_log_likelihood(p, 0.9 * torch.eye(2, dtype=torch.float64)[truth] + 0.05)
    return found[..., 1] - found[..., 0]


@pytest.mark.parametrize("accuracies", [(0.8, 0.7), (0.9, 0.7, 0.6), (0.7, 0.7, 0.7, 0.7)])
def test_copies_and_noise_add_little(accuracies: tuple[float, ...]) -> None:
    """A copy a tenth of what one more supervisor would who agrees by chance; noise next to nothing."""
    truth, labels = world(2, accuracies, 0.5, size=2000)
    p, (_, noise) = labels.double(), world(2, (0.5,), 0.5, size=2000)
    noise = noise[:, torch.randperm(2000, generator=torch.Generator().manual_seed(1))].double()
    found, copied = log_odds(p, truth), log_odds(torch.cat([p, p[:, :, :1]], 2), truth)
    assert size(copied - found) < 0.1 * size(log_odds(p[:, :, :1], truth))
    assert size(log_odds(torch.cat([p, noise], 2), truth) - found) < 0.05 * size(found)


# the first weights


@fewer
@given(st.integers(2, 4), st.integers(1, 5), seeds)
def test_first_weights_are_positive_and_each_replicas_own(K: int, M: int, seed: int) -> None:
    """With sum 1; confidence gains nothing."""
    p = (2 * draw(R, N, M, K, seed=seed)).softmax(-1)
    v = start_weights(p)
    assert (v > 0).all()
    near(v.sum(-1), torch.ones(R, dtype=torch.float64))
    if all(settled(own) for own in p.numpy()):
        near(start_weights(p[1:]), v[1:])
        power = torch.rand(M, 1, generator=torch.Generator().manual_seed(seed)) + 0.5
        near(start_weights((p.log() * power).softmax(-1)), v)


@pytest.mark.parametrize("K", [2, 3, 5])
def test_independent_and_contradicting_supervisors_start_with_nearly_nothing(K: int) -> None:
    _, p = world(K, (0.9, 0.8, 0.7), 1 / K, size=500)
    p = p.repeat_interleave(K, 1)
    each_once = torch.eye(K).repeat(500, 1)[None, :, None]  # whatever the others say
    against = p[:, :, :1].roll(1, -1)
    for other in (each_once, against):
        v = start_weights(torch.cat([p, other], 2))[0].tolist()
        assert v[3] < 1e-3
        assert v[0] > v[1] > v[2] > 0.2


# all of it


def test_targets_are_made_anew_before_each_epoch_after_the_first_fifth() -> None:
    """Not before, and not after the last, when nobody learns any more."""
    method = begun("joint_em", case(3, 3, 0)[0], epochs=10)
    anew = []
    for epoch in range(10):
        before = method.targets
        method.after_epoch(epoch, pytest.fail)
        anew.append(method.targets is not before)
    assert anew == [False, *[True] * 8, False]


WORLDS = [  # ρ, and what five rounds of EM reach at least
    (2, (0.9, 0.7, 0.6), 0.5, 0.25, 89),
    (2, (0.9, 0.7, 0.6), 0.8, 0.0, 89),
    (2, (0.85, 0.8, 0.7, 0.6, 0.55), 0.5, 0.25, 87),
    (5, (0.8, 0.5, 0.4), 0.2, 0.25, 78),
    (2, (0.8, 0.8, 0.8, 0.2), 0.5, 0.25, 88),
]


@pytest.mark.parametrize(("K", "accuracies", "first", "shrink", "least"), WORLDS)
def test_em_without_a_student_sees_through_independent_annotators(
    K: int, accuracies: tuple[float, ...], first: float, shrink: float, least: float
) -> None:
    """Better than the majority, who are 68 to 84 percent right."""
    truth, labels = world(K, accuracies, first)
    method = begun("joint_em_no_student", labels, shrink=shrink)
    majority = percent_right(begun("majority_vote", labels).targets, truth)
    assert percent_right(method.targets, truth) > majority - 0.1
    for _ in range(5):
        method.after_epoch(5, pytest.fail)
    found = percent_right(method.targets, truth)
    assert found > least > majority + 2


@pytest.mark.parametrize(
    ("K", "accuracies"), [(5, (0.8, 0.5, 0.4)), (10, (0.7, 0.5, 0.4, 0.4)), (2, (0.8, 0.8, 0.8, 0.2))]
)
def test_first_targets_are_better_than_the_majority(K: int, accuracies: tuple[float, ...]) -> None:
    truth, labels = world(K, accuracies, 1 / K)
    majority = percent_right(begun("majority_vote", labels).targets, truth)
    assert percent_right(begun("joint_em", labels).targets, truth) > majority + 4


def test_a_student_who_is_sure_of_what_nobody_says_has_a_finite_loss() -> None:
    p = torch.eye(3)[torch.zeros(1, 4, 2, dtype=torch.long)]
    method, index = begun("joint_em", p), torch.arange(4)[None]
    logits = torch.tensor([-1e3, 0.0, 0.0]).repeat(1, 4, 1).requires_grad_()
    loss = method.loss(logits, Batch(p, index, 0, 0.5))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("shrink", [-0.1, 1.5, float("nan")])
def test_options_out_of_range_are_refused(shrink: float) -> None:
    with pytest.raises(W2SError, match=f"^joint_em: expected shrink in .*, found {shrink}"):
        begun("joint_em", case(2, 2, 0)[0], shrink=shrink)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_leaves_out_one_thing(name: str) -> None:
    whole, method = vars(METHODS["joint_em"]()), METHODS[name]()
    assert method.ablation_of == "joint_em"
    assert {key: value for key, value in vars(method).items() if whole[key] != value} == {ABLATIONS[name]: False}
