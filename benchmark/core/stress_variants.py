"""A task with more and more of its supervisors corrupted: what a stress suite runs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

from benchmark.core.corruption import KINDS, TAG, Corruption, base_tags, levels
from benchmark.core.task import Task


def stress_variants(base: Task) -> Iterator[Task]:
    """A task's stress suite: `stress-<base>` is the task itself, `stress-<base>-<kind>-<count>` have corruptions.

    They share cached features and soft labels with the base.
    """
    M = len(base.supervisors(0))
    yield _variant(base, base_tags(base.name))
    for kind, what in KINDS.items():
        for count in levels(kind, M):
            corruption = Corruption(kind, count, base.name)
            task = _variant(base, corruption.tags, f"-{kind}-{count}", f"; {count} of {M} supervisors: {what}")
            task.corruption = corruption
            yield task


def _variant(base: Task, tags: tuple[str, ...], suffix: str = "", what: str = "") -> Task:
    task = copy.copy(base)
    task.name = f"{TAG}-{base.name}{suffix}"
    task.card = replace(base.card, tags=(*base.card.tags, *tags), shift=base.card.shift + what)
    return task
