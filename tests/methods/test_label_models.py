"""Label models and learned aggregators: beside a second writing, a release's own numbers, and laws."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmark.api import Batch, W2SError
from benchmark.base.torch_seeding import torch_rng
from benchmark.core.registry import METHODS
from benchmark.testing import make_supervision
from methods import ebcc
from methods._agreement import agreement_beyond_chance, leading_eigenvector, rank_one_diagonal
from support import twins_label_models as twins
from support.annotators import percent_right, world
from support.laws import seeds
from support.minibatch import B, Case, N, R
from support.plain_losses import ce

few = settings(max_examples=10)


def targets(name: str, labels: Tensor, **options: Any) -> Tensor:
    """The targets (R, N, K) of soft labels (R, N, M, K)."""
    method: Any = METHODS[name](**options)
    method.start(make_supervision(labels))
    found: Tensor = method.targets
    return found


def near(found: Tensor, expected: Tensor) -> None:
    """In float64, but for its rounding, which rounds of a fit make larger."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


# by hand


@pytest.mark.parametrize(("name", "options", "by_hand"), twins.MODELS)
@few
@given(st.integers(2, 4), st.integers(1, 4), seeds)
def test_targets_are_those_by_hand(
    name: str, options: dict[str, Any], by_hand: twins.Model, K: int, M: int, seed: int
) -> None:
    """Each replica's from its own votes; the loss is the cross-entropy with them."""
    case = Case(K, max(M, METHODS[name].min_supervisors), seed)
    method: Any = METHODS[name](**options)
    loss = case.loss(method)
    expected = [by_hand(own, **options) for own in case.labels.tolist()]
    assume(name != "spectral" or all(twins.has_a_direction(own) for own in case.labels.tolist()))
    near(method.targets, torch.tensor(expected, dtype=torch.float64))
    for r, b, z, _ in case.examples():
        assert loss[r, b].item() == pytest.approx(ce(z, expected[r][int(case.index[r, b])]), rel=1e-5)


@settings(max_examples=4)
@given(st.integers(2, 3), st.integers(1, 4), st.sampled_from((1, 3)), seeds)
def test_ebcc_is_variational_bayes(K: int, M: int, groups: int, seed: int) -> None:
    labels = Case(K, M, seed).labels
    found = targets("ebcc", labels, groups=groups)
    for r in range(R):
        drawn = np.empty((N, K, groups))
        torch.from_numpy(drawn).exponential_(generator=torch_rng("unit test", r))
        split = drawn / drawn.sum(-1, keepdims=True)
        by_hand = twins.ebcc(twins.votes_of(labels[r].tolist()), K, split, rounds=100)
        near(found[r], torch.tensor(by_hand, dtype=torch.float64))


def adam(value: Tensor, slopes: list[Tensor], rate: float) -> Tensor:
    """Where Adam's steps along these slopes lead."""
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for number, slope in enumerate(slopes, 1):
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        value = value - rate * first / (1 - 0.9**number) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
    return value


def along(parameter: Tensor, direction: Tensor, loss: Any) -> float:
    """A loss's slope at a method's parameter, by differences."""
    start, found = parameter.detach().clone(), []
    for sign in (1, -1):
        with torch.no_grad():
            parameter.copy_(start + sign * 1e-5 * direction)
        found.append(loss())
    with torch.no_grad():
        parameter.copy_(start)
    return float(found[0] - found[1]) / 2e-5


def by_replica(case: Case) -> list[tuple[list[list[float]], list[list[list[float]]]]]:
    """Logits and soft labels of each replica's minibatch."""
    rows = [[(z, p) for replica, _, z, p in case.examples() if replica == r] for r in range(R)]
    return [([z for z, _ in own], [p for _, p in own]) for own in rows]


