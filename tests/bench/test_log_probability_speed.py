"""log p(reply) with its gradient made in the forward pass, beside plain autograd: `make bench`.

The sizes are those of SmolLM2-135M and a minibatch of 16 pairs of replies. "kept" is plain autograd, which keeps the
logits for the backward pass, "recomputed" the same under `torch.utils.checkpoint`, 512 tokens at a time. All three give
the same numbers (tests/language). Memory is what lies between forward and backward pass, for one replica.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from benchmark.students.language.log_probability import OutputLayer, sequence_log_probs

VOCABULARY, WIDTH, RANK = 49_152, 576, 8
COUNTS = [40] * 32


def saved_bytes(forward: Callable[[], Tensor], given: set[int]) -> int:
    """Bytes of distinct tensors that the graph keeps, besides those (by address) that are there anyway."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(size for address, size in kept.items() if address not in given)


@pytest.mark.benchmark
@pytest.mark.parametrize("lora", [True, False])
def test_log_probabilities(benchmark: Any, lora: bool) -> None:
    torch.manual_seed(0)
    T = sum(COUNTS)
    weight = torch.randn(VOCABULARY, WIDTH) * 0.05
    hidden = torch.randn(T, WIDTH, requires_grad=True)
    down, up = None, None
    if lora:
        down, up = (torch.randn(s).mul_(0.01).requires_grad_() for s in ((RANK, WIDTH), (VOCABULARY, RANK)))
    targets, g = torch.randint(VOCABULARY, (T,)), torch.randn(len(COUNTS))
    owner = torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(COUNTS))

    def plain(h: Tensor, y: Tensor) -> Tensor:
        z = h @ weight.T
        if down is not None and up is not None:
            z = z + (h @ down.T) @ up.T
        return z.gather(1, y[:, None])[:, 0] - z.logsumexp(1)

    def kept() -> Tensor:
        return torch.zeros(len(COUNTS)).index_add(0, owner, plain(hidden, targets))

    def recomputed() -> Tensor:
        parts = zip(hidden.split(512), targets.split(512), strict=True)
        tokens = torch.cat([checkpoint(plain, h, y, use_reentrant=False) for h, y in parts])
        return torch.zeros(len(COUNTS)).index_add(0, owner, tokens)

    def fused() -> Tensor:
        return sequence_log_probs(hidden, targets, COUNTS, OutputLayer(weight, down, up))

    ways = {"fused": fused, "kept": kept, "recomputed": recomputed}
    torch.testing.assert_close(fused(), kept(), rtol=1e-4, atol=1e-2)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, forward in ways.items():
            start = time.perf_counter()
            (forward() @ g).backward()
            times[name].append(time.perf_counter() - start)
    benchmark.pedantic(lambda: (fused() @ g).backward(), rounds=1)
    there = {t.untyped_storage().data_ptr() for t in (weight, hidden, targets, owner, down, up) if t is not None}
    print(f"\n{T} tokens, vocabulary {VOCABULARY:,}, width {WIDTH}, {'LoRA' if lora else 'frozen'} output layer")
    for name, forward in ways.items():
        memory, seconds = saved_bytes(forward, there) / 2**20, median(times[name])
        print(f"  {name:<12}{seconds:>7.2f} s  ratio {seconds / median(times['fused']):.2f}  {memory:>7.0f} MiB kept")
