"""Linear heads on frozen features: all replicas of a training run, trained by batched matrix products.

Shapes: S seeds, H heads a seed, N train examples, D features, K classes, B examples of a minibatch. Features of
preference pairs are (..., 2, D): a head is then one weight vector without bias, its two logits are the scores of
the two responses (Bradley-Terry).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from benchmark.base.torch_seeding import torch_rng
from benchmark.store.stored_rows import READ_ROWS
from benchmark.students.streamed import InMemory, ReadAhead, Streamed


def initial_head(seed: int, outputs: int, dim: int) -> tuple[Tensor, Tensor]:
    """`nn.Linear`'s initial weight (outputs, D) and bias (outputs,): U(-1/sqrt(D), 1/sqrt(D)), by the seed only."""
    rng, bound = torch_rng("head", seed), 1 / math.sqrt(dim)
    return (
        torch.empty(outputs, dim).uniform_(-bound, bound, generator=rng),
        torch.empty(outputs).uniform_(-bound, bound, generator=rng),
    )


@dataclass(frozen=True)
class Heads:
    """Trained heads. weight: (S, H, K, D) and bias: (S, H, K); for pairs weight: (S, H, 1, D) and no bias."""

    weight: Tensor
    bias: Tensor | None

    def heads(self, part: slice) -> "Heads":
        return Heads(self.weight[:, part], None if self.bias is None else self.bias[:, part])

    def seed(self, position: int) -> "Heads":
        part = slice(position, position + 1)
        return Heads(self.weight[part], None if self.bias is None else self.bias[part])

    def finite(self) -> bool:
        return bool(self.weight.isfinite().all()) and (self.bias is None or bool(self.bias.isfinite().all()))

    def predict(self, features: Tensor | Streamed) -> Tensor:
        """Probabilities (S, H, n, K) for standardised features (S, n, D) or (S, n, 2, D); block by block when many."""
        if isinstance(features, Tensor) and features.shape[1] <= READ_ROWS:
            return self._probabilities(features)
        S, H, outputs, _ = self.weight.shape
        found = self.weight.new_empty(S, H, features.shape[1], 2 if self.bias is None else outputs)
        for there, block in self._blocks(found, features):
            there.copy_(block)
        return found

    def classes(self, features: Tensor | Streamed) -> Tensor:
        """Class ids (S, H, n), likewise: the probabilities of many examples are not all in memory."""
        found = self.weight.new_empty(*self.weight.shape[:2], features.shape[1], dtype=torch.int64)
        for there, block in self._blocks(found, features):
            torch.argmax(block, -1, out=there)
        return found

    def _blocks(self, found: Tensor, features: Tensor | Streamed) -> Iterator[tuple[Tensor, Tensor]]:
        """Parts (H, b, ...) of found (S, H, n, ...), with the probabilities (H, b, K) of their examples."""
        for s, own in enumerate(found):
            blocks = features[s].split(READ_ROWS) if isinstance(features, Tensor) else features.blocks(s)
            for there, rows in zip(own.split(READ_ROWS, dim=1), blocks, strict=True):
                yield there, self.seed(s)._probabilities(rows[None])[0]

    def _probabilities(self, features: Tensor) -> Tensor:
        S, H, outputs, D = self.weight.shape
        rows = features.reshape(S, -1, D)
        scores = torch.bmm(rows, self.weight.reshape(S, H * outputs, D).transpose(1, 2))
        if self.bias is None:
            return scores.view(S, -1, 2, H).permute(0, 3, 1, 2).softmax(-1)
        return (scores.view(S, -1, H, outputs) + self.bias[:, None]).transpose(1, 2).softmax(-1)


class LinearStudent:
    """The heads in training, bound to the train split's features. Gradients are in closed form.

    Args:
        features: (S, N, D) or (S, N, 2, D), standardised; a seed axis of stride 0 shares one table. Or not in memory:
            then what is needed next is read ahead.
        num_classes: K.
        seeds: S seeds; all heads of a seed start from the same weights.
        heads: H.
    """

    recordable: ClassVar[bool] = True

    def __init__(self, features: Tensor | Streamed, num_classes: int, seeds: tuple[int, ...], heads: int) -> None:
        self.pairs = len(features.shape) == 4
        self.outputs = 1 if self.pairs else num_classes
        self._heads, self._dim = heads, features.shape[-1]
        self._source = InMemory(features) if isinstance(features, Tensor) else ReadAhead(features)
        start = [initial_head(seed, self.outputs, self._dim) for seed in seeds]
        # (S, H*K, D) and (S, H*K, 1): W x^T puts examples last, the layout that both products and the losses like best
        self.weight = torch.stack([w.repeat(heads, 1) for w, _ in start]).to(features.device)
        bias = torch.stack([b.repeat(heads)[:, None] for _, b in start])
        self.bias = None if self.pairs else bias.to(features.device)
        self._rows, self._logits = self.weight, self.weight  # of the last step

    def parameters(self) -> list[Tensor]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def expect(self, minibatches: Tensor) -> None:
        self._source.expect(minibatches)

    def fetch(self) -> None:
        self._source.fetch()

    def logits(self, index: Tensor) -> Tensor:
        """Logits (S, H, B, K) of the train examples `index`: (S, 1, B), one stream for all heads, or (S, H, B)."""
        S, streams, B = index.shape
        self._rows = self._source.rows(index)
        x, weight = self._rows.transpose(1, 2), self.weight.view(S * streams, -1, self._dim)
        if self.bias is None:
            self._logits = torch.bmm(weight, x)
            return self._logits.view(S, self._heads, B, 2)
        self._logits = torch.baddbmm(self.bias.view(S * streams, -1, 1), weight, x)
        return self._logits.view(S, self._heads, self.outputs, B).transpose(2, 3)

    def gradients(self, of_logits: Tensor) -> list[Tensor]:
        """W's is G x, the bias's the sum of G over examples, for the gradient G (S, H, B, K) of the last logits."""
        computed = self._logits  # in the precision of its product, as autograd has it
        slope = (
            (of_logits if self.bias is None else of_logits.transpose(2, 3)).reshape(computed.shape).to(computed.dtype)
        )
        weight = torch.bmm(slope, self._rows.to(computed.dtype)).view_as(self.weight).float()
        return [weight] if self.bias is None else [weight, slope.sum(-1, dtype=torch.float32).view_as(self.bias)]

    def close(self) -> None:
        self._source.close()

    def split(self, widths: list[int]) -> list[Heads]:
        S = self.weight.shape[0]
        weight = self.weight.view(S, self._heads, self.outputs, self._dim).split(widths, dim=1)
        if self.bias is None:
            return [Heads(w, None) for w in weight]
        bias = self.bias.view(S, self._heads, self.outputs).split(widths, dim=1)
        return [Heads(w, b) for w, b in zip(weight, bias, strict=True)]
