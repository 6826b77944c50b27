"""An eager step, watched for what a recording of it could not do; and a method's state around it."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from benchmark.core.guard import Wrote
from benchmark.core.method import Method, Supervision, method_state
from benchmark.core.recording import OTHER_DEVICE, Watching, storage, tensors_in, unrecordable, written
from benchmark.core.watched import Question, Watched, plain

_KEEPS = Tensor | torch.Generator | Optimizer | Supervision
_GRADIENT = ".grad"
_PLAIN = bool | int | float | str | torch.device | torch.dtype | None


class Rehearsal(Watching):
    """While it is entered, every operation of methods on `device` is looked at. One that writes into memory that is
    `lent` (its storage -> what it is) raises `Wrote`.

    Attributes:
        reasons: method -> why a recording can't hold what it does, and where it does it; None for what no method's code
            does itself (a backward pass).
    """

    def __init__(
        self, device: torch.device, running: Callable[[], Method | None], lent: Callable[[], Mapping[int, str]] = dict
    ) -> None:
        super().__init__()
        self.reasons: dict[Method | None, str] = {}
        self._device, self._running, self._lent = device.type, running, lent

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        targets = {storage(tensor) for tensor in written(func, args, kwargs)}
        shared = [name for place, name in self._lent().items() if place in targets] if targets else []
        if shared and (method := self._running()):
            raise Wrote(method.name, shared)
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
        self._tensors, self._outline = _tensors(method), _outline(method)
        optimizers = [value for value in vars(method).values() if isinstance(value, Optimizer)]
        self._moments = [(o, {p: dict(own) for p, own in o.state.items()}) for o in optimizers]
        parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        leaves = [t for t in (*parameters, *self._tensors.values()) if t.is_leaf]
        self._gradients = [(leaf, leaf.grad) for leaf in leaves]
        given = [v.generators if isinstance(v, Supervision) else v for v in vars(method).values()]
        self._generators = [(g, g.get_state()) for g in tree_leaves(given) if isinstance(g, torch.Generator)]

    def hidden(self) -> list[str]:
        """Attributes that may hold state where a rehearsal does not see it: lists, dicts, modules, other objects."""
        return [name for name, value in method_state(self._method).items() if not _is_seen(value)]

    def changed(self) -> list[str]:
        """Attributes that came or went, hold another number or word, or a tensor of another shape or type; and those
        that are other memory now, after having shared it with another attribute."""
        now = _outline(self._method)
        found = {name for name in self._outline.keys() | now.keys() if self._outline.get(name) != now.get(name)}
        users = Counter(map(storage, self._tensors.values()))
        return sorted(found | {name for name, (old, _) in self.rebound().items() if users[storage(old)] > 1})

    def rebound(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Tensors that are other memory now: attribute -> what it was before, and is now."""
        now = _tensors(self._method)
        both = {name: (old, now[name]) for name, old in self._tensors.items() if name in now}
        return {name: (old, new) for name, (old, new) in both.items() if storage(old) != storage(new)}

    def movable(self) -> bool:
        """Whether nothing has changed but values and, of tensors without gradients, the memory, which no two share:
        then all is as if it had been written to the memory before, once it is `put_back` there."""
        rebound, users = self.rebound().values(), Counter(map(storage, _tensors(self._method).values()))
        apart = all(users[storage(new)] == 1 and 0 not in old.stride() for old, new in rebound)
        return apart and not any(old.requires_grad for old, _ in rebound) and not self.changed()

    @torch.no_grad()
    def put_back(self) -> None:
        """The values of what was `rebound` into the memory where it was before."""
        values = [(name, old, new.clone()) for name, (old, new) in self.rebound().items()]
        for name, old, new in values:
            old.copy_(new)
            if name.endswith(_GRADIENT):
                getattr(self._method, name.removesuffix(_GRADIENT)).grad = old
            else:
                setattr(self._method, name, old)

    def restore(self) -> None:
        """What it was bound to, and where its generators stood; `Rehearsal.undo` knows what was in its tensors."""
        vars(self._method).clear()
        vars(self._method).update(self._found)
        for leaf, gradient in self._gradients:
            leaf.grad = gradient
        for optimizer, moments in self._moments:
            optimizer.state.clear()
            optimizer.state.update(moments)
        for generator, state in self._generators:
            generator.set_state(state)


def settle(method: Method) -> dict[str, Question]:
    """Numbers of a step that a method has kept, as plain ones; and what they are in any step, by attribute."""
    kept = {name: value for name, value in vars(method).items() if isinstance(value, Watched)}
    vars(method).update({name: plain(value) for name, value in kept.items()})
    return {name: value.of for name, value in kept.items()}


def _tensors(method: Method) -> dict[str, Tensor]:
    """Its attributes that are tensors, and these tensors' gradients."""
    found = {}
    for name, value in vars(method).items():
        if isinstance(value, Tensor) and value.layout == torch.strided:
            found[name] = value
            if value.is_leaf and value.grad is not None:
                found[name + _GRADIENT] = value.grad
    return found


def _is_seen(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.layout == torch.strided
    nested = type(value) is tuple and not tensors_in(value) and all(map(_is_seen, value))
    return nested or isinstance(value, _PLAIN | _KEEPS)


def _outline(method: Method) -> dict[str, Any]:
    """What decides, by attribute, which way a method's code goes: numbers and words, and of tensors all but values."""
    found: dict[str, Any] = {}
    for name, value in vars(method).items():
        if isinstance(value, Tensor):
            found[name] = value.shape, value.dtype, value.requires_grad, value.is_leaf and value.grad is not None
            if value.layout == torch.strided:  # another view of the same memory
                found[name] += value.stride(), value.storage_offset()
        elif isinstance(value, Optimizer):  # its rate and the like, counters, and where moments are
            groups = [{option: x for option, x in group.items() if option != "params"} for group in value.param_groups]
            own = {key: x for key, x in vars(value).items() if isinstance(x, _PLAIN)}
            moments = [storage(x) if isinstance(x, Tensor) else x for x in tree_leaves(list(value.state.values()))]
            found[name] = repr(groups), own, moments
        else:
            found[name] = value if _is_seen(value := plain(value)) else type(value)
    return found
