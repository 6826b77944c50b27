"""Low-rank adapters and heads of R replicas on one frozen model, all in one pass.

A batch holds the rows of the first replica, then those of the second, and so on. The frozen layers see one large batch;
an adapted layer multiplies each replica's rows with its own weights, by `torch.bmm`. So a pass has as many operations
as that of one replica. Weights are float32 tensors whose leading dimension is the replicas; they are not parameters of
the modules, but lent to them for a pass (`Network.having`).
"""

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.students.linear import initial_head

_HEADS = ("classifier", "score")  # what the library calls the head of a sequence classifier


class ReplicaLinear(nn.Module):
    """x W^T + scale (x A^T) B^T with a frozen layer W and each replica's own A: (R, r, in) and B: (R, out, r)."""

    names = ("down", "up")  # A and B
    weights: tuple[Tensor, ...]

    def __init__(self, base: Any, rank: int, alpha: int) -> None:
        super().__init__()
        outputs, inputs = base.weight.shape if isinstance(base, nn.Linear) else base.weight.T.shape
        self.base, self.scale = base, alpha / rank
        self.shapes = ((rank, inputs), (outputs, rank))

    def fresh(self, seed: int, rng: torch.Generator) -> list[Tensor]:
        """One replica's first A and B, as published: A uniform, B zero."""
        bound = 1 / math.sqrt(self.shapes[0][1])
        return [torch.empty(self.shapes[0]).uniform_(-bound, bound, generator=rng), torch.zeros(self.shapes[1])]

    @property
    def weight(self) -> Tensor:
        """The frozen layer's, which some models look at."""
        return self.base.weight  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(R * n, ..., in) to (R * n, ..., out)."""
        down, up = self.weights
        rows = x.reshape(len(down), -1, x.shape[-1])
        low = torch.bmm(rows, down.mT.to(x.dtype))
        change = self.scale * torch.bmm(low, up.mT.to(x.dtype))
        return self.base(x) + change.view(*x.shape[:-1], -1)  # type: ignore[no-any-return]


class ReplicaHead(nn.Module):
    """x W^T + b with each replica's own W: (R, K, D) and, where the model's layer has one, b: (R, K)."""

    weights: tuple[Tensor, ...]

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.names = ("weight",) if base.bias is None else ("weight", "bias")
        self.shapes = (tuple(base.weight.shape), (base.out_features,))[: len(self.names)]

    def fresh(self, seed: int, rng: torch.Generator) -> list[Tensor]:
        """One replica's first weight, by the seed only, and bias, zero."""
        return [initial_head(seed, *self.shapes[0])[0], *(torch.zeros(shape) for shape in self.shapes[1:])]

    def forward(self, x: Tensor) -> Tensor:
        """(R * n, ..., D) to (R * n, ..., K)."""
        weight, *bias = self.weights
        rows, own = x.reshape(len(weight), -1, x.shape[-1]), weight.mT.to(x.dtype)
        made = torch.baddbmm(bias[0][:, None].to(x.dtype), rows, own) if bias else torch.bmm(rows, own)
        return made.view(*x.shape[:-1], -1)


Adapted = dict[str, ReplicaLinear | ReplicaHead]  # path in the model -> what stands there


def adapt(model: Any, policy: bool, blocks: range | None, rank: int, alpha: int) -> Adapted:
    """Put places for replicas' weights into a frozen model, and return them in the model's order.

    Adapters stand at every linear layer of these blocks (None: of the whole model), as peft's LoRA with all linear
    layers as targets. A policy has one at its output layer besides; other models' heads are trained whole.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's name for a linear layer

    linear = (nn.Linear, Conv1D)
    inside = [path for path, module in model.base_model.named_modules() if isinstance(module, linear)]
    targets = {path.rpartition(".")[2] for path in inside}
    heads = [] if policy else [path for path, _ in model.named_modules() if path.endswith(_HEADS)]
    output, places = model.get_output_embeddings(), Adapted()
    for path, module in model.named_modules():
        if not isinstance(module, linear):
            continue
        block = re.match(r".*?\.[^.]*\.(\d+)\.", path)
        trained = blocks is None or (block is not None and int(block[1]) in blocks)
        if any(path == head or path.startswith(f"{head}.") for head in heads):
            places[path] = ReplicaHead(module)
        elif (policy and module is output) or (trained and path.rpartition(".")[2] in targets):
            places[path] = ReplicaLinear(module, rank, alpha)
    for path, place in places.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, place)
    return places
