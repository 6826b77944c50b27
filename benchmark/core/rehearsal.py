"""An eager step, watched for what a recording of it could not do; and a method's state around it."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from benchmark.core.method import Method, Supervision, method_state
from benchmark.core.recording import OTHER_DEVICE, Watching, storage, tensors_in, unrecordable
from benchmark.core.watched import plain

_KEEPS = Tensor | torch.Generator | Optimizer | Supervision
_PLAIN = bool | int | float | str | torch.device | torch.dtype | None


class Rehearsal(Watching):
    """While it is entered, every operation of methods on `device` is looked at.

    Attributes:
        reasons: method -> why a recording can't hold what it does, and where it does it; None for what no method's code
            does itself (a backward pass).
    """

    def __init__(self, device: torch.device, running: Callable[[], Method | None]) -> None:
        super().__init__()
        self.reasons: dict[Method | None, str] = {}
        self._device, self._running = device.type, running

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        if reason := unrecordable(func, args, kwargs):
            self._refuse(reason)

    def done(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        if any(tensor.device.type != self._device for tensor in tensors_in((args, kwargs, found))):
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
        self._outline = _outline(method)
        self._generators = [(g, g.get_state()) for g in vars(method).values() if isinstance(g, torch.Generator)]

    def hidden(self) -> list[str]:
        """Attributes that may hold state where a rehearsal does not see it: lists, dicts, modules, other objects."""
        return [name for name, value in method_state(self._method).items() if not _is_seen(value)]

    def changed(self) -> list[str]:
        """Attributes that came or went, hold another number or word, or a tensor of another shape or type; and those
        that are other memory now, after having shared it with another attribute."""
        now = _outline(self._method)
        found = {name for name in self._outline.keys() | now.keys() if self._outline.get(name) != now.get(name)}
        users = Counter(storage(value) for value in self._found.values() if isinstance(value, Tensor))
        return sorted(found | {name for name, old in self.rebound().items() if users[storage(old)] > 1})

    def rebound(self) -> dict[str, Tensor]:
        """Tensors that are other memory now: attribute -> what it was before."""
        now, before = (
            {n: v for n, v in own.items() if isinstance(v, Tensor)} for own in (vars(self._method), self._found)
        )
        return {name: old for name, old in before.items() if name in now and storage(old) != storage(now[name])}

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
    nested = type(value) is tuple and not tensors_in(value) and all(map(_is_seen, value))
    return nested or isinstance(value, _PLAIN | _KEEPS)


def _outline(method: Method) -> dict[str, Any]:
    """What decides, by attribute, which way a method's code goes: numbers and words, and of tensors all but values."""
    found: dict[str, Any] = {}
    for name, value in vars(method).items():
        if isinstance(value, Tensor):
            found[name] = value.shape, value.dtype, value.requires_grad
        elif isinstance(value, Optimizer):  # options such as its rate, and whether moments are there
            groups = [{option: x for option, x in group.items() if option != "params"} for group in value.param_groups]
            found[name] = repr(groups), len(value.state)
        else:
            found[name] = value if _is_seen(value := plain(value)) else type(value)
    return found
