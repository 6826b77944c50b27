"""Reading images: as PIL images, resized, in minibatches, for a GPU with threads that read ahead."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark.base.errors import W2SError
from benchmark.encoders.devices import readers, to_device

_AHEAD = 2  # batches that are read while one is computed


def rgb(item: Any) -> Any:
    """A PIL image in colour, from a PIL image or uint8 (H, W) or (H, W, 3).

    Raises:
        W2SError: it is something else.
    """
    from PIL import Image

    if isinstance(item, Image.Image):
        return item.convert("RGB")
    if isinstance(item, np.ndarray) and item.dtype == np.uint8 and (item.ndim == 2 or item.shape[2:] == (3,)):
        return Image.fromarray(item).convert("RGB")
    found = f"{item.dtype} {item.shape}" if isinstance(item, np.ndarray) else type(item).__name__
    raise W2SError(f"an image is {found}, expected a PIL image or uint8 (H, W) or (H, W, 3)")


def resized(images: NDArray[np.uint8], size: int, device: str = "cpu") -> Tensor:
    """(n, channels, size, size), uint8, of images (n, H, W) or (n, H, W, 3); bilinear and antialiased.

    The same bytes on every device: a GPU gets the images as they are, and does what torch does on a CPU.
    """
    x = to_device(torch.from_numpy(np.ascontiguousarray(images)), device)
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return interpolate(x, (size, size), mode="bilinear", antialias=True) if device == "cpu" else _by_integers(x, size)


def _by_integers(x: Tensor, size: int) -> Tensor:
    """What `interpolate` gives of uint8 images (n, channels, H, W) on a CPU, bit by bit, with any device's integers.

    Torch's kernel for bytes (`UpSampleKernel.cpp`, as Pillow's) resizes rows, then columns, each by weights that are
    whole numbers, and rounds after both; whole numbers don't depend on the order of their sum. On a GPU torch resizes
    floating-point numbers only, and rounds otherwise.
    """
    for axis in (3, 2):
        positions, weights, bits = _taps(x.shape[axis], size)
        total = x.new_full((), 1 << (bits - 1), dtype=torch.int32)
        taps = to_device(torch.from_numpy(np.stack([positions, weights], 1)), str(x.device))
        for at, weight in taps.unbind():
            total = total + x.index_select(axis, at).int() * (weight if axis == 3 else weight[:, None])
        x = (total >> bits).clamp(0, 255).to(torch.uint8)
    return x


def _taps(n: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """Of n pixels in a row those that make up each of `size` new ones (taps, size), their weights (taps, size), and the
    number of bits by which the weights are too large: as many as let the largest be a number of 16 bits."""
    scale = n / size
    reach, centre = max(scale, 1.0), scale * (np.arange(size) + 0.5)
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + reach + 0.5).astype(np.int64), n) - first
    tap = np.arange(count.max())[:, None]
    weights = np.maximum(0, 1 - np.abs((tap + first - centre + 0.5) / reach)) * (tap < count)
    weights /= weights.sum(0)
    bits = 0
    while bits < 22 and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    whole = (weights * (1 << bits) + 0.5).astype(np.int32)
    return np.minimum(first + tap, n - 1).astype(np.int32), whole, bits


def image_batches(
    inputs: Sequence[Any], read: Callable[[Any, int], NDArray[Any]], batches: Sequence[Sequence[int]], device: str
) -> Iterator[Tensor]:
    """`read(inputs[i], i)` stacked to tensors on the CPU, for each batch of positions.

    For a GPU several threads get `inputs[i]` and read, two batches ahead, and the tensors are in pinned memory. That
    does not change what is read, as long as `read` depends on its arguments only. Threads, since decoding and resizing
    with Pillow need no lock of Python's, and nothing is copied between processes.
    """
    if not (threads := readers(device)):
        yield from (_stacked((read(inputs[i], i) for i in batch), len(batch), device) for batch in batches)
        return
    pool, waiting = ThreadPoolExecutor(threads, "read images"), deque[list[Future[NDArray[Any]]]]()
    try:
        for batch in batches:
            waiting.append([pool.submit(lambda i: read(inputs[i], i), i) for i in batch])
            if len(waiting) > _AHEAD:
                ready = waiting.popleft()
                yield _stacked((image.result() for image in ready), len(ready), device)
        for ready in waiting:
            yield _stacked((image.result() for image in ready), len(ready), device)
    finally:
        pool.shutdown(cancel_futures=True)


def _stacked(images: Iterator[NDArray[Any]], n: int, device: str) -> Tensor:
    first = torch.from_numpy(next(images))
    stacked = torch.empty((n, *first.shape), dtype=first.dtype, pin_memory=device != "cpu")
    stacked[0] = first
    for row, image in zip(stacked[1:], images, strict=True):
        row.copy_(torch.from_numpy(image))
    return stacked