@few
@given(st.integers(2, 4), st.integers(2, 4), st.sampled_from((0.5, 2.0)), seeds)
def test_weasel_by_hand(K: int, M: int, temperature: float, seed: int) -> None:
    case, method = Case(K, M, seed), METHODS["weasel"](temperature=temperature, rate=0.1, hidden=5)  # type: ignore[call-arg]
    parameter: Tensor
    rng, slopes, first = torch.Generator().manual_seed(seed), [], None

    def by_hand(part: slice) -> list[list[float]]:
        found = []
        pairs = zip(by_replica(case), case.logits.tolist(), parameter.detach().numpy(), strict=True)
        for (_, p), z, flat in pairs:
            layers, at = [], 0
            for fan_in, fan_out in ((M * K, 5), (5, 5), (5, M * K)):
                size = (fan_in + 1) * fan_out
                whole = flat[at : at + size].reshape(fan_in + 1, fan_out)
                layers.append((whole[:-1], whole[-1]))
                at += size
            found.append([math.fsum(own) for own in zip(*twins.weasel(z, p, layers, temperature)[part], strict=True)])
        return found

    for step in range(3):
        loss = case.loss(method) if step == 0 else method.loss(case.logits, batch_of(case))
        parameter = method.encoder  # type: ignore[attr-defined]
        first = parameter.detach().clone() if first is None else first
        near(loss.detach(), torch.tensor(by_hand(slice(0, 2)), dtype=torch.float64))
        loss.mean(1).sum().backward()
        direction = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
        slope = along(parameter, direction, lambda: math.fsum(map(math.fsum, by_hand(slice(1, 2)))) / B)
        assert parameter.grad is not None
        assert (parameter.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6)
        direction = torch.randn(case.logits.shape, generator=rng, dtype=torch.float64)
        slope = along(case.logits, direction, lambda: math.fsum(map(math.fsum, by_hand(slice(0, 1)))) / B)
        assert case.logits.grad is not None
        assert (case.logits.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6)
        case.logits.grad = None
        slopes.append(parameter.grad.clone())
        method.after_step()
        assert parameter.grad is None
        torch.testing.assert_close(parameter.detach(), adam(first, slopes, 0.1), rtol=1e-5, atol=1e-7)


def batch_of(case: Case) -> Batch:
    return Batch(case.labels[torch.arange(R)[:, None], case.index], case.index, epoch=0, progress=0.1)


@few
@given(st.integers(2, 4), st.integers(1, 4), seeds)
def test_max_mig_by_hand(K: int, M: int, seed: int) -> None:
    case, method = Case(K, M, seed), METHODS["max_mig"](rate=0.1)  # type: ignore[call-arg]
    rng, slopes = torch.Generator().manual_seed(seed), []
    start = [twins.max_mig_start(own) for own in case.labels.tolist()]
    first = torch.tensor(np.stack([W for _, W in start]))

    def by_hand(W: Tensor, logits: Tensor) -> list[list[float]]:
        pairs = zip(start, W.detach().numpy(), logits.tolist(), by_replica(case), strict=True)
        return [twins.max_mig(z, p, prior, own) for (prior, _), own, z, (_, p) in pairs]

    for step in range(3):
        case.logits.grad = None
        loss = case.loss(method) if step == 0 else method.loss(case.logits, batch_of(case))
        parameter: Tensor = method.aggregator  # type: ignore[attr-defined]
        near(parameter.detach(), adam(first, slopes, 0.1))
        near(loss.detach(), torch.tensor(by_hand(parameter, case.logits), dtype=torch.float64))
        loss.mean(1).sum().backward()
        for leaf in (parameter, case.logits):
            direction = torch.randn(leaf.shape, generator=rng, dtype=torch.float64)
            slope = along(leaf, direction, lambda: math.fsum(map(math.fsum, by_hand(parameter, case.logits))) / B)  # noqa: B023
            assert leaf.grad is not None
            assert (leaf.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6)
        assert parameter.grad is not None
        slopes.append(parameter.grad.clone())
        method.after_step()


# the release's numbers


# 1e5 times the posteriors of classes 1 .. K - 1, by pattern of votes (000, 001, ...), of snorkel 0.10's LabelModel, the
# random number that it multiplies its start with being 1; (K, steps, balance) -> posteriors
COUNTS = {
    2: (300, 70, 45, 30, 25, 35, 60, 235),
    3: tuple((7 * i * i + 13 * i) % 41 + 3 + 60 * (i % 13 == 0) for i in range(27)),
}
RELEASED = {
    (2, 100, "uniform"): "588 9784 25902 86509 72059 97930 99348 99964",
    (2, 100, "votes"): "262 4527 12706 72437 33805 90215 96588 99805",
    (2, 1000, "uniform"): "592 9879 26528 86913 73670 98094 99414 99968",
    (3, 100, "uniform"): (
        "1478 1654 12983 5085 4527 12636 13682 9484 56080 13601 23275 40235 6643 38579 26139 53110 5623 81433 "
        "31476 4281 80381 3825 52384 17767 79423 6690 95575 2816 79437 16685 50957 35958 78641 19415 35318 "
        "62150 5271 12769 29901 25340 8786 53075 26095 39145 60494 31748 19559 73168 6442 80958 17904 78724 "
        "3041 95299"
    ),
    (3, 1000, "votes"): (
        "740 483 5227 1377 2147 3163 5398 13182 24962 24606 8695 47945 4797 86869 11707 85569 2355 96293 "
        "60958 830 91789 504 80776 2483 89140 4541 97082 1997 87836 10105 72153 27258 86686 13219 53886 45968 "
        "4244 2621 23874 5951 10363 14451 17261 39903 44140 41188 14203 74143 5427 93022 12567 86952 2512 "
        "97250"
    ),
}


