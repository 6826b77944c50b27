"""log p(reply) and its hand-made gradient equal what autograd gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmark.students.language import log_probability
from benchmark.students.language.log_probability import OutputLayer, sequence_log_probs
from support.laws import seeds
from support.rounding import assert_close

D, V, RANK = 6, 11, 3


def plain(hidden: Tensor, targets: Tensor, answered: Tensor, counts: list[int], layer: OutputLayer) -> Tensor:
    """The formula, in the operations of autograd, replica by replica."""
    sums = []
    for r in range(len(hidden)):
        logits = hidden[r] @ layer.weight.T + layer.scale * (hidden[r] @ layer.down[r].T) @ layer.up[r].T
        log_p = logits.log_softmax(-1).gather(-1, targets[r][:, None])[:, 0]
        parts = zip(log_p.split(counts), answered[r].split(counts), strict=True)
        sums.append(torch.stack([own[real].sum() for own, real in parts]))
    return torch.stack(sums)


lengths = st.lists(st.integers(0, 40), min_size=1, max_size=6)
counts = st.one_of(lengths, st.builds(lambda n, A: n * [A], st.integers(1, 6), st.integers(1, 9)))


@pytest.mark.parametrize("form", ["low rank", "fresh low rank", "frozen states"])
@given(st.integers(1, 5), counts, st.sampled_from((1, 30, 512)), seeds)
def test_equals_autograd(form: str, R: int, counts: list[int], at_once: int, seed: int) -> None:
    """In several parts, of sequences or of replicas; a low-rank part begins as zero, and states may be frozen. Of the
    positions that a reply may have, it has some."""
    rng, T = torch.Generator().manual_seed(seed), sum(counts)
    answered = torch.rand(R, T, generator=rng) < 0.8
    hidden, targets = torch.randn(R, T, D, generator=rng), torch.randint(V, (R, T), generator=rng)
    down, up = torch.randn(R, RANK, D, generator=rng), torch.randn(R, V, RANK, generator=rng)
    up *= form != "fresh low rank"
    leaves = [x.requires_grad_() for x in ([down, up] if form == "frozen states" else [hidden, down, up])]
    layer = OutputLayer(torch.randn(V, D, generator=rng), down, up, 0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_probability, "_TOKENS", {"cpu": at_once})
        found, expected = (f(hidden, targets, answered, counts, layer) for f in (sequence_log_probs, plain))
        with torch.inference_mode():
            assert not sequence_log_probs(hidden, targets, answered, counts, layer).requires_grad
    roundings = D + V + T  # of a logit, of the sum over the vocabulary, of the sum over tokens
    assert_close(found, expected, roundings)
    slopes = torch.linspace(-1, 2, found.numel()).view_as(found)  # not the same for all sequences
    gradients = zip(*(torch.autograd.grad((v * slopes).sum(), leaves) for v in (found, expected)), strict=True)
    for a, b in gradients:
        assert_close(a, b, roundings, scale=max(1.0, float(b.abs().max()) if b.numel() else 0.0))


@given(st.integers(1, 9), counts, st.integers(1, 300))
def test_parts_hold_every_position_of_every_replica_once(R: int, counts: list[int], tokens: int) -> None:
    """None has more than there is room for, unless it is one sequence of one replica."""
    met, sequences = torch.zeros(R, sum(counts)), torch.zeros(R, len(counts))
    for some, own, at in log_probability._parts(R, counts, tokens):
        met[some, at] += 1
        sequences[some, own] += 1
        assert sequences[some, own].numel() == 1 or met[some, at].numel() <= tokens
        assert met[some, at].shape[1] == sum(counts[own])
    assert (met == 1).all()
    assert (sequences == 1).all()
