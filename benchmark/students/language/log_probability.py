"""log p(reply) under a language model's output layer, with its gradient made in the forward pass.

With a vocabulary of V words the logits of T tokens, (T, V), are by far the largest tensor of a step. But the
log-probability of a token depends on its own hidden state only, so its gradient is known as soon as the logits are:
d log p_t / d h_t = W[y_t] - sum_v p_v W[v]. It is made while the logits of a few sequences are in memory, and only it
(T, D) is kept. That costs two products with W instead of three with recomputation, and no logits stay in memory.

Shapes: R replicas, each with T positions: those of n sequences, one after the other, as many of each as the host knows
that its reply may have.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

_TOKENS = {"cpu": 512}  # logits of so many tokens are in memory at a time; on a GPU more, for fewer launches


class OutputLayer(NamedTuple):
    """logits = h W^T + scale (h A^T) B^T. W: (V, D) for all replicas, A: (R, r, D), B: (R, V, r)."""

    weight: Tensor
    down: Tensor
    up: Tensor
    scale: float


class Alike(NamedTuple):
    """Consecutive sequences with equally many positions, which are computed together."""

    sequences: slice
    positions: slice
    shape: tuple[int, int]  # how many sequences, and how many positions each


def alike(counts: Sequence[int]) -> list[Alike]:
    """For the positions of n sequences."""
    made, first, begin = [], 0, 0
    for length, group in groupby(counts):
        size = len(list(group))
        made.append(Alike(slice(first, first + size), slice(begin, begin + size * length), (size, length)))
        first, begin = first + size, begin + size * length
    return made


def sequence_log_probs(
    hidden: Tensor, targets: Tensor, answered: Tensor, counts: Sequence[int], layer: OutputLayer
) -> Tensor:
    """(R, n) sums of log p(target) over the tokens of each reply, differentiable in `hidden` and the low-rank part.

    Args:
        hidden: (R, T, D) states that predict the targets. targets: (R, T) token ids.
        answered: (R, T), true where a target belongs to the reply.
        counts: positions of each of the n sequences, summing to T.
    """
    log_probs: Tensor = _SequenceLogProbs.apply(  # type: ignore[no-untyped-call]
        hidden, layer.down, layer.up, layer.weight, targets, answered, counts, layer.scale
    )
    return log_probs


class _SequenceLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        down: Tensor,
        up: Tensor,
        weight: Tensor,
        targets: Tensor,
        answered: Tensor,
        counts: Sequence[int],
        scale: float,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        R, n, (V, r) = len(hidden), len(counts), up.shape[1:]
        h, a, b = hidden.detach().to(weight.dtype), down.detach().float(), up.detach().float()
        sums = h.new_empty((R, n), dtype=torch.float32)
        by_state = torch.empty_like(h, dtype=torch.float32) if wanted else None
        by_down = h.new_empty((R, n, r, h.shape[2]), dtype=torch.float32) if wanted else None
        by_up = h.new_empty((R, n, V, r), dtype=torch.float32) if wanted else None
        with torch.autocast(h.device.type, enabled=False):
            for some, some_sequences, at in _parts(R, counts, _TOKENS.get(h.device.type, 2_048)):
                x, y, said = h[some, at], targets[some, at, None], answered[some, at, None].float()
                z = (x @ weight.T).float()
                low = torch.bmm(x.float(), a[some].mT)
                z.baddbmm_(low, b[some].mT, alpha=scale)
                log_p = (z.gather(2, y) - z.logsumexp(2, keepdim=True)) * said
                groups = alike(counts[some_sequences])
                for own, tokens, shape in groups:
                    sums[some, some_sequences][:, own] = log_p[:, tokens, 0].unflatten(1, shape).sum(2)
                if by_state is None or by_down is None or by_up is None:
                    continue
                slope = z.softmax(2).neg_()  # d log p / d logits
                slope.scatter_add_(2, y, torch.ones_like(y, dtype=slope.dtype))
                through = torch.bmm(slope, b[some]).mul_(scale)
                state = (slope.to(weight.dtype) @ weight).float()
                by_state[some, at] = state.baddbmm_(through, a[some]).mul_(said)
                low, through = low * (scale * said), through * said
                for own, tokens, shape in groups:
                    s, l, t, f = (v[:, tokens].unflatten(1, shape) for v in (slope, low, through, x.float()))
                    by_up[some, some_sequences][:, own] = s.mT @ l
                    by_down[some, some_sequences][:, own] = t.mT @ f
        ctx.groups, ctx.dtype = alike(counts), hidden.dtype
        ctx.save_for_backward(by_state, by_down, by_up)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        by_state, by_down, by_up = ctx.saved_tensors
        state = torch.empty_like(by_state, dtype=ctx.dtype)
        for own, tokens, shape in ctx.groups:
            state[:, tokens] = (by_state[:, tokens].unflatten(1, shape) * g[:, own, None, None]).flatten(1, 2)
        down, up = torch.einsum("rn,rnkd->rkd", g, by_down), torch.einsum("rn,rnvk->rvk", g, by_up)
        return state, down, up, None, None, None, None, None


def _parts(replicas: int, counts: Sequence[int], tokens: int) -> Iterator[tuple[slice, slice, slice]]:
    """Consecutive sequences of at most `tokens` positions in all replicas together, or one sequence of some replicas,
    where that is more: these replicas, these sequences, and their positions."""
    starts = [0, *accumulate(counts)]
    first = 0
    for i in range(1, len(counts) + 1):
        if i < len(counts) and replicas * (starts[i + 1] - starts[first]) <= tokens:
            continue
        times = -(-replicas // max(1, tokens // max(1, starts[i] - starts[first])))
        together = -(-replicas // times)
        for r in range(0, replicas, together):
            yield slice(r, r + together), slice(first, i), slice(starts[first], starts[i])
        first = i
