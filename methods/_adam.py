"""Parameters that a method has of its own."""

import torch
from torch import Tensor

from benchmark.api import Method


class LearnsByAdam(Method):
    """A method with a parameter of its own: after each backward pass Adam, without weight decay, steps it."""

    def learned(self, start: Tensor, rate: float) -> Tensor:
        """The parameter, from its start: (R, ...), contiguous, as the moments are that a checkpoint gives back.

        It is stepped in one kernel, which goes by memory, so that a training step with it can be recorded.
        """
        self.adam = torch.optim.Adam([start.requires_grad_()], lr=rate, fused=True, capturable=start.is_cuda)
        return start

    def after_step(self) -> None:
        self.adam.step()
        self.adam.zero_grad()
