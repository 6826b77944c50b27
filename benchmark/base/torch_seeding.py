"""Generators of torch, seeded as `seeding` says; apart from it, since whatever only reads results needs no torch."""

import torch

from benchmark.base.seeding import derive


def torch_rng(*parts: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator seeded with `derive(*parts)`."""
    return torch.Generator(device=device).manual_seed(derive(*parts))
