"""log p(reply) and its hand-made gradient equal what autograd gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from benchmark.students.language import log_probability
from benchmark.students.language.log_probability import OutputLayer, sequence_log_probs
from support.laws import seeds
from support.rounding import assert_close

D, V, R = 6, 11, 3


def plain(hidden: Tensor, targets: Tensor, counts: list[int], layer: OutputLayer) -> Tensor:
    """The formula, in the operations of autograd."""
    logits = hidden @ layer.weight.T
    if layer.down is not None and layer.up is not None:
        logits = logits + layer.scale * (hidden @ layer.down.T) @ layer.up.T
    log_p = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    return torch.stack([own.sum() for own in log_p.split(counts)])


@pytest.mark.parametrize("form", ["full", "low rank", "fresh low rank", "frozen states"])
@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.sampled_from((10, 512)), seeds)
def test_equals_autograd(form: str, counts: list[int], at_once: int, seed: int) -> None:
    """Of several parts, and of sequences longer than one; a low-rank part begins as zero, and states may be frozen."""
    assume(sum(counts))
    rng = torch.Generator().manual_seed(seed)
    hidden, targets = torch.randn(sum(counts), D, generator=rng), torch.randint(V, (sum(counts),), generator=rng)
    layer = OutputLayer(torch.randn(V, D, generator=rng))
    leaves = [] if form == "frozen states" else [hidden.requires_grad_()]
    if form != "full":
        down, up = torch.randn(R, D, generator=rng), torch.randn(V, R, generator=rng) * (form != "fresh low rank")
        leaves += [down.requires_grad_(), up.requires_grad_()]
        layer = layer._replace(down=down, up=up, scale=0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_probability, "_TOKENS", at_once)
        found, expected = (f(hidden, targets, counts, layer) for f in (sequence_log_probs, plain))
        with torch.inference_mode():
            assert not sequence_log_probs(hidden, targets, counts, layer).requires_grad
    roundings = D + V + sum(counts)  # of a logit, of the sum over the vocabulary, of the sum over tokens
    assert_close(found, expected, roundings)
    slopes = torch.linspace(-1, 2, len(counts))  # not the same for all sequences
    gradients = zip(*(torch.autograd.grad(value @ slopes, leaves) for value in (found, expected)), strict=True)
    for a, b in gradients:
        assert_close(a, b, roundings, scale=torch.maximum(b.abs().max(), torch.tensor(1.0)))