@pytest.mark.parametrize(("K", "steps", "balance"), RELEASED)
def test_snorkel_is_the_released_label_model(K: int, steps: int, balance: str) -> None:
    patterns = torch.tensor(list(product(range(K), repeat=3)))
    votes = patterns.repeat_interleave(torch.tensor(COUNTS[K]), 0)
    found = targets("snorkel", torch.eye(K, dtype=torch.float64)[votes][None], steps=steps, balance=balance)[0]
    one_each = found[[int((votes == pattern).all(1).nonzero()[0]) for pattern in patterns]]
    expected = torch.tensor([float(x) for x in RELEASED[K, steps, balance].split()]).double().view(-1, K - 1)
    torch.testing.assert_close(1e5 * one_each[:, 1:], expected, rtol=0, atol=1.5)  # whole numbers, from float32


# worlds of independent annotators


def accuracy(name: str, truth: Tensor, labels: Tensor, **options: Any) -> float:
    return percent_right(targets(name, labels, **options), truth)


# best and least accuracies; FlyingSquid takes one who is reversed for a good one. The least ones are of: snorkel (1000
# steps, balance of the votes), flyingsquid, centred, spectral, ebcc, ensemw2s
WORLDS = [
    (2, (0.9, 0.7, 0.6), 0.5, 89.0, (89, 89, 89, 89, 89, 82)),
    (2, (0.9, 0.7, 0.6), 0.8, 91.0, (81, 89, 89, 89, 89, 82)),
    (2, (0.85, 0.8, 0.7, 0.6, 0.55), 0.5, 88.0, (87, 87, 87, 87, 87, 87)),
    (5, (0.8, 0.5, 0.4), 0.2, 80.0, (77, 76, 78, 78, 77, 76)),
    (10, (0.7, 0.5, 0.4, 0.4), 0.1, 77.0, (74, 75, 75, 75, 74, 75)),
    (2, (0.8, 0.8, 0.8, 0.2), 0.5, 90.0, (88, 0, 0, 88, 88, 88)),
]
SIX: list[tuple[str, dict[str, Any]]] = [
    ("snorkel", {"steps": 1000, "balance": "votes"}),
    ("flyingsquid", {}),
    ("flyingsquid", {"centred": True}),
    ("spectral", {}),
    ("ebcc", {"groups": 3}),
    ("ensemw2s", {}),
]


@pytest.mark.parametrize(("K", "accuracies", "first", "best", "least"), WORLDS)
def test_independent_annotators_are_seen_through(
    K: int, accuracies: tuple[float, ...], first: float, best: float, least: tuple[int, ...]
) -> None:
    """Better than the majority, or not worse by more than 2 points, but for FlyingSquid with one who is reversed."""
    truth, labels = world(K, accuracies, first)
    majority = accuracy("majority_vote", truth, labels)
    for (name, options), low in zip(SIX, least, strict=True):
        found = accuracy(name, truth, labels, **options)
        assert low <= found <= best + 2, (name, options)
        assert found >= majority - 2 or (min(accuracies) < 1 / K and name == "flyingsquid"), (name, options)


# laws

ALL = [(name, options) for name, options, _ in twins.MODELS if name != "agreement_selection"]


@pytest.mark.parametrize(("name", "options"), ALL)
@few
@given(st.integers(2, 4), st.integers(3, 5), seeds)
def test_order_tells_nothing(name: str, options: dict[str, Any], K: int, M: int, seed: int) -> None:
    """Of supervisors; another order of examples or classes is another order of the targets' (but for ties)."""
    labels, rng = Case(K, M, seed).labels, torch.Generator().manual_seed(seed)
    assume(name != "spectral" or all(twins.has_a_direction(own) for own in labels.tolist()))
    found = targets(name, labels, **options)
    supervisors, examples, classes = (torch.randperm(n, generator=rng) for n in (M, N, K))
    if not options.get("sharpen"):  # votes may tie
        near(targets(name, labels[..., classes], **options), found[..., classes])
        near(targets(name, labels[:, :, supervisors], **options), found)
    near(targets(name, labels[:, examples], **options), found[:, examples])


