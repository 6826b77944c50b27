"""Precision of the student's matrix products in training: float32, or less for speed on a GPU.

`tf32` rounds the factors to 10 bits of mantissa inside the GPU's matrix units, `bf16` casts them to bfloat16 (7 bits).
Sums, weights, the optimizer and the methods' losses are float32 either way. Results change, so a precision other than
float32 is recorded among the hyperparameters (`w2s run --set precision=tf32`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import get_args

import torch

from benchmark.base.errors import W2SError
from benchmark.core.data import Precision

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def check_precision(precision: str, device: str) -> None:
    """Refuse what is unknown, or what this device would silently not do, and say what to use."""
    if precision not in PRECISIONS:
        raise W2SError(f"option precision={precision}: expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    if precision == "tf32" and device != "cuda":
        raise W2SError(f"option precision=tf32: only a GPU has it, and this run is on {device}; use float32 or bf16")


def forward(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """While the student's logits are computed."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else backward(precision)


def backward(precision: Precision) -> AbstractContextManager[object]:
    """While gradients are computed. (Those of products in bfloat16 are in bfloat16 anyway.)"""
    return _tf32() if precision == "tf32" else nullcontext()


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
