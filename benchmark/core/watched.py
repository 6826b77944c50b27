"""Epoch and progress of a recorded step: numbers that note what Python asks of them.

A recorded step is done again without Python, so whatever Python was told of a number that changes from step to step is
frozen in it. `Epoch` and `Share` stand for such numbers in a `Batch`. They note each question with its answer
(`Notes`): while all answers stay the same, the recording does what Python would do. Arithmetic on a `Share` that ends
in a tensor asks nothing, as a `Share` also is a number on the device, which every step is given anew.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Question = Callable[[int, float], Any]  # of the epoch and the progress of a step


class _Note(NamedTuple):
    question: Question
    answer: Any
    owner: Any  # who asked


class Notes:
    """What Python asked while a step ran; `running` tells whose code does."""

    def __init__(self, running: Callable[[], Any]) -> None:
        self._running = running
        self._asked: list[_Note] = []

    def add(self, question: Question, answer: Any) -> None:
        self._asked.append(_Note(question, answer, self._running()))

    def changed(self, epoch: int, progress: float) -> set[Any]:
        """Whoever would be told something else in this step."""
        return {note.owner for note in self._asked if note.question(epoch, progress) != note.answer}


class Watched:
    """A number: `value` in this step, `of(epoch, progress)` in any."""

    def __init__(self, value: Any, of: Question, notes: Notes) -> None:
        self.value, self.of, self._notes = value, of, notes

    def __repr__(self) -> str:
        return repr(_exactly(self))

    def __format__(self, spec: str) -> str:
        return format(_exactly(self), spec)

    def __hash__(self) -> int:
        return hash(_exactly(self))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*_replaced(args, _exactly), **_replaced(kwargs or {}, _exactly))


class Epoch(Watched):
    """An int in everything but `isinstance`. But for comparisons and conversions, each use notes its very value."""


class Share(Watched):
    """A float in everything but `isinstance`, on the host, and by `there` as a 0-dim float64 tensor on the device.

    (float64, as kernels then round it once, as they do a Python number: results keep their bits.)
    """

    def __init__(self, value: float, of: Question, notes: Notes, there: Callable[[], Tensor]) -> None:
        super().__init__(value, of, notes)
        self._there = there

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """On the device, where the function takes a tensor in this place; else with the value, which is noted."""
        kwargs = kwargs or {}
        beside: list[torch.dtype] = []
        _replaced((args, kwargs), lambda x: beside.append(x.dtype) if _is_floating(x) else None)
        # torch takes a number for float32 where no such tensor is beside it; and `lerp` wants the dtype of its ends
        dtype = None if beside and "lerp" not in func.__name__ else (*beside, torch.get_default_dtype())[0]

        def there(x: Any) -> Any:
            if not isinstance(x, Share):
                return _exactly(x)
            return x._there() if dtype is None else x._there().to(dtype)

        try:
            return func(*_replaced(args, there), **_replaced(kwargs, there))
        except TypeError:
            return super().__torch_function__(func, types, args, kwargs)


def plain(item: Any) -> Any:
    """A watched number as it is now, which is not noted; anything else as it is."""
    return item.value if isinstance(item, Watched) else item


def _exactly(item: Any) -> Any:
    """The very value of a watched number, which is noted; anything else as it is."""
    if not isinstance(item, Watched):
        return item
    item._notes.add(item.of, item.value)
    return item.value


def _is_floating(item: Any) -> bool:
    return isinstance(item, Tensor) and item.is_floating_point() and item.dim() > 0


def _replaced(items: Any, change: Callable[[Any], Any]) -> Any:
    """Nested tuples, lists and dicts with every item changed."""
    if isinstance(items, dict):
        return {name: _replaced(item, change) for name, item in items.items()}
    if isinstance(items, list | tuple):
        return tuple(_replaced(item, change) for item in items)
    return change(items)


def _exact(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *others: function(_exactly(self), *map(_exactly, others))


def _conversion(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Watched, *others: Any) -> Any:
        of, answer = self.of, function(self.value, *others)
        self._notes.add(lambda epoch, progress: function(of(epoch, progress), *others), answer)
        return answer

    return method


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def method(self: Watched, other: Any) -> Any:
        if isinstance(other, Tensor):
            return self.__torch_function__(compare, (), (self, other))
        of, number = self.of, _exactly(other)
        answer = compare(self.value, number)
        self._notes.add(lambda epoch, progress: compare(of(epoch, progress), number), answer)
        return answer

    return method


def _arithmetic(function: Callable[[Any, Any], Any]) -> Callable[[Share, Any], Any]:
    """With a number another share, which asks nothing; with a tensor, a tensor."""

    def method(self: Share, other: Any) -> Any:
        if isinstance(other, Tensor):
            if function is operator.truediv:  # torch's own way with a number, whose rounding it is
                return self.__torch_function__(operator.mul, (), (other.reciprocal(), self))
            return self.__torch_function__(function, (), (self, other))
        of, there = self.of, self._there
        if isinstance(other, Share):
            of2, there2 = other.of, other._there
            both = lambda epoch, progress: function(of(epoch, progress), of2(epoch, progress))  # noqa: E731
            return Share(function(self.value, other.value), both, self._notes, lambda: function(there(), there2()))
        number = _exactly(other)
        then = lambda epoch, progress: function(of(epoch, progress), number)  # noqa: E731
        return Share(function(self.value, number), then, self._notes, lambda: function(there(), number))

    return method


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, other: function(other, value)


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Watched, f"__{_name}__", _comparison(getattr(operator, _name)))
_conversions: dict[str, Callable[..., Any]]
_conversions = {"bool": bool, "int": int, "float": float, "round": round, "index": operator.index}
for _name, _function in _conversions.items():
    setattr(Watched, f"__{_name}__", _conversion(_function))
for _name in ("neg", "pos", "abs"):
    setattr(Watched, f"__{_name}__", _exact(getattr(operator, _name)))
for _name in ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod"):
    _function = getattr(operator, _name)
    setattr(Watched, f"__{_name}__", _exact(_function))
    setattr(Watched, f"__r{_name}__", _exact(_reflected(_function)))
    if _name not in ("floordiv", "mod"):
        setattr(Share, f"__{_name}__", _arithmetic(_function))
        setattr(Share, f"__r{_name}__", _arithmetic(_reflected(_function)))
setattr(Share, "__neg__", lambda self: self * -1)  # noqa: B010  # as the others
