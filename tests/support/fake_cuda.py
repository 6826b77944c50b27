"""A CUDA device for tests on machines without one: tensors there have a shape, a dtype and a device, but no numbers.

`with fake_cuda() as cuda:` makes what runs in it fail where it would fail on a GPU, or would make it wait for the host:
tensors of two devices in one operation, a value read by Python (`.item()`, `if tensor`), `.numpy()` of what is not on
the CPU. Tensors that are made inside have no numbers on the CPU either; arrays of NumPy do. Forward passes of frozen
networks work; autograd needs torch's ordinary build.

Wrong numbers are not found. For those run the same code on the device "cpu:0", which is not called "cpu" and so goes
the GPU's way: with `PinnedMemory()` where that pins, and `HostReads()`, as libraries leave out some of their questions
when tensors have no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from benchmark.core.recording import READS_VALUE, SHAPE_DEPENDS, unrecordable


@dataclass
class Cuda:
    """What went to the device and came back, in order; a copy from unpinned memory makes the host wait."""

    to_device: list[tuple[tuple[int, ...], torch.dtype]] = field(default_factory=list)
    to_host: list[tuple[tuple[int, ...], torch.dtype]] = field(default_factory=list)
    unpinned: int = 0

    def forget(self) -> None:
        """What was copied so far: weights."""
        self.to_device.clear()
        self.to_host.clear()
        self.unpinned = 0


@contextmanager
def fake_cuda() -> Iterator[Cuda]:
    """See above. Modules that were loaded inside hold such tensors: forget them afterwards."""
    cuda = Cuda()
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", return_value=True))
        stack.enter_context(mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False))
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _apply))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_Copies(cuda))
        stack.enter_context(_Methods())
        stack.enter_context(PinnedMemory(cuda))
        yield cuda


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """What `nn.Module.to` does; torch's own can't exchange the numbers of a fake parameter."""
    for child in module.children() if recurse else ():
        child._apply(change)
    with torch.no_grad():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = _like(value, change(value))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = change(buffer)
    return module


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    return nn.Parameter(value, parameter.requires_grad) if isinstance(parameter, nn.Parameter) else value


class _Copies(TorchDispatchMode):
    def __init__(self, cuda: Cuda) -> None:
        super().__init__()
        self._cuda = cuda

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket is torch.ops.aten.to:  # as it comes in inference mode
            with self:
                return func.decompose(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        read = args[1:] if func is torch.ops.aten.copy_.default else args
        kinds = {x.device.type for x in tree_leaves((read, kwargs)) if isinstance(x, Tensor)}
        if isinstance(out, Tensor) and (*kinds, out.device.type) in (("cpu", "cuda"), ("cuda", "cpu")):
            copies = self._cuda.to_device if out.device.type == "cuda" else self._cuda.to_host
            copies.append((tuple(out.shape), out.dtype))
        return out


class PinnedMemory(TorchFunctionMode):
    """Pinned memory, which torch's CPU build refuses to give: ordinary memory that says it is pinned."""

    def __init__(self, cuda: Cuda | None = None) -> None:
        super().__init__()
        self._cuda, self._pinned = cuda or Cuda(), WeakIdKeyDictionary()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tuple(map(_numbered, args)), {name: _numbered(value) for name, value in (kwargs or {}).items()}
        if func is Tensor.is_pinned:
            return args[0] in self._pinned
        if func is Tensor.pin_memory:
            if args[0].device.type != "cpu":
                raise RuntimeError(f"cannot pin '{args[0].type()}': only dense CPU tensors can be pinned")
            return self._noted(args[0].clone())
        if func is Tensor.numpy and isinstance(args[0], FakeTensor):
            if args[0].device.type != "cpu":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            return np.zeros(args[0].shape, str(args[0].dtype).removeprefix("torch."))
        pin = kwargs.pop("pin_memory", False)
        out = func(*args, **kwargs)
        if func in (Tensor.to, Tensor.cuda) and out.device.type != args[0].device.type == "cpu":
            self._cuda.unpinned += args[0] not in self._pinned
        return self._noted(out) if pin else out

    def _noted(self, x: Tensor) -> Tensor:
        self._pinned[x] = True
        return x


class HostReads(TorchDispatchMode):
    """Counts operations, on whatever device, for which Python would wait on a GPU: values that it reads, and shapes
    that depend on values."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += unrecordable(func, args, kwargs or {}) in (READS_VALUE, SHAPE_DEPENDS)
        return func(*args, **(kwargs or {}))


def _numbered(value: Any) -> Any:
    """Torch's CPU build can't say which device "cuda" is."""
    return torch.device("cuda", 0) if isinstance(value, str | torch.device) and str(value) == "cuda" else value


class _Methods(TorchFunctionMode):
    """Methods that ask for the CUDA library, which isn't there, or for numbers, by operations that don't."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and isinstance(args[0], FakeTensor):
            return args[1].setdefault(id(args[0]), _like(args[0], args[0].detach().clone()))
        if func in (Tensor.contiguous, Tensor.copy_):
            return getattr(torch.ops.aten, func.__name__)(*args, **(kwargs or {}))
        if func not in (Tensor.__getitem__, Tensor.__setitem__) or args[0].device.type != "cuda":
            return func(*args, **(kwargs or {}))
        x, index = args[0], args[1] if isinstance(args[1], tuple) else (args[1],)
        if ellipses := [at for at, i in enumerate(index) if i is Ellipsis]:
            rest = x.ndim + 1 + sum(i is None for i in index) - len(index)
            index = (*index[: ellipses[0]], *[slice(None)] * rest, *index[ellipses[0] + 1 :])
        axis, tensors = 0, []
        for i in index:
            if isinstance(i, int):
                x = x.select(axis, i)
                continue
            if i is None:
                x = x.unsqueeze(axis)
            elif isinstance(i, slice):
                x = torch.ops.aten.slice(x, axis, i.start, i.stop, i.step or 1)
            own = None if isinstance(i, slice | type(None)) else i
            tensors.append(own if own is None or isinstance(own, Tensor) else torch.tensor(own))
            axis += 1
        picks = any(i is not None for i in tensors)
        if func is Tensor.__getitem__:
            if any(i is not None and i.dtype == torch.bool for i in tensors):
                raise RuntimeError("an index is a mask: the host waits for the shape of what it picks")
            return torch.ops.aten.index(x, tensors) if picks else x
        value = args[2] if isinstance(args[2], Tensor) else torch.full((), args[2], dtype=x.dtype, device=x.device)
        return torch.ops.aten.index_put_(x, tensors, value) if picks else torch.ops.aten.copy_(x, value)
