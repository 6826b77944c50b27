"""Dawid and Skene's EM, remembered: crowd-kit takes a tenth of a second, and tests of all methods ask for the same."""

from __future__ import annotations

import pytest
from torch import Tensor

from methods.dawid_skene import DawidSkene

_compute, _known = DawidSkene._posterior, {}


def _remembered(method: DawidSkene, votes: Tensor, num_classes: int) -> Tensor:
    key = method.iterations, method.tolerance, num_classes, votes.shape, votes.numpy().tobytes()
    if key not in _known:
        _known[key] = _compute(method, votes, num_classes)
    return _known[key].clone()


@pytest.fixture(autouse=True)
def remembered_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import this where every method is tried; that EM gives the same each time is tested by its formula."""
    monkeypatch.setattr(DawidSkene, "_posterior", _remembered)
