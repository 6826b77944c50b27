"""Where a stage of training stands: everything that the next step depends on, to and from a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from benchmark.base.notices import notice
from benchmark.core.adam import Adam
from benchmark.core.method import Method, method_state
from benchmark.core.student import Student
from benchmark.store.checkpoints import Checkpoints

_CONTAINERS = (list, tuple, dict, set, np.ndarray, torch.nn.Module)  # may hold state that changes unseen


@dataclass(frozen=True)
class Progress:
    """The student, its optimizer, and the state of the methods that train it.

    A method's state is what it keeps in attributes other than its options: tensors, optimizers, generators, and plain
    numbers, words and None. One that keeps lists, tuples, dicts, arrays or modules can't be taken up where it stopped:
    nothing is written then, and a killed stage starts anew. Everything else is made again by `start`.
    """

    student: Student
    adam: Adam
    methods: Sequence[Method]
    checkpoints: Checkpoints

    def save(self, epochs: int) -> None:
        """Write the state after so many epochs."""
        if self.checkpoints.path is None or any(map(unresumable, self.methods)):
            return
        tensors = self._own()
        plain: dict[str, Any] = {"epochs": epochs, "methods": {}}
        for method, part in zip(self.methods, part_names(self.methods), strict=True):
            words = plain["methods"][part] = {}
            for key, value in method_state(method).items():
                name = f"method/{part}/{key}"
                if isinstance(value, Tensor):
                    tensors[name] = value
                elif isinstance(value, torch.Generator):
                    tensors[name] = value.get_state()
                elif isinstance(value, Optimizer):
                    tensors |= _moments(name, value)
                elif value is None or isinstance(value, bool | int | float | str):
                    words[key] = value
        tensors = {name: value.clone() for name, value in tensors.items()}  # safetensors refuses shared memory
        self.checkpoints.save(tensors, plain)

    def _own(self) -> dict[str, Tensor]:
        """The student's and the optimizer's tensors, by name."""
        student = {f"student/{i}": p.detach() for i, p in enumerate(self.student.parameters())}
        return student | {f"optimizer/{name}": tensor for name, tensor in self.adam.state().items()}

    def restore(self) -> int:
        """Take up the state that was written last; returns the epochs that are done: none, where an older version of
        this program wrote the student's tensors in other shapes."""
        if (found := self.checkpoints.load()) is None:
            return 0
        tensors, plain = found
        own = self._own()
        shapes = {name: tensor.shape for name, tensor in tensors.items() if not name.startswith("method/")}
        if shapes != {name: tensor.shape for name, tensor in own.items()}:
            notice(
                f"checkpoint {self.checkpoints.path} holds a student's tensors as they once were; training starts anew"
            )
            return 0
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])
        for method, part in zip(self.methods, part_names(self.methods), strict=True):
            for key, value in method_state(method).items():
                name = f"method/{part}/{key}"
                if isinstance(value, torch.Generator):
                    value.set_state(tensors[name])
                elif isinstance(value, Optimizer):
                    _load_moments(name, value, tensors)
            head = f"method/{part}/"
            for name, tensor in tensors.items():
                if name.startswith(head) and "/" not in (key := name.removeprefix(head)):
                    _put(method, key, tensor.to(self.adam.parameters[0].device))
            for key, word in plain["methods"][part].items():
                setattr(method, key, word)
        epochs: int = plain["epochs"]
        return epochs


def unresumable(method: Method) -> list[str]:
    """Its attributes that keep it from being taken up where it stopped."""
    return [name for name, value in method_state(method).items() if isinstance(value, _CONTAINERS)]


def part_names(methods: Sequence[Method]) -> list[str]:
    """What the parts of a checkpoint are called: by the methods' names, numbered from the second of a name on."""
    names = [method.name for method in methods]
    places = [names[: i + 1].count(name) for i, name in enumerate(names)]
    return [name if place == 1 else f"{name}-{place}" for name, place in zip(names, places, strict=True)]


def _put(method: Method, key: str, value: Tensor) -> None:
    """Into the tensor that the method owns, which an optimizer may hold as well; else in its place."""
    own = vars(method).get(key)
    if isinstance(own, torch.Generator):
        return
    if isinstance(own, Tensor) and own.requires_grad and own.shape == value.shape:
        with torch.no_grad():
            own.copy_(value)
    else:
        setattr(method, key, value)


def _moments(head: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's state, named head/parameter/moment."""
    return {
        f"{head}/{i}/{name}": torch.as_tensor(value)
        for i, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
        if value is not None
    }


def _load_moments(head: str, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{head}/"):
            i, key = name.removeprefix(f"{head}/").split("/")
            state.setdefault(int(i), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
