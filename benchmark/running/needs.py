"""What a unit of a large suite takes: disk, memory and GPU time, estimated from published sizes.

Orders of magnitude, for before anything is here. Operations are counted by the usual rules (2 a parameter
and token forward, 4 forward and back through frozen weights) and divided by 100 TFLOP/s, what one large GPU sustains.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from benchmark.core.data import Recipe
from benchmark.core.method import Method
from benchmark.core.names import CANARIES
from benchmark.core.registry import METHODS
from benchmark.core.scale import Estimable, Work
from benchmark.core.task import Task
from benchmark.running.plan import Unit
from benchmark.running.tuning import trials_of

RATE = 100e12  # floating-point operations a second
BASE = 2e9  # bytes that a process takes before it holds any data to speak of


class Needs(NamedTuple):
    """Estimates for one unit: bytes and hours."""

    disk: float
    memory: float
    gpu_memory: float
    gpu_hours: float

    def __str__(self) -> str:
        disk, memory, gpu = (f"{value / 1e9:.3g} GB" for value in self[:3])
        return f"about {disk} of disk, {memory} of memory, {gpu} of GPU memory, {self.gpu_hours:.2g} GPU hours"


def needs(task: Task, unit: Unit, recipe: Recipe, tune: bool = False) -> Needs | None:
    """Estimates for a unit, or None for a task that does not say how large its data are.

    With `tune` every method trains its grid, one setting after the other.
    """
    if task.scale is None:
        return None
    scale, student = task.scale, _work(task.student, task.scale.length)
    pool = min(scale.pools[unit.condition], task.max_pool or scale.pools[unit.condition])
    train = min(0.7 * pool, task.max_train or pool)
    supervisors = task.supervisors(0)
    replicas = sum(len(seeds) * sum(_heads(name, len(supervisors)) for name in names) for names, seeds in unit.jobs)
    seeds = len({seed for _, own in unit.jobs for seed in own})
    held_out = (0.3 if tune else 0.2) * pool
    operations = seeds * (train + held_out) * student.read
    for names, own in unit.jobs:
        for heads, epochs in (pair for name in names for pair in _trained(name, len(supervisors), recipe, tune)):
            operations += len(own) * heads * (epochs * train * student.train + held_out * student.predict)
    for supervisor in supervisors:
        weak = _work(supervisor.model, scale.length)
        seen = min(scale.source / len(task.card.sources), supervisor.size or scale.source)
        epochs = getattr(supervisor.model, "epochs", 1)
        operations += seeds * (epochs * seen * weak.train + pool * weak.predict)
    together, part = replicas / max(seeds, 1), getattr(task.student, "micro_batch", None)
    in_memory = part or together * recipe.batch_size  # with micro-batches, one replica's part at a time
    gpu = student.weights + together * student.head + in_memory * student.activations
    weights = student.weights + max((_work(s.model, scale.length).weights for s in supervisors), default=0)
    disk = scale.disk + weights + pool * student.stored
    return Needs(disk, BASE + student.weights + pool * student.stored, 1e9 + gpu, operations / RATE / 3600)


class Claim(NamedTuple):
    """What a unit keeps for itself while it runs.

    Attributes:
        memory: bytes.
    """

    cores: int
    gpus: float
    memory: int


def claim(task: Task, unit: Unit, recipe: Recipe, device: str, gpu_size: float | None = None) -> Claim:
    """What to set aside for a unit: as estimated, else (and for any task without a scale) `BASE` of memory.

    Several units share a GPU only where an estimate says that they fit, with half of it to spare.

    Args:
        gpu_size: bytes of a GPU's memory, if known.
    """
    foreseen = needs(task, unit, recipe)
    cores = int(os.environ.get("OMP_NUM_THREADS") or 1)
    gpus = 0.0
    if device == "cuda":
        fit = int(gpu_size / (2 * foreseen.gpu_memory)) if foreseen and gpu_size else 1
        gpus = 1 / max(fit, 1)
    return Claim(cores, gpus, int(foreseen.memory if foreseen else BASE))


def _work(kind: object, length: int) -> Work:
    return kind.work(length) if isinstance(kind, Estimable) else Work()


def _trained(name: str, supervisors: int, recipe: Recipe, tune: bool) -> list[tuple[int, int]]:
    """Replicas a seed and epochs of each trial."""
    recipes = [trial.recipe for trial in trials_of(name, recipe, tune)]
    return [(_heads(name, supervisors), trial.epochs) for trial in recipes]


def _heads(name: str, supervisors: int) -> int:
    """Replicas a seed; a staged method trains at least twice."""
    if name in CANARIES:
        return 1
    method = METHODS[name]
    return (supervisors if method.kind == "single" else 1) * (1 if method.fit is Method.fit else 2)
