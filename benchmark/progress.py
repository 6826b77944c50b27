"""Where a stage of training stands: everything that the next step depends on, to and from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmark.checkpoints import Checkpoints
from benchmark.method import Method
from benchmark.student import Student


@dataclass(frozen=True)
class Progress:
    """The student, its optimizer and schedule, and the state of the methods that train it.

    A method's state is what it keeps in attributes: tensors, generators, plain numbers, words and None. What else it
    keeps is made again by `start`.
    """

    student: Student
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    methods: Sequence[Method]
    checkpoints: Checkpoints

    def save(self, epochs: int) -> None:
        """Write the state after so many epochs."""
        if self.checkpoints.path is None:
            return
        tensors: dict[str, Tensor] = {f"student/{i}": p for i, p in enumerate(self.student.parameters())}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{name}": value for name, value in moments.items()}
        plain: dict[str, Any] = {"epochs": epochs, "schedule": self.schedule.state_dict(), "methods": {}}
        for method in self.methods:
            state = vars(method)
            tensors |= {f"method/{method.name}/{k}": v for k, v in state.items() if isinstance(v, Tensor)}
            random = {k: v.get_state() for k, v in state.items() if isinstance(v, torch.Generator)}
            tensors |= {f"generator/{method.name}/{name}": value for name, value in random.items()}
            words = {k: v for k, v in state.items() if v is None or isinstance(v, bool | int | float | str)}
            plain["methods"][method.name] = words
        tensors = {name: value.clone() for name, value in tensors.items()}  # safetensors refuses shared memory
        self.checkpoints.save(tensors, plain)

    def restore(self) -> int:
        """Take up the state that was written last; returns the epochs that are done."""
        if (found := self.checkpoints.load()) is None:
            return 0
        tensors, plain = found
        with torch.no_grad():
            for i, parameter in enumerate(self.student.parameters()):
                parameter.copy_(tensors[f"student/{i}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, position, key = name.split("/")
                state.setdefault(int(position), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.schedule.load_state_dict(plain["schedule"])
        for group, rate in zip(groups, plain["schedule"]["_last_lr"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        for method in self.methods:
            for key, value in vars(method).items():
                if isinstance(value, torch.Generator):
                    value.set_state(tensors[f"generator/{method.name}/{key}"])
            head = f"method/{method.name}/"
            device = self.student.parameters()[0].device
            kept = {name.removeprefix(head): value for name, value in tensors.items() if name.startswith(head)}
            for key, tensor in kept.items():
                setattr(method, key, tensor.to(device))
            for key, word in plain["methods"][method.name].items():
                setattr(method, key, word)
        epochs: int = plain["epochs"]
        return epochs
