"""What the student last said of each example: an answer kept from pass to pass, without another look at the pool."""

import torch
from torch import Tensor


def remember(memory: Tensor, index: Tensor, answers: Tensor, momentum: float = 0.0) -> Tensor:
    """Update the rows r_i of `memory` that a minibatch is about: r_i <- momentum r_i + (1 - momentum) a_i.

    The memory is an attribute of the method, made in `start`: zeros, or a copy of the targets that it starts as. It is
    updated in place and never holds a gradient, so a step with it can be recorded and taken up again. An example that
    an epoch leaves out keeps its row.

    Args:
        memory: (R, N, K).
        index: (R, B) positions in the train split, `Batch.index`, each once in a minibatch.
        answers: (R, B, K) what the student says now.
        momentum: in [0, 1); 0 keeps the last answer alone.

    Returns:
        The updated rows, (R, B, K).
    """
    replicas = torch.arange(len(memory), device=memory.device)[:, None]
    rows = torch.lerp(memory[replicas, index], answers.detach(), 1 - momentum)
    memory[replicas, index] = rows
    return rows
