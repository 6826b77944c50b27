"""What several families of tasks need."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmark.api import Supervisor, Task


def text_hash(text: str) -> str:
    """64 hex digits, by which what is chosen of some texts depends on nothing but themselves."""
    return hashlib.sha256(text.encode()).hexdigest()


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


class Breakable(Task):
    """A task with sisters of which one supervisor is broken; its `supervisors` go through `break_one`."""

    broken: int | None = None  # position of the broken supervisor

    def break_one(self, supervisors: Sequence[Supervisor]) -> list[Supervisor]:
        """The same supervisors, the broken one adversarial."""
        return [replace(s, adversarial=True) if i == self.broken else s for i, s in enumerate(supervisors)]


def broken_sisters(base: Breakable) -> Iterator[Breakable]:
    """`<base>-broken-1`, `-broken-2`, ...: one for each supervisor, which is adversarial in every seed.

    Their tag `base=<base>` says that they are one block, over which the broken supervisor goes round.
    """
    for m in range(len(base.supervisors(0))):
        task = copy.copy(base)
        task.name, task.broken = f"{base.name}-broken-{m + 1}", m
        shift = f"{base.card.shift}; supervisor {m + 1} is adversarial"
        task.card = replace(base.card, tags=("broken", f"base={base.name}"), shift=shift)
        yield task
