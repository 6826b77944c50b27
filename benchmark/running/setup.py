"""What every process needs that works for a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.base.errors import W2SError
from benchmark.base.paths import Settings, cache_root, use
from benchmark.base.versions import project_commit
from benchmark.core.registry import TASKS, load_plugin
from benchmark.core.source import Source
from benchmark.core.suite import Recipes
from benchmark.core.task import ReadyMade, Task
from benchmark.store.cache import Cache


@dataclass(frozen=True)
class Setup:
    """What a worker needs to do any unit of a run."""

    device: str  # `cpu` or `cuda`
    student: Recipes
    options: Mapping[str, Any] = field(default_factory=dict)  # for the tasks (`Task.configured`)
    settings: Settings = field(default_factory=Settings)
    cache_address: str | None = None  # where machines share what is in the cache, if they don't see its folder
    tune: bool = False  # whether the whole grid of each method is trained, and one setting chosen
    replies: int = 0  # of each policy, to write for judging
    plugins: tuple[Path, ...] = ()  # to load first
    source: Source | None = None  # of the task, if it is none of the registered ones
    commit: str = field(default_factory=project_commit)  # of the project where the run was started
    conditions: tuple[str, ...] = ()  # of the run
    movable: bool = False  # whether units that gain nothing from a GPU may be done on processors instead
    copies: Mapping[Path, Path] = field(default_factory=dict)  # where files lie here that this machine does not see

    @property
    def cache(self) -> Cache:
        return Cache(self.settings.cache or cache_root(), self.cache_address)

    def load(self) -> ReadyMade | None:
        """Make the run's settings, plug-ins and task known in this process; gives the task that `source` has."""
        use(self.settings)
        for plugin in self.plugins:
            load_plugin(plugin, self.copies.get(plugin))
        return self.source.register(self.copies) if self.source else None

    def task(self, name: str) -> Task:
        return TASKS[name].configured(self.options)


def choose_device(wanted: str, here: bool = True) -> str:
    """`cpu` or `cuda`, or a refusal; `auto` takes a GPU if there is one. If units don't run `here`, nodes are asked."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise W2SError(f"--device {wanted}: expected auto, cpu or cuda (Apple's mps is untried)")
    if wanted == "cuda" and here and not torch.cuda.is_available():
        raise W2SError("--device cuda: torch finds no CUDA device; use --device cpu, or install a CUDA build of torch")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
