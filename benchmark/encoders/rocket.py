"""Random convolutions of time series (ROCKET): a feature map that is not pretrained on anything."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv1d

from benchmark.base.errors import W2SError
from benchmark.base.seeding import numpy_rng

_VERSION = 1
_LENGTHS = (7, 9, 11)
_BATCH = 256  # series


@dataclass(frozen=True)
class Rocket:
    """Of each random convolution its maximum and the share of positive values: 2 x `kernels` numbers.

    Kernels are drawn as by Dempster, Petitjean & Webb 2020 (arXiv:1910.13051): length 7, 9 or 11, normal weights less
    their mean, bias uniform in -1..1, dilation 2^u of a uniform u up to the series' length, padding or none, and over
    a random choice of 2^u channels. Each channel of each series is standardised first. They are drawn once, from
    `Rocket` and the shape of the series, and are the same for everybody.
    """

    kernels: int = 300
    name: str = "rocket"
    outputs: tuple[str, ...] = ("half", "full")  # of half as many kernels, and of all

    @property
    def fingerprint(self) -> str:
        return f"rocket-{_VERSION}-{self.kernels}"

    @property
    def requires(self) -> dict[str, str]:
        return {}

    def encode(self, inputs: NDArray[np.floating], device: str = "cpu") -> dict[str, NDArray[np.float32]]:
        """Features (n, kernels) `half` and (n, 2 kernels) `full` of series (n, time, channels), time at least 11.

        Raises:
            W2SError: they are no such array.
        """
        if not isinstance(inputs, np.ndarray) or inputs.ndim != 3 or inputs.shape[1] < max(_LENGTHS):
            found = getattr(inputs, "shape", type(inputs).__name__)
            raise W2SError(f"encoder 'rocket': inputs are {found}, expected (n, time >= {max(_LENGTHS)}, channels)")
        x = torch.from_numpy(inputs.astype(np.float32))
        x = (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True).clamp_min(1e-6)
        columns = torch.empty(len(x), 2 * self.kernels)
        kernels = [kernel.to(device) for kernel in _draw(self.kernels, *inputs.shape[1:])]
        with torch.inference_mode():
            for start in range(0, len(x), _BATCH):
                part = x[start : start + _BATCH].transpose(1, 2).contiguous().to(device)
                features = torch.stack([value for kernel in kernels for value in kernel.features(part)], 1)
                columns[start : start + len(part)] = features.cpu()
        full = columns.numpy()
        return {"half": full[:, : self.kernels].copy(), "full": full}


@dataclass(frozen=True)
class _Kernel:
    channels: Tensor  # (c,) which it reads
    weights: Tensor  # (1, c, length)
    bias: float
    dilation: int
    padding: int

    def to(self, device: str) -> "_Kernel":
        return _Kernel(self.channels.to(device), self.weights.to(device), self.bias, self.dilation, self.padding)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maximum and share of positive values (n,) of series (n, channels, time)."""
        y = conv1d(x[:, self.channels], self.weights, padding=self.padding, dilation=self.dilation)[:, 0] + self.bias
        return y.amax(1), (y > 0).float().mean(1)


def _draw(count: int, time: int, channels: int) -> list[_Kernel]:
    rng = numpy_rng("rocket", _VERSION, time, channels)
    found = []
    for _ in range(count):
        length = int(rng.choice(_LENGTHS))
        read = rng.choice(channels, int(2 ** rng.uniform(0, np.log2(channels + 1))), replace=False)
        weights = rng.normal(size=(len(read), length))
        weights -= weights.mean(1, keepdims=True)
        dilation = int(2 ** rng.uniform(0, np.log2((time - 1) / (length - 1))))
        padding = (length - 1) * dilation // 2 if rng.integers(2) else 0
        tensors = torch.from_numpy(read), torch.from_numpy(weights.astype(np.float32))[None]
        found.append(_Kernel(*tensors, float(rng.uniform(-1, 1)), dilation, padding))
    return found
