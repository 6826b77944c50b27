"""How many units may train together, by memory."""

import torch

from benchmark.base.process import cores, memory
from benchmark.core.data import Problem

_GPU_SHARE, _CPU_SHARE = 0.4, 0.25  # of the memory


def room(device: str) -> float:
    """Bytes that they may take together."""
    if device == "cuda":
        torch.cuda.empty_cache()  # what training before this left is not in use
        return _GPU_SHARE * torch.cuda.mem_get_info()[0]
    return _CPU_SHARE * memory() / cores()


def training_bytes(problem: Problem) -> int:
    """What training takes for one seed, roughly: its features, soft labels, and as much as these again for each of a
    dozen methods' targets."""
    features = sum(getattr(splits["train"], "nbytes", 0) for splits in problem.features.values())
    return int(features + 5 * problem.soft_labels["train"].nbytes)
