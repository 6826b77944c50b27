"""The batched loop against plain PyTorch, one head at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmark.base.errors import MethodFailed, W2SError
from benchmark.core.data import Recipe
from benchmark.core.losses import cross_entropy, log_softmax
from benchmark.core.method import Batch, Method
from benchmark.core.minibatches import Minibatches
from benchmark.core.precision import backward, check_precision, forward
from benchmark.core.registry import METHODS
from benchmark.core.training import TrainingData, train
from benchmark.students.linear import Heads, LinearStudent, initial_head
from benchmark.students.standardiser import Standardiser
from benchmark.students.streamed import Streamed
from support.rounding import assert_close, assert_trained_alike
from support.trained import SEEDS, Ensemble, Single, Staged, make_data

RECIPE = Recipe(learning_rate=3e-3, epochs=3, batch_size=16)
ROUNDINGS = 15 * (6 + 16 + 10)  # steps, and what is added up in each: features, examples, classes
Loss = Callable[[Tensor, Tensor, float], Tensor]  # logits, examples, progress -> scalar


def plain(features: Tensor, seed: int, outputs: int, loss: Loss, keep: Tensor | None = None) -> nn.Linear:
    """One head in the ordinary way: features (N, D) or (N, 2, D), keep (N,)."""
    pairs = features.dim() == 3
    head = nn.Linear(features.shape[-1], outputs, bias=not pairs)
    weight, bias = initial_head(seed, outputs, features.shape[-1])
    head.weight.data.copy_(weight)
    if not pairs:
        head.bias.data.copy_(bias)
    stream = Minibatches((seed,), len(features), RECIPE.batch_size, None if keep is None else keep[None, None])
    total = stream.steps_per_epoch * RECIPE.epochs
    optimizer = torch.optim.Adam(head.parameters(), lr=RECIPE.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    step = 0
    for epoch in range(RECIPE.epochs):
        for index in stream.epoch(epoch)[:, 0, 0]:
            step += 1
            z = head(features[index])
            optimizer.zero_grad()
            loss(z[..., 0] if pairs else z, index, step / total).backward()
            optimizer.step()
            schedule.step()
    return head


def reference(z: Tensor, target: Tensor) -> Tensor:
    return -(target * torch.log_softmax(z, -1)).sum(-1).mean()


def assert_same(heads: Heads, s: int, h: int, expected: nn.Linear) -> None:
    weight, bias = initial_head(SEEDS[s], *expected.weight.shape)
    if heads.bias is None:
        assert_trained_alike([heads.weight[s, h]], [expected.weight], [weight], ROUNDINGS)
    else:
        found = [heads.weight[s, h], heads.bias[s, h]]
        assert_trained_alike(found, [expected.weight, expected.bias], [weight, bias], ROUNDINGS)


@pytest.mark.parametrize(("K", "pairs"), [(2, False), (10, False), (2, True)])
@pytest.mark.parametrize("alone", [False, True])
def test_batched_equals_sequential(K: int, pairs: bool, alone: bool) -> None:
    """A mixed batch of two methods, all seeds and supervisors, against each head trained alone; or one replica only."""
    data = make_data(K=K, M=1 if alone else 3, pairs=pairs)
    if alone:
        one = {name: x[:1] for name, x in data.features.items()}
        data = replace(data, features=one, soft_labels=data.soft_labels[:1].contiguous(), seeds=SEEDS[:1])
    trained = train([Single()] if alone else [Single(), Ensemble()], data, RECIPE)
    outputs = 1 if pairs else K
    for s, seed in enumerate(data.seeds):
        x, p = data.features["full"][s], data.soft_labels[s]
        for m in range(len(p)):
            head = plain(x, seed, outputs, lambda z, i, progress, p=p[m]: reference(z, p[i]))
            assert_same(trained[0].student, s, m, head)

        def mixed(z: Tensor, i: Tensor, progress: float, p: Tensor = p) -> Tensor:
            own = torch.nn.functional.one_hot(z.detach().argmax(-1), K).float()
            return reference(z, (1 - 0.3 * progress) * p[:, i].mean(0) + 0.3 * progress * own)

        if not alone:
            assert_same(trained[1].student, s, 0, plain(x, seed, outputs, mixed))


def test_shared_feature_table_equals_copies() -> None:
    data = make_data()
    shared = data.features["full"][:1].expand(len(SEEDS), -1, -1)
    a, b = (train([Single()], replace(data, features={"full": x}), RECIPE)[0] for x in (shared, shared.contiguous()))
    assert torch.equal(a.student.weight, b.student.weight)


def test_stages_targets_and_keep_equal_sequential() -> None:
    data, method = make_data(), Staged()
    (trained,) = train([method], data, RECIPE)
    assert trained.steps == 2 * 5 * 3
    assert not method.keep.all()
    assert method.keep.any()
    for s, seed in enumerate(SEEDS):
        for m in range(3):
            p, weak, replica = data.soft_labels[s, m], data.features["weak"][s], s * 3 + m
            head = plain(weak, seed, 4, lambda z, i, progress, p=p: reference(z, p[i]))
            targets = head(weak).softmax(-1).detach()
            start = nn.functional.linear(weak, *initial_head(seed, 4, 4)).softmax(-1)
            assert_trained_alike([method.first[replica]], [targets], [start], ROUNDINGS)

            # the second stage sees only what was kept, in the stream of its seed
            keep = method.keep[replica]

            def second(z: Tensor, i: Tensor, progress: float, keep: Tensor = keep, t: Tensor = targets) -> Tensor:
                assert keep[i].all()
                return reference(z, t[i])

            assert_same(trained.student, s, m, plain(data.features["full"][s], seed, 4, second, keep))


def test_schedule_and_optimizer_settings_change_the_result() -> None:
    """Guards the comparison above: it could not pass if settings were ignored on both sides."""
    data = make_data()
    runs = [
        train([Single()], data, Recipe(lr, epochs, size))[0].student.weight
        for lr, epochs, size in ((3e-3, 3, 16), (1e-3, 3, 16), (3e-3, 4, 16), (3e-3, 3, 20))
    ]
    for a, b in pairwise(runs):
        assert (a - b).abs().max() > 1e-4


def test_standardiser_uses_both_responses_and_leaves_constants() -> None:
    x = torch.randn(30, 2, 4) * 3 + 1
    x[..., 2] = 5.0
    z = Standardiser.of(x)(x).reshape(-1, 4)
    assert_close(z.mean(0), torch.zeros(4), 60, scale=x.abs().max())
    assert_close(z.std(0, correction=0), torch.tensor([1.0, 1, 0, 1]), 60)


def test_log_softmax_and_cross_entropy() -> None:
    z, t = torch.randn(5, 7) * 50, torch.rand(5, 7)
    assert_close(log_softmax(z), torch.log_softmax(z, -1), 7, scale=z.abs().max())
    assert_close(cross_entropy(z, t), -(t * torch.log_softmax(z, -1)).sum(-1), 14)
    assert cross_entropy(z, torch.zeros(5, 7)).abs().max() == 0


class Broken(Single):
    def __init__(self, how: str) -> None:
        self.how = how

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        if self.how == "raise":
            raise ValueError("boom")
        if self.how == "exit":
            raise SystemExit(3)
        if self.how == "detached":
            return super().loss(logits.detach(), batch)
        return logits.sum()


@pytest.mark.parametrize(
    ("how", "message"),
    [("raise", "boom"), ("exit", "SystemExit"), ("detached", "no gradient"), ("shape", r"expected \(R, B\)")],
)
def test_a_method_that_fails_is_named(how: str, message: str) -> None:
    with pytest.raises(MethodFailed, match=f"method 'single'.*{message}") as caught:
        train([Ensemble(), Broken(how)], make_data(), RECIPE)
    assert caught.value.method == "single"


def test_too_few_supervisors_is_named() -> None:
    class Needy(Ensemble):
        min_supervisors = 4

    with pytest.raises(MethodFailed, match="needs at least 4 supervisors, found 3"):
        train([Needy()], make_data(), RECIPE)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("pairs", [False, True])
def test_cuda_equals_cpu(pairs: bool) -> None:
    data = make_data(K=2, pairs=pairs)
    there = TrainingData({k: v.cuda() for k, v in data.features.items()}, data.soft_labels.cuda(), SEEDS, LinearStudent)
    for a, b in zip(
        train([Single(), Ensemble(), Staged()], data, RECIPE),
        train([Single(), Ensemble(), Staged()], there, RECIPE),
        strict=True,
    ):
        torch.testing.assert_close(a.student.weight, b.student.weight.cpu(), atol=1e-4, rtol=0)


def test_bfloat16_products_change_little_and_float32_nothing() -> None:
    data = make_data()
    usual, same, rough = (
        train([Single(), Ensemble()], data, replace(RECIPE, precision=precision))[1].student.weight
        for precision in ("float32", "float32", "bf16")
    )
    assert torch.equal(usual, same)
    assert rough.dtype == torch.float32
    assert 0 < (usual - rough).abs().max() < 0.02


@pytest.mark.parametrize(("precision", "device"), [("half", "cpu"), ("tf32", "cpu")])
def test_a_precision_that_is_not_there_is_refused(precision: str, device: str) -> None:
    with pytest.raises(W2SError, match=f"option precision={precision}: .*float32"):
        check_precision(precision, device)
    check_precision("tf32", "cuda")
    check_precision("bf16", "cpu")


def test_tf32_is_on_in_the_products_only() -> None:
    assert torch.get_float32_matmul_precision() == "highest"
    for during in (forward("tf32", torch.device("cuda")), backward("tf32")):
        with during:
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "highest"


def one_stage() -> list[str]:
    return [name for name in METHODS.names() if METHODS[name].fit is Method.fit]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", one_stage())
@pytest.mark.parametrize("streams", [False, True])
def test_cuda_never_waits_for_the_host_inside_an_epoch(name: str, streams: bool) -> None:
    data = make_data()
    there = {k: Streamed(list(v.numpy()), "cuda") if streams else v.cuda() for k, v in data.features.items()}
    epochs = 0

    def on_step(share: float) -> None:  # setting up and reading results may wait; what lies between must not
        nonlocal epochs
        epochs += share == 1
        torch.cuda.set_sync_debug_mode("error" if 0 < epochs < RECIPE.epochs else "default")

    try:
        train([METHODS[name]()], TrainingData(there, data.soft_labels.cuda(), SEEDS, LinearStudent), RECIPE, on_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert epochs == RECIPE.epochs


@given(st.integers(1, 5_000), st.integers(1, 40), st.integers(1, 200), st.integers(1, 2_000))
def test_steps_are_enough_and_no_epoch_more(N: int, epochs: int, batch_size: int, min_steps: int) -> None:
    found = Recipe(1e-3, epochs, batch_size, min_steps).epochs_of(N)
    steps = N // min(batch_size, N)
    assert found >= epochs
    assert found * steps >= min_steps
    assert found == epochs or (found - 1) * steps < min_steps


def test_a_small_split_is_gone_through_more_often() -> None:
    data = make_data()
    few = replace(RECIPE, min_steps=10 * data.soft_labels.shape[2])
    more = replace(RECIPE, epochs=few.epochs_of(data.soft_labels.shape[2]))
    assert more.epochs > RECIPE.epochs
    names = ("raven", "bootstrapping")
    for found, expected in zip(*(train([METHODS[n]() for n in names], data, r) for r in (few, more)), strict=True):
        assert found.steps == expected.steps
        assert torch.equal(found.student.weight, expected.student.weight)
