"""On a GPU: the base model in bfloat16, and the same results as on a CPU within its precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from support.tiny import Models, random_texts, soft_labels

pytest.importorskip("peft")

from benchmark.core.data import Recipe
from benchmark.core.inputs import Prompted
from benchmark.core.training import TrainingData, train
from benchmark.students.language.log_probability import OutputLayer, sequence_log_probs
from benchmark.students.language.network import Objective
from benchmark.students.language.sequences import Sequences
from benchmark.students.language.student import LanguageHeads, LanguageModel
from methods.raven import Raven

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
N, SEEDS = 12, (1, 2)


def tokens_of(kind: LanguageModel, seed: int, device: str) -> Sequences:
    rng = np.random.default_rng(seed)
    prompts = random_texts(N, rng)
    sides = [[Prompted(p, r) for p, r in zip(prompts, random_texts(N, rng, 5), strict=True)] for _ in range(2)]
    tokens = kind.sequences(tuple(sides) if kind.pairs else prompts)
    frozen = kind._frozen(tokens, device)
    return tokens.having(**{name: torch.from_numpy(value) for name, value in frozen.items()}).to(device)


def probabilities(kind: LanguageModel, device: str, **more: Any) -> Tensor:
    """After two epochs, of the train split: (S, H, N, K)."""
    kind = replace(kind, **more)
    own = [tokens_of(kind, seed, device) for seed in SEEDS]
    labels = np.stack([soft_labels(np.arange(N) % 2, 3, np.random.default_rng(seed)) for seed in SEEDS])
    data = TrainingData({"tokens": own}, torch.from_numpy(labels).to(device), SEEDS, kind.start)
    (trained,) = train([Raven()], data, Recipe(1e-3, 2, 4))
    assert isinstance(trained.student, LanguageHeads)
    assert all(p.device.type == device for p in trained.student.replicas[0][0])
    assert all(p.dtype == torch.float32 for p in trained.student.replicas[0][0])
    return trained.student.predict(own).cpu()


@pytest.mark.parametrize("objective", ["classifier", "reward", "policy"])
@pytest.mark.parametrize(("family", "blocks"), [("llama", 2), ("llama", None), ("gpt2", 2)])
def test_a_gpu_gives_what_a_cpu_gives(models: Models, family: str, blocks: int | None, objective: Objective) -> None:
    kind = LanguageModel(objective, 2, models[family], blocks, rank=4, max_tokens=20, beta=0.1)
    base = next(p for p in kind.network("cuda").network.parameters() if not p.requires_grad)
    assert base.dtype == torch.bfloat16
    torch.testing.assert_close(probabilities(kind, "cuda"), probabilities(kind, "cpu"), rtol=0, atol=0.05)


@pytest.mark.parametrize("more", [{"micro_batch": 1}, {"checkpointing": True}], ids=str)
def test_what_saves_memory_changes_nothing(models: Models, more: dict[str, Any]) -> None:
    kind = LanguageModel("policy", 2, models["llama"], 2, rank=4, max_tokens=20, beta=0.1)
    torch.testing.assert_close(probabilities(kind, "cuda", **more), probabilities(kind, "cuda"), rtol=0, atol=0.02)


def test_log_probabilities_of_a_bfloat16_layer() -> None:
    rng = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(40, 16, generator=rng), torch.randn(50, 16, generator=rng) / 4
    down, up = torch.randn(3, 16, generator=rng) / 4, torch.randn(50, 3, generator=rng) / 4
    targets, counts = torch.randint(50, (40,), generator=rng), [10, 25, 5]
    results = []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        leaves = [x.to(device).requires_grad_() for x in (hidden, down, up)]
        layer = OutputLayer(weight.to(device, dtype), leaves[1], leaves[2], 0.5)
        value = sequence_log_probs(leaves[0], targets.to(device), counts, layer)
        gradients = torch.autograd.grad(value.sum(), leaves)
        results.append([value.detach().cpu(), *(g.cpu() for g in gradients)])
        assert all(g.dtype == torch.float32 for g in gradients)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.3)


def test_a_policy_replies_on_a_gpu(models: Models) -> None:
    net = LanguageModel("policy", 2, models["llama"], 2, rank=4, max_tokens=20).network("cuda")
    net.activate(net.fresh(0))
    replies = net.replies([[7, 8, 9], [20]], 5)
    assert all(len(reply) <= 5 for reply in replies)
