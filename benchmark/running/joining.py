"""Which units of a plan train together: those whose students have the same shapes, settings and sizes of pools.

A matter of scheduling. A replica never sees another one, so joined units give what they give alone, to rounding; what a
step costs depends on the number of operations far more than on the number of replicas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.core.minibatches import in_windows
from benchmark.core.pools import pool_domains
from benchmark.core.problems import train_sizes
from benchmark.core.task import ReadyMade
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup

_ON_PROCESSORS = 8  # units a job
_EXAMPLES = 300_000  # whose features are in memory at a time, of all seeds


@dataclass(frozen=True)
class Joined:
    """Units that train together: one job of an executor."""

    units: tuple[Unit, ...]

    @property
    def label(self) -> str:
        return f"{self.units[0].label} and {len(self.units) - 1} more"


def joined(plan: Sequence[Unit], setup: Setup, workers: int) -> list[Unit | Joined]:
    """The plan's units, joined where they can be, in the order of their first ones.

    At least two jobs a worker, so that none waits long for the last; on processors few units a job, as more gain
    little there, and a kill loses what is in flight; and no more features in memory than a few GB.
    """
    most = max(1, len(plan) // (2 * workers))
    most = min(most, _ON_PROCESSORS) if setup.device == "cpu" else most
    found: list[list[Unit]] = []
    open_groups: dict[Any, tuple[list[Unit], int]] = {}  # with their examples, of all seeds
    for unit in plan:
        own = shape(unit, setup) if most > 1 else None
        if own is None:
            found.append([unit])
            continue
        added = sum(len(t.seeds) * max(sizes) for t, (_, sizes) in zip(unit.trainings, own[-1], strict=True))
        group, examples = open_groups.get(own, ([], 0))
        if not group or len(group) == most or examples + added > _EXAMPLES:
            group, examples = [], 0
            found.append(group)
        group.append(unit)
        open_groups[own] = group, examples + added
    return [group[0] if len(group) == 1 else Joined(tuple(group)) for group in found]


def training_runs(plan: Sequence[Unit], setup: Setup) -> int:
    """How many runs of the training loop a plan makes at least: one for each shape and size."""
    shapes = [shape(unit, setup) for unit in plan]
    return shapes.count(None) + sum(len(sizes) for own in {*shapes} - {None} for _, sizes in own[-1])


def shape(unit: Unit, setup: Setup) -> Any:
    """What units that train together have in common; None for one that trains alone."""
    try:
        task = setup.task(unit.task)
        if task.student.costly or isinstance(task, ReadyMade):
            return None
        examples = sum(len(task.domain(name).labels) for name in pool_domains(task, unit.condition))
        if in_windows(min(examples, task.max_pool or examples)):  # a step is long enough, and dealing takes time
            return None
        sizes = [(t.settings, frozenset(train_sizes(task, unit.condition, t.seeds))) for t in unit.trainings]
        supervisors = len(task.supervisors(unit.trainings[0].seeds[0]))
    except (Exception, SystemExit):  # it fails in its worker, alone
        return None
    student = type(task.student), task.student.fingerprint, task.student.outputs
    return student, task.card.modality, len(task.card.classes), supervisors, tuple(sizes)
