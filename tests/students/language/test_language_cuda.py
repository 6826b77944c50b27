"""On a GPU, and in its precision on a CPU: the base model in bfloat16, and the results of float32 within rounding."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.core.data import Recipe
from benchmark.core.inputs import Prompted
from benchmark.core.training import TrainingData, train
from benchmark.students.language.log_probability import OutputLayer, sequence_log_probs
from benchmark.students.language.network import Objective
from benchmark.students.language.sequences import Sequences
from benchmark.students.language.student import LanguageHeads, LanguageModel
from methods.naive import Naive
from methods.raven import Raven
from support.bfloat16 import assert_predictions_alike, assert_weights_alike, low_precision
from support.tiny import Models, random_texts, soft_labels

cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
N, SEEDS = 12, (1, 2)


def tokens_of(kind: LanguageModel, seed: int, device: str) -> Sequences:
    rng = np.random.default_rng(seed)
    prompts = random_texts(N, rng)
    sides = [[Prompted(p, r) for p, r in zip(prompts, random_texts(N, rng, 5), strict=True)] for _ in range(2)]
    tokens = kind.sequences(tuple(sides) if kind.pairs else prompts)
    frozen = kind._frozen(tokens, device)
    return tokens.having(**{name: torch.from_numpy(value) for name, value in frozen.items()}).to(device)


def replicas(kind: LanguageModel) -> tuple[list[Tensor], list[Tensor]]:
    """The first weights, and others far from them, with which adapters change much; (S, 1, ...) on the CPU."""
    rng, net = torch.Generator().manual_seed(0), kind.network("cpu")
    start = [torch.stack(own)[:, None] for own in zip(*map(net.fresh, SEEDS), strict=True)]
    return start, [value + 0.2 * torch.randn(value.shape, generator=rng) for value in start]


def results(kind: LanguageModel, device: str, far: list[Tensor], **more: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Weights after two epochs, and predictions of the train split: by them, and by the replicas `far`."""
    kind = replace(kind, **more)
    own = [tokens_of(kind, seed, device) for seed in SEEDS]
    labels = np.stack([soft_labels(np.arange(N) % 2, 3, np.random.default_rng(seed)) for seed in SEEDS])
    data = TrainingData({"tokens": own}, torch.from_numpy(labels).to(device), SEEDS, kind.start)
    heads = [one.student for one in train([Raven(), Naive()], data, Recipe(1e-3, 2, 4))]
    weights = [value for one in heads for value in one.weights]  # type: ignore[attr-defined]
    assert all((value.device.type, value.dtype) == (device, torch.float32) for value in weights)
    heads.append(LanguageHeads(kind, kind.network(device), [value.to(device) for value in far]))
    return [value.cpu() for value in weights], [one.predict(own).cpu() for one in heads]


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=cuda)])
@pytest.mark.parametrize("objective", ["classifier", "reward", "policy"])
@pytest.mark.parametrize(("family", "blocks"), [("llama", 2), ("llama", None), ("gpt2", 2)])
def test_bfloat16_gives_what_float32_gives(
    models: Models, family: str, blocks: int | None, objective: Objective, where: str
) -> None:
    kind = LanguageModel(objective, 2, models[family], blocks, rank=4, max_tokens=20, beta=0.1)
    start, far = replicas(kind)
    weights, predictions = results(kind, "cpu", far)
    with low_precision() if where == "cpu" else contextlib.nullcontext():
        net = kind.network(where)
        assert next(net.network.parameters()).dtype == torch.bfloat16
        assert net.replicas_at_once(1) > 1
        own, seen = results(kind, where, far)
    assert_weights_alike(own, weights, [first.expand_as(last) for first, last in zip(2 * start, weights, strict=True)])
    for a, b in zip(seen, predictions, strict=True):
        assert_predictions_alike(a, b)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("more", [{"micro_batch": 1}, {"checkpointing": True}], ids=str)
def test_what_saves_memory_changes_nothing_on_a_gpu(models: Models, more: dict[str, Any]) -> None:
    kind = LanguageModel("policy", 2, models["llama"], 2, rank=4, max_tokens=20, beta=0.1)
    whole, sparing = (results(kind, "cuda", replicas(kind)[1], **own) for own in ({}, more))
    for a, b in zip(sparing[1], whole[1], strict=True):
        assert_predictions_alike(a, b)


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=cuda)])
def test_log_probabilities_of_a_bfloat16_layer(where: str) -> None:
    rng = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(2, 40, 16, generator=rng), torch.randn(50, 16, generator=rng) / 4
    down, up = torch.randn(2, 3, 16, generator=rng) / 4, torch.randn(2, 50, 3, generator=rng) / 4
    targets, counts = torch.randint(50, (2, 40), generator=rng), [10, 25, 5]
    answered = torch.rand(2, 40, generator=rng) < 0.8
    results = []
    for device, dtype in (("cpu", torch.float32), (where, torch.bfloat16)):
        leaves = [x.to(device).requires_grad_() for x in (hidden, down, up)]
        layer = OutputLayer(weight.to(device, dtype), leaves[1], leaves[2], 0.5)
        value = sequence_log_probs(leaves[0], targets.to(device), answered.to(device), counts, layer)
        gradients = torch.autograd.grad(value.sum(), leaves)
        results.append([value.detach().cpu(), *(g.cpu() for g in gradients)])
        assert all(g.dtype == torch.float32 for g in gradients)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_policy_replies_on_a_gpu(models: Models) -> None:
    net = LanguageModel("policy", 2, models["llama"], 2, rank=4, max_tokens=20).network("cuda")
    with net.having([torch.stack([value, value]) for value in net.fresh(0)]):
        first, second = net.replies([[7, 8, 9], [20]], 5)
    assert first == second
    assert all(len(reply) <= 5 for reply in first)
