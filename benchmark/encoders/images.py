"""Reading images: as PIL images, resized, in minibatches, on a GPU with processes that read ahead."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from benchmark.base.errors import W2SError
from benchmark.base.process import cores

_MOST_WORKERS = 8


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


def resized(images: NDArray[np.uint8], size: int) -> Tensor:
    """(n, channels, size, size), uint8, of images (n, H, W) or (n, H, W, 3); bilinear and antialiased, on the CPU."""
    x = torch.from_numpy(np.ascontiguousarray(images))
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return interpolate(x, (size, size), mode="bilinear", antialias=True)


def image_batches(
    inputs: Sequence[Any], read: Callable[[Any, int], NDArray[Any]], batches: list[list[int]], device: str
) -> DataLoader[Any]:
    """`read(inputs[i], i)` stacked to tensors, for each batch of positions.

    How many processes read does not change what is read, as long as `read` depends on its arguments only; torch's
    global random state stays as it was.
    """
    return DataLoader(
        _Images(inputs, read),
        batch_sampler=batches,
        num_workers=0 if device == "cpu" else min(_MOST_WORKERS, cores()),  # a CPU has a process a core already
        pin_memory=device != "cpu",
        generator=torch.Generator(),  # else each pass draws a number from the global one
    )


class _Images(Dataset[Any]):
    def __init__(self, inputs: Sequence[Any], read: Callable[[Any, int], NDArray[Any]]) -> None:
        self._inputs, self._read = inputs, read

    def __getitem__(self, i: int) -> NDArray[Any]:
        return self._read(self._inputs[i], i)
