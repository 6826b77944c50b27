"""An eager step, watched for what a recording of it could not do; and a method's state around it."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from benchmark.core.method import Method, Supervision, method_state
from benchmark.core.recording import OTHER_DEVICE, Watching, storage, tensors_in, unrecordable
from benchmark.core.watched import plain

_KEEPS = (Tensor, torch.Generator, Optimizer, Supervision)


class Rehearsal(Watching):
    """While it is entered, every operation of methods on `device` is looked at.

    Attributes:
        reasons: method -> why a recording can't hold what it does, and where it does it; None for what no method's code
            does itself (a backward pass).
        read: storages that were read.
    """

    def __init__(self, device: torch.device, running: Callable[[], Method | None]) -> None:
        super().__init__()
        self.reasons: dict[Method | None, str] = {}
        self.read: set[int] = set()
        self._device, self._running = device.type, running

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        if reason := unrecordable(func, args, kwargs):
            self._refuse(reason)

    def done(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        given = tensors_in((args, kwargs))
        self.read.update(map(storage, given))
        if any(tensor.device.type != self._device for tensor in (*given, *tensors_in(found))):
            self._refuse(OTHER_DEVICE)

    def _refuse(self, reason: str) -> None:
        method = self._running()
        self.reasons.setdefault(method, f"{reason}{_place(method)}")


def _place(method: Method | None) -> str:
    """Where a method's code is at, as ` (loss, line 41)`."""
    frame = sys._getframe(2)
    while method is not None and frame is not None:
        if frame.f_locals.get("self") is method:
            return f" ({frame.f_code.co_name}, line {frame.f_lineno})"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


class State:
    """A method's attributes before a step."""

    def __init__(self, method: Method) -> None:
        self._method, self._found = method, dict(vars(method))
        self._plain = _plain_values(method)
        self._generators = [(g, g.get_state()) for g in vars(method).values() if isinstance(g, torch.Generator)]

    def hidden(self) -> list[str]:
        """Attributes that may hold state where a rehearsal does not see it: lists, dicts, modules, other objects."""
        return [name for name, value in method_state(self._method).items() if not _is_seen(value)]

    def changed(self) -> list[str]:
        """Plain attributes (numbers, words) that have other values now."""
        now = _plain_values(self._method)
        return sorted(n for n in self._plain.keys() | now.keys() if self._plain.get(n, now) != now.get(n, now))

    def rebound(self, read: set[int]) -> dict[str, Tensor]:
        """Attributes that are other memory now, though what they were before was read: name -> the tensor before."""
        now = vars(self._method)
        old = {name: value for name, value in self._found.items() if isinstance(value, Tensor)}
        return {
            name: value
            for name, value in old.items()
            if isinstance(new := now.get(name), Tensor) and storage(new) != storage(value) and storage(value) in read
        }

    def restore(self) -> None:
        """What it was bound to, and where its generators stood; `Rehearsal.undo` knows what was in its tensors."""
        vars(self._method).clear()
        vars(self._method).update(self._found)
        for generator, state in self._generators:
            generator.set_state(state)


def settle(method: Method) -> None:
    """Numbers of a step that a method has kept, as plain ones."""
    for name, value in list(vars(method).items()):
        if (number := plain(value)) is not value:
            setattr(method, name, number)


def _is_seen(value: Any) -> bool:
    if isinstance(value, tuple):
        return not tensors_in(value) and all(map(_is_seen, value))
    return value is None or isinstance(value, bool | int | float | str | torch.device | torch.dtype) or isinstance(value, _KEEPS)


def _plain_values(method: Method) -> dict[str, Any]:
    """Numbers and words by name, those of its optimizers' groups included."""
    found: dict[str, Any] = {}
    for name, value in vars(method).items():
        if isinstance(value, Optimizer):
            groups = [{k: v for k, v in group.items() if k != "params"} for group in value.param_groups]
            found[name] = [repr(groups), len(value.state)]
        elif not isinstance(value, _KEEPS):
            found[name] = plain(value)
    return found
