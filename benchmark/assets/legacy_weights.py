"""Read weight files of torch's legacy format (before its zip archives) without ever unpickling.

Such a file is a row of pickles (magic number, protocol, system, the state dict, storage keys), then the storages'
raw numbers. The pickles are walked opcode by opcode with `pickletools.genops`, which only parses, by a small
interpreter that knows the opcodes and names that a dict of tensors needs and refuses everything else.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.base.errors import W2SError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *_DTYPES}

_PUSH_ARGUMENT = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# what senseless opcodes, values and sizes make Python and torch raise
_FAULTS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError, struct.error)


@dataclass(frozen=True)
class _Name:
    """A global that a pickle mentions; it is compared, never looked up."""

    path: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    pass


def read_legacy_weights(data: bytes, what: str) -> dict[str, torch.Tensor]:
    """Name -> tensor of a state dict written by `torch.save` in the legacy format.

    Args:
        data: the whole file.
        what: the file's name, for error messages.

    Raises:
        W2SError: not such a file, cut short, or it holds anything but CPU tensors by name.
    """
    try:
        return _read(data)
    except W2SError as error:
        raise W2SError(f"{what}: {error}") from error
    except _FAULTS as error:
        raise W2SError(
            f"{what}: not a weight file of torch's legacy format ({type(error).__name__}: {error})"
        ) from error


def _read(data: bytes) -> dict[str, torch.Tensor]:
    file = io.BytesIO(data)
    if _interpret(file) != _MAGIC or _interpret(file) != _PROTOCOL:
        raise W2SError("not a weight file of torch's legacy format (wrong magic number or protocol)")
    system = _interpret(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True or sys.byteorder != "little":
        raise W2SError("only little-endian files, on little-endian machines, can be read")
    state = _interpret(file)
    keys = _interpret(file)
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in state.items()):
        raise W2SError("expected a dict of tensors by name")
    storages: dict[str, _Storage] = {}
    for tensor in state.values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise W2SError(f"storage {tensor.storage.key} is of two kinds")
    if not isinstance(keys, list) or {*map(type, keys)} - {str} or sorted(keys) != sorted(storages):
        raise W2SError("the storages that follow are not those of the tensors")
    values: dict[str, torch.Tensor] = {}
    for key in keys:
        (size,) = struct.unpack("<q", file.read(8))
        if size != storages[key].size:
            raise W2SError(f"storage {key} holds {size} numbers, expected {storages[key].size}")
        values[key] = _storage(file, storages[key])
    if file.read(1):
        raise W2SError("there is more after the last storage")
    return {name: _tensor(name, t, values[t.storage.key]) for name, t in state.items()}


def _storage(file: io.BytesIO, storage: _Storage) -> torch.Tensor:
    length = storage.size * storage.dtype.itemsize
    raw = file.read(length)
    if len(raw) != length:
        raise W2SError(f"cut short: storage {storage.key} has {len(raw)} of {length} bytes")
    return torch.frombuffer(bytearray(raw), dtype=storage.dtype) if raw else torch.empty(0, dtype=storage.dtype)


def _tensor(name: str, tensor: _Tensor, values: torch.Tensor) -> torch.Tensor:
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if 0 not in tensor.shape and last >= len(values):
        raise W2SError(f"tensor '{name}' {tensor.shape} reaches beyond its storage of {len(values)} numbers")
    return values.as_strided(tensor.shape, tensor.strides, tensor.offset).clone(memory_format=torch.contiguous_format)


def _interpret(file: io.BytesIO) -> Any:
    """The value of the pickle at the file's position, which is left behind it."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        start = max(i for i, item in enumerate(stack) if isinstance(item, _Mark))
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def set_items(pairs: list[Any]) -> None:
        if not all(type(key) in (str, int) for key in pairs[::2]):  # tuples in tuples would exhaust the stack in hash()
            raise W2SError("refused: a dict with keys other than texts and numbers")
        stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def append_items(items: list[Any]) -> None:
        stack[-1].extend(items)

    actions: dict[str, Callable[[Any], None]] = {
        "PROTO": lambda _: None,
        "MARK": lambda _: stack.append(_Mark()),
        "EMPTY_DICT": lambda _: stack.append({}),
        "EMPTY_LIST": lambda _: stack.append([]),
        "TUPLE": lambda _: stack.append(tuple(pop_to_mark())),
        "SETITEM": lambda _: set_items([stack.pop(-2), stack.pop()]),
        "SETITEMS": lambda _: set_items(pop_to_mark()),
        "APPEND": lambda _: append_items([stack.pop()]),
        "APPENDS": lambda _: append_items(pop_to_mark()),
        "BINPUT": lambda slot: memo.__setitem__(slot, stack[-1]),
        "LONG_BINPUT": lambda slot: memo.__setitem__(slot, stack[-1]),
        "BINGET": lambda slot: stack.append(memo[slot]),
        "LONG_BINGET": lambda slot: stack.append(memo[slot]),
        "GLOBAL": lambda path: stack.append(_name(path)),
        "BINPERSID": lambda _: stack.append(_persistent(stack.pop())),
        "REDUCE": lambda _: stack.append(_call(arguments=stack.pop(), name=stack.pop())),
        "BUILD": lambda _: _drop_metadata(stack),
    }
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "STOP":
            (value,) = stack
            return value
        if opcode.name in _PUSH_ARGUMENT:
            stack.append(argument)
        elif opcode.name in _CONSTANTS:
            stack.append(_CONSTANTS[opcode.name])
        elif (count := _TUPLES.get(opcode.name)) is not None:
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif opcode.name in actions:
            actions[opcode.name](argument)
        else:
            raise W2SError(f"refused: pickle opcode {opcode.name} has no place in a file of weights")
    raise W2SError("cut short inside a pickle")


def _name(path: str) -> _Name:
    if path not in _NAMES:
        raise W2SError(
            f"refused: the pickle asks for '{path.replace(' ', '.')}', which has no place in a file of weights"
        )
    return _Name(path)


def _persistent(value: Any) -> _Storage:
    kind, storage_type, key, device, size, view = value
    if kind != "storage" or device != "cpu" or view is not None or not isinstance(key, str):
        raise W2SError("refused: a reference to something else than a whole CPU storage")
    if type(size) is not int or size < 0:
        raise W2SError(f"storage {key} has size {size!r}")
    return _Storage(key, _DTYPES[storage_type.path], size)


def _call(arguments: Any, name: Any) -> Any:
    """What the two functions that a state dict calls would give, as plain data."""
    if name == _Name("collections OrderedDict") and arguments == ():
        return {}
    if name == _Name("torch._utils _rebuild_tensor_v2"):
        storage, offset, shape, strides, _requires_grad, hooks = arguments
        if not isinstance(storage, _Storage) or hooks != {}:
            raise W2SError("refused: a tensor of an unknown kind")
        if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
            raise W2SError(f"a tensor has offset {offset!r}, shape {shape!r}, strides {strides!r}")
        if math.prod(shape) > storage.size:
            raise W2SError(f"a tensor of shape {shape} is larger than its storage of {storage.size} numbers")
        return _Tensor(storage, offset, shape, strides)
    raise W2SError("refused: the pickle calls something else than OrderedDict() or _rebuild_tensor_v2(...)")


def _drop_metadata(stack: list[Any]) -> None:
    """The state of a state dict: its `_metadata`, module versions, which nothing here needs."""
    state = stack.pop()
    if not isinstance(stack[-1], dict) or not isinstance(state, dict) or set(state) != {"_metadata"}:
        raise W2SError("refused: the pickle sets the state of an object")
