"""What a model in bfloat16 can promise: results that differ by rounding to 8 bits, all of them taken together.

As in `support.rounding`, with u = 2^-8: after n roundings results differ by a share 12 sqrt(n) u of their size. Every
product of a block is rounded, so n is some 14 a block, and the share a third. It holds for the mean square of all
results. Single ones may be much further off: a tiny random model has large weights, and where attention chooses between
two positions by a hair, rounding chooses. So one of 24 examples was off by 0.17 on a GPU while all others agreed within
0.05. Training adds to it, since Adam's first steps go by the sign of a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from support.rounding import assert_trained_alike, rounding
from support.tiny import DEPTH

WIDER = 2**16  # the unit roundoff of bfloat16 in that of float32
ROUNDINGS = 14 * DEPTH  # to bfloat16, that follow on each other in a forward pass


def assert_predictions_alike(found: Tensor, expected: Tensor) -> None:
    """Probabilities (..., 2), compared by their logits."""
    a, b = (torch.logit(p[..., 0].cpu().double()) for p in (found, expected))
    share, allowed = float((a - b).norm() / b.norm()), rounding(ROUNDINGS) * WIDER
    assert share <= allowed, f"logits differ by {share:.2f} of their size, rounding explains {allowed:.2f}"


def assert_weights_alike(found: Sequence[Tensor], expected: Sequence[Tensor], start: Sequence[Tensor]) -> None:
    """After training: further from the start than from each other."""
    assert_trained_alike(found, expected, start, ROUNDINGS * WIDER**2)


@contextmanager
def low_precision() -> Iterator[None]:
    """Networks that are loaded for the CPU have a base in bfloat16, as on a GPU."""
    from benchmark.students.language import network

    load = network._load

    def loaded(*given: Any) -> Any:
        return load(*given).to(torch.bfloat16)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "_load", loaded)
        patch.setattr(network.Network, "_precision", lambda _: torch.autocast("cpu", torch.bfloat16))
        network.forget_networks()
        try:
            yield
        finally:
            network.forget_networks()
