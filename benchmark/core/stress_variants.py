"""A task with more and more of its supervisors corrupted: what a stress suite runs."""

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
    for made in (None, *(Corruption(kind, count, base.name) for kind in KINDS for count in levels(kind, M))):
        task, tags, shift = copy.copy(base), base_tags(base.name), base.card.shift
        task.name = f"{TAG}-{base.name}"
        if made:
            task.corruption, tags = made, made.tags
            task.name += f"-{made.kind}-{made.count}"
            shift += f"; {made.count} of {M} supervisors: {KINDS[made.kind]}"
        task.card = replace(base.card, tags=(*base.card.tags, *tags), shift=shift, family=base.family)
        yield task
