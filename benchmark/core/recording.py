"""Recordings of a step: the same work again on the same memory, without Python. On a GPU a CUDA graph; a `Tape` is the
same on any device for tests, and fails where a graph would."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS_VALUE = "a value of a tensor is read by Python"
SHAPE_DEPENDS = "a shape depends on values"
RANDOM = "random numbers are drawn in every step"
OTHER_DEVICE = "a tensor is on another device"
_READERS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)


class Recorder(Protocol):
    """Makes recordings."""

    def running(self) -> AbstractContextManager[Any]:
        """Where everything that is to be recorded has to run, before and after, too."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record the work without doing it: nothing on the device has changed then, whether it succeeds or raises.

        What is returned does it, and again at each call.
        """


class CudaGraphs:
    """Recordings as CUDA graphs."""

    def __init__(self, device: torch.device) -> None:
        self._stream = _stream(device)

    def running(self) -> AbstractContextManager[Any]:
        return _on_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        torch.cuda.empty_cache()  # in a capture nothing cached can be given back, nor what earlier recordings had
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        # other threads go on: autograd's, which belongs to the work, and those that read ahead, which don't
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            work()
            graph.capture_end()
        except BaseException:
            with suppress(Exception):  # it says once more that the capture is not valid
                graph.capture_end()
            # and then hasn't told the allocator, which would take the capture for going on, and free nothing for good
            with suppress(Exception):
                device = self._stream.device.index
                torch._C._cuda_endAllocateToPool(device, pool)  # raises if it was told
                torch._C._cuda_releasePool(device, pool)
            raise
        return graph.replay


@cache
def _stream(device: torch.device) -> Any:
    """One for all recordings: the allocator keeps memory apart by stream. By its priority it is none of those that are
    dealt in turn to whoever asks for a stream: a copy of another thread must not get into a capture."""
    return torch.cuda.Stream(device, priority=-1)


class _on_stream:
    """This thread's current stream, which waits for what was there before, and is waited for by what comes after."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._context = stream, torch.cuda.stream(stream)

    def __enter__(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)


class Tape:
    """Recordings as lists of aten's operations, with the very tensors that they read and wrote.

    Playing them runs no Python of the work: what it rebound stays as it is, and its numbers are frozen. What a CUDA
    graph can't hold raises RuntimeError.
    """

    def running(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        log = _Log()
        try:
            with log:
                work()
        finally:
            log.undo()
        return log.play


class _Readers(TorchFunctionMode):
    """Finds what reads a tensor without an operation, where it is on the CPU."""

    def __init__(self, look: Callable[[Any, Any, Any], None]) -> None:
        super().__init__()
        self._look = look

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READERS:
            self._look(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class Watching(TorchDispatchMode):
    """Sees every operation while it is entered, and can undo what they wrote to memory that was there before."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._made: set[int] = set()  # storages
        self._before: dict[int, tuple[Tensor, Tensor]] = {}  # storage -> all of it, and what was in it
        self._readers = _Readers(self.look)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.look(func, args, kwargs)
        for tensor in written(func, args, kwargs):
            if (place := storage(tensor)) not in self._made | self._before.keys():
                whole = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())
                self._before[place] = whole, whole.clone()
        found = func(*args, **kwargs)
        if _makes_memory(func):
            self._made.update(map(storage, tensors_in(found)))
        self.done(func, args, kwargs, found)
        return found

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        self._readers.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self._readers.__exit__(*error)  # type: ignore[no-untyped-call]
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        """At an operation, or one of `_READERS`, before it runs."""

    def done(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        """It has run."""

    def undo(self) -> None:
        for whole, before in self._before.values():
            whole.copy_(before)
        self._before.clear()


class _Log(Watching):
    """A tape while it is recorded, and then."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, Any]] = []

    def look(self, func: Any, args: Any, kwargs: Any) -> None:
        if reason := unrecordable(func, args, kwargs):
            raise RuntimeError(f"{func} is not permitted while a step is recorded: {reason}")

    def done(self, *call: Any) -> None:
        self._calls.append(call)

    def play(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, found in self._calls:
                again = func(*args, **kwargs)
                if _makes_memory(func):
                    for recorded, new in zip(tensors_in(found), tensors_in(again), strict=True):
                        recorded.copy_(new)


def storage(tensor: Tensor) -> int:
    """Which memory it is, while that lives."""
    place: int = tensor.untyped_storage()._cdata
    return place


def tensors_in(items: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    return [leaf for leaf in tree_leaves(items) if isinstance(leaf, Tensor)]


def _makes_memory(func: Any) -> bool:
    return all(value.alias_info is None for value in func._schema.returns) and bool(func._schema.returns)


def written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that an operation writes to; what reads a tensor without one writes to none."""
    found = list[Tensor]()
    if func in _READERS:
        return found
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += tensors_in(args[position] if position < len(args) else kwargs.get(argument.name))
    return found


def unrecordable(func: Any, args: Any, kwargs: Any) -> str | None:
    """Why a recording can't hold an operation, if so. (What it does on another device, `Rehearsal` finds.)"""
    aten = torch.ops.aten
    if func in _READERS:
        return READS_VALUE
    if torch.Tag.data_dependent_output in func.tags or func is aten.is_nonzero.default:
        return READS_VALUE
    if func is aten.index.Tensor or func in (aten.index_put.default, aten.index_put_.default):
        by_mask = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        filled = func is not aten.index.Tensor and args[2].numel() == 1  # then it is `masked_fill`
        return SHAPE_DEPENDS if by_mask and not filled else None
    if torch.Tag.dynamic_output_shape in func.tags and kwargs.get("output_size") is None:
        return SHAPE_DEPENDS
    return RANDOM if torch.Tag.nondeterministic_seeded in func.tags else None
