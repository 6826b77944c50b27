"""A task with more and more of its supervisors corrupted: what a stress suite runs."""

import copy
from collections.abc import Iterator
from dataclasses import replace

from benchmark.core.corruption import KINDS, TAG, Corruption, base_tags, firsts, levels
from benchmark.core.task import Task


def stress_variants(base: Task) -> Iterator[Task]:
    """A task's stress suite: `stress-<base>` is the task itself, `stress-<base>-<kind>-<count>-<first>` have `count` of
    their supervisors corrupted, from number `first` on; where all are, and another first is no other task, without it.

    They share cached features and soft labels with the base.
    """
    M = len(base.supervisors(0))
    started = copy.copy(base)
    started.name = f"{TAG}-{base.name}"
    started.card = replace(base.card, tags=(*base.card.tags, *base_tags(base.name)), family=base.family)
    yield started
    for kind in KINDS:
        for count in levels(kind, M):
            for first in (several := firsts(kind, count, M)):
                task, made = copy.copy(base), Corruption(kind, count, base.name, first)
                task.name = f"{started.name}-{kind}-{count}{f'-{first + 1}' * (len(several) > 1)}"
                task.corruption = made
                numbers = ", ".join(str(m + 1) for m in made.among(M))
                shift = f"{base.card.shift}; {count} of {M} supervisors ({numbers}): {KINDS[kind]}"
                task.card = replace(base.card, tags=(*base.card.tags, *made.tags), shift=shift, family=base.family)
                yield task
