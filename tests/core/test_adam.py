"""The optimizer beside torch's."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmark.core.adam import Adam, cosine_rates


@given(st.integers(1, 60), st.sampled_from([1e-3, 3e-2]), st.integers(0, 9))
def test_steps_and_rates_are_those_of_torch(steps: int, rate: float, seed: int) -> None:
    """Bit by bit, on tensors whose sizes are no multiples of a vector's width; the rate as a number or as a tensor."""
    rng = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=rng) for shape in ((3, 11), (7,), (1, 2, 5))]
    parameters, own, by_tensor = ([nn.Parameter(x.clone()) for x in start] for _ in range(3))
    optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    adam, other = Adam(own), Adam(by_tensor)
    for at in cosine_rates(rate, steps):
        assert at == optimizer.param_groups[0]["lr"]
        gradients = [torch.randn(x.shape, generator=rng) for x in start]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
        schedule.step()
        adam.step(gradients, at)
        other.step(gradients, torch.tensor(at, dtype=torch.float64))
    for expected, *found in zip(parameters, own, by_tensor, strict=True):
        assert all(torch.equal(expected, x) for x in found)
