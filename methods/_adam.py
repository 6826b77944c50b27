"""The optimizer of parameters that a method has of its own."""

import torch
from torch import Tensor


def own_adam(parameter: Tensor, rate: float) -> torch.optim.Adam:
    """Adam without weight decay that steps in one kernel, so that a training step with it can be recorded.

    The parameter must be contiguous, as the moments are that a checkpoint gives back: the kernel goes by memory.
    """
    return torch.optim.Adam([parameter], lr=rate, fused=True, capturable=parameter.is_cuda)
