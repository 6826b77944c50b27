"""Where units are done if the user left it open and there is a GPU: there, or on the processors beside it.

By what was measured (docs/gpu.md): a recorded step takes a GPU about as long for one replica as for a hundred, while
processors, each with a unit of its own, win where little is to be computed.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmark.core.pools import pool_domains
from benchmark.core.registry import METHODS
from benchmark.core.task import ReadyMade
from benchmark.running.joining import shape
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup

_LARGE = 2e9  # operations of a step, from which a GPU does it sooner than sixteen processors do one each
_MANY = 8  # units of one shape, which share their steps


class Placement(NamedTuple):
    """The units for each kind of device, and a line that says why."""

    gpu: list[Unit]
    cpu: list[Unit]
    line: str


def placed(plan: Sequence[Unit], setup: Setup) -> Placement:
    """Language students, features that are not made yet, large steps and many units of one shape go to the GPU."""
    groups: dict[Any, list[Unit]] = defaultdict(list)
    for unit in plan:
        own = shape(unit, setup)
        groups[unit if own is None else own].append(unit)
    reasons = {unit: why for group in groups.values() if (why := _why(group, setup)) for unit in group}
    gpu, cpu = [unit for unit in plan if unit in reasons], [unit for unit in plan if unit not in reasons]
    counts = Counter(reasons[unit] for unit in gpu)
    there = ", ".join(f"{count} {why}" for why, count in counts.items())
    line = f"{len(gpu)} units on the GPU{f' ({there})' * bool(there)}, {len(cpu)} on processors (--device auto)"
    return Placement(gpu, cpu, line)


def _why(units: Sequence[Unit], setup: Setup) -> str | None:
    """What speaks for a GPU for units that train together, if anything does."""
    try:
        first, task = units[0], setup.task(units[0].task)
        if task.student.costly:
            return "with language models"
        training = first.trainings[0]
        if isinstance(task, ReadyMade):
            problem = task.problem(first.condition, training.seeds[0], setup.cache)
            M, width = len(problem.supervisors), list(problem.features.values())[-1]["train"].shape[-1]
        else:
            pools = [(setup.task(unit.task), unit.condition) for unit in units]
            domains = [own.domain(name) for own, condition in pools for name in pool_domains(own, condition)]
            M, width = len(task.supervisors(0)), task.student.width(domains, setup.cache, "cpu")
    except (Exception, SystemExit):  # it fails where it is done
        return None
    if width is None:
        return "with features to make"
    compared = [setting for setting in training.settings if not setting.canary]
    kinds = [METHODS[setting.method].kind for setting in compared for _ in setting.trials]
    heads = sum(M if kind == "single" else 1 for kind in kinds)
    seeds = sum(len(own.trainings[0].seeds) for own in units)
    operations = 4 * seeds * heads * len(task.card.classes) * width * setup.student.of(task.name).batch_size
    if operations > _LARGE:
        return "with large steps"
    return "of one shape" if len(units) >= _MANY else None