@few
@given(st.integers(2, 3), st.integers(1, 4), st.sampled_from((1, 3)), seeds)
def test_order_tells_ebcc_nothing(K: int, M: int, groups: int, seed: int) -> None:
    votes, rng = Case(K, M, seed).labels[0].max(-1).indices, torch.Generator().manual_seed(seed)
    split = torch.rand(N, K, groups, generator=rng, dtype=torch.float64)
    found = ebcc.posterior(votes, split)
    supervisors, examples, classes = (torch.randperm(n, generator=rng) for n in (M, N, K))
    near(ebcc.posterior(votes[:, supervisors], split), found)
    near(ebcc.posterior(votes[examples], split[examples]), found[examples])
    near(ebcc.posterior(classes.argsort()[votes], split[:, classes]), found[:, classes])


@pytest.mark.parametrize(("name", "options"), [*SIX, ("agreement_selection", {})])
@few
@given(st.integers(2, 5), st.integers(3, 5), seeds)
def test_unanimous_supervisors_are_believed(name: str, options: dict[str, Any], K: int, M: int, seed: int) -> None:
    votes = torch.randint(K, (R, 40, 1), generator=torch.Generator().manual_seed(seed)).expand(-1, -1, M)
    labels = torch.eye(K, dtype=torch.float64)[votes]
    found = targets(name, labels, **options)
    assert (found.argmax(-1) == votes[..., 0]).all()


@few
@given(st.integers(3, 8), seeds)
def test_a_rank_one_matrix_gives_its_factor(M: int, seed: int) -> None:
    v = 0.2 + 0.8 * torch.rand(R, M, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    whole = v[:, :, None] * v[:, None]
    torch.testing.assert_close(leading_eigenvector(whole), v / v.norm(dim=1, keepdim=True))
    off = whole * (1 - torch.eye(M, dtype=torch.float64))
    torch.testing.assert_close(rank_one_diagonal(off, torch.ones_like(v)), v.square(), rtol=1e-6, atol=0)
    torch.testing.assert_close(rank_one_diagonal(off, torch.full_like(v, 0.3)), v.square().clamp_max(0.3))


@few
@given(st.integers(2, 6), seeds)
def test_the_leading_eigenvector_is_that_of_the_largest_value(M: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(R, M, M, generator=rng, dtype=torch.float64))
    values = torch.tensor([1.0, -0.5, 0.4, 0.3, 0.2, -0.1], dtype=torch.float64)[:M]
    found = leading_eigenvector(basis @ torch.diag_embed(values.expand(R, M)) @ basis.mT)
    start = basis.sum(1)[:, 0].abs()  # how much of it the start has
    assume((start > 0.05).all())
    torch.testing.assert_close((found * basis[..., 0]).sum(-1).abs(), torch.ones(R, dtype=torch.float64))
    torch.testing.assert_close(leading_eigenvector(torch.zeros(1, M, M)), torch.full((1, M), 1 / M**0.5))


@few
@given(st.integers(2, 4), st.integers(1, 5), seeds)
def test_agreement_beyond_chance_is_covariance(K: int, M: int, seed: int) -> None:
    labels = Case(K, M, seed).labels
    votes = torch.nn.functional.one_hot(labels.argmax(-1), K)
    expected = [twins.beyond_chance(twins.votes_of(own), K) for own in labels.tolist()]
    torch.testing.assert_close(agreement_beyond_chance(votes), torch.tensor(np.stack(expected)), rtol=0, atol=1e-12)


@few
@given(st.integers(2, 4), seeds)
def test_selection_takes_copies_for_the_best(K: int, seed: int) -> None:
    labels = Case(K, 3, seed).labels
    labels[:, :, 2] = labels[:, :, 1]
    assume((labels[:, :, 0].argmax(-1) != labels[:, :, 1].argmax(-1)).any(1).all())
    assert torch.equal(targets("agreement_selection", labels), labels[:, :, 1])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("snorkel", {"balance": "even"}, "snorkel: expected balance 'votes' or 'uniform', found 'even'"),
        ("flyingsquid", {"balance": ""}, "flyingsquid: expected balance"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(W2SError, match=message):
        Case(2, 3, 0).loss(METHODS[name](**options))
