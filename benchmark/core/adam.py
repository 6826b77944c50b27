"""Every student's optimizer: Adam without weight decay, on several tensors in one kernel, and its cosine schedule."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Adam:
    """Kingma and Ba (2015), arXiv:1412.6980, with their constants.

    Results are those of `torch.optim.Adam(fused=True)`, bit by bit; it is that optimizer's kernel. Called directly it
    takes the gradients and the learning rate as arguments, so that a whole step can be recorded, and costs a fraction
    of the optimizer's own Python.

    Attributes:
        averages: of the parameters, if `average`, the decay a, is not 0: v <- a v + (1 - a) w after each step, from the
            parameters that were given (Tarvainen and Valpola 2017, arXiv:1703.01780); else none.
    """

    def __init__(self, parameters: Sequence[Tensor], average: float = 0.0) -> None:
        self.parameters = [parameter.detach() for parameter in parameters]
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]
        self.averages = [p.clone() for p in self.parameters] if average else []
        self._part = 1 - average

    def step(self, gradients: list[Tensor], rate: Any) -> None:
        """Update the parameters in place; `rate` is a number, or a 0-dim float32 tensor where they are."""
        torch._foreach_add_(self.steps, 1)
        torch._fused_adam_(  # private: a test compares it with the optimizer's step
            self.parameters,
            gradients,
            self.means,
            self.squares,
            [],
            self.steps,
            lr=rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
        if self.averages:
            torch._foreach_lerp_(self.averages, self.parameters, self._part)

    def swap_averages(self) -> None:
        """Exchange the parameters and their averages, if there are any."""
        for parameter, average in zip(self.parameters, self.averages, strict=False):
            before = parameter.clone()
            parameter.copy_(average)
            average.copy_(before)

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on, by name."""
        kinds = {"means": self.means, "squares": self.squares, "steps": self.steps, "averages": self.averages}
        return {f"{kind}/{i}": tensor for kind, tensors in kinds.items() for i, tensor in enumerate(tensors)}


def cosine_rates(first: float, steps: int) -> list[float]:
    """The learning rate of each step: half a cosine from `first` towards 0 (Loshchilov and Hutter 2017,
    arXiv:1608.03983), each from the one before, as torch's `CosineAnnealingLR` does, so that rounding is the same."""
    rates = [first]
    for step in range(1, steps):
        falls = (1 + math.cos(math.pi * step / steps)) / (1 + math.cos(math.pi * (step - 1) / steps))
        rates.append(falls * rates[-1])
    return rates
