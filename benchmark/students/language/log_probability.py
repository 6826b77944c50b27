"""log p(reply) under a language model's output layer, with its gradient made in the forward pass.

With a vocabulary of V words the logits of T tokens, (T, V), are by far the largest tensor of a step. But the
log-probability of a token depends on its own hidden state only, so its gradient is known as soon as the logits are:
d log p_t / d h_t = W[y_t] - sum_v p_v W[v]. It is made while the logits of a few sequences are in memory, and only it
(T, D) is kept. That costs two products with W instead of three with recomputation, and no logits stay in memory.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

_TOKENS = 512  # logits of so many tokens are in memory at a time


class OutputLayer(NamedTuple):
    """logits = h W^T + scale (h A^T) B^T. W: (V, D); the low-rank part A: (r, D), B: (V, r) may be None."""

    weight: Tensor
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 1.0


def sequence_log_probs(hidden: Tensor, targets: Tensor, counts: list[int], layer: OutputLayer) -> Tensor:
    """(n,) sums of log p(target) over the tokens of each sequence, differentiable in `hidden` and the low-rank part.

    Args:
        hidden: (T, D) states that predict the targets, sequence after sequence. targets: (T,) token ids.
        counts: tokens of each of the n sequences, summing to T.
    """
    log_probs: Tensor = _SequenceLogProbs.apply(  # type: ignore[no-untyped-call]
        hidden, layer.down, layer.up, layer.weight, targets, counts, layer.scale
    )
    return log_probs


class _SequenceLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        down: Tensor | None,
        up: Tensor | None,
        weight: Tensor,
        targets: Tensor,
        counts: list[int],
        scale: float,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        h = hidden.detach().to(weight.dtype)
        n, r = len(counts), 0 if up is None else up.shape[1]
        sums = torch.empty(n, dtype=torch.float32, device=h.device)
        by_state = torch.empty_like(h, dtype=torch.float32) if wanted else None
        by_up = h.new_empty((n, weight.shape[0], r), dtype=torch.float32) if wanted and r else None
        by_down = h.new_empty((n, r, h.shape[1]), dtype=torch.float32) if wanted and r else None
        with torch.autocast(h.device.type, enabled=False):
            for part, at in _parts(counts):
                x, y = h[at], targets[at]
                z = (x @ weight.T).float()
                low = x if down is None else x.float() @ down.detach().float().T
                if up is not None:
                    z.addmm_(low, up.detach().float().T, alpha=scale)
                log_p = z.gather(1, y[:, None])[:, 0] - z.logsumexp(1)
                sizes = counts[part]
                sums[part] = torch.stack([own.sum() for own in log_p.split(sizes)])
                if by_state is None:
                    continue
                slope = z.softmax(1).neg_()  # d log p / d logits
                slope[torch.arange(len(y), device=y.device), y] += 1
                by_state[at] = (slope.to(weight.dtype) @ weight).float()
                if up is not None and down is not None and by_up is not None and by_down is not None:
                    through = (slope @ up.detach().float()) * scale
                    by_state[at] += through @ down.detach().float()
                    rows = zip(slope.split(sizes), low.split(sizes), through.split(sizes), x.split(sizes), strict=True)
                    for i, (s, l, t, own) in zip(range(part.start, part.stop), rows, strict=True):
                        torch.mm(s.T, l, out=by_up[i]).mul_(scale)
                        torch.mm(t.T, own.float(), out=by_down[i])
        ctx.counts = counts
        ctx.dtype = hidden.dtype
        ctx.save_for_backward(by_state, by_down, by_up)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        by_state, by_down, by_up = ctx.saved_tensors
        per_token = g.repeat_interleave(torch.tensor(ctx.counts, device=g.device))[:, None]
        down = None if by_down is None else torch.einsum("n,nrd->rd", g, by_down)
        up = None if by_up is None else torch.einsum("n,nvr->vr", g, by_up)
        return (by_state * per_token).to(ctx.dtype), down, up, None, None, None, None


def _parts(counts: list[int]) -> Iterator[tuple[slice, slice]]:
    """Consecutive sequences of about `_TOKENS` tokens together: their positions, and their tokens' positions."""
    first = begin = total = 0
    for i, count in enumerate(counts):
        if total and total + count > _TOKENS:
            yield slice(first, i), slice(begin, begin + total)
            first, begin, total = i, begin + total, 0
        total += count
    if first < len(counts):
        yield slice(first, len(counts)), slice(begin, begin + total)
