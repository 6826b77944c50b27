"""What several families of tasks need."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmark.api import Supervisor, numpy_rng

BROKEN = "one supervisor, chosen by seed, is adversarial"


def connected_groups(*keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """(n,) group ids 0, 1, ...: examples with an equal value in any of the keys (each of length n) are in one group."""
    parent = list(range(len(keys[0])))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for key in keys:
        first: dict[Hashable, int] = {}
        for i, value in enumerate(key):
            a, b = sorted((root(first.setdefault(value, i)), root(i)))
            parent[b] = a
    roots = [root(i) for i in range(len(parent))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def joined(*lines: str | None) -> str | None:
    """What is missing, one line after the other, each once; None when nothing is."""
    return "; ".join(dict.fromkeys(filter(None, lines))) or None


def break_one(supervisors: Sequence[Supervisor], task: str, seed: int) -> list[Supervisor]:
    """The same supervisors, one of them adversarial."""
    chosen = numpy_rng("adversarial", task, seed).integers(len(supervisors))
    return [replace(s, adversarial=True) if i == chosen else s for i, s in enumerate(supervisors)]
