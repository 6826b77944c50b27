"""Weak model of images: a small convolutional network on images of 32 px."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import cross_entropy, max_pool2d, max_unpool2d

from benchmark.encoders.images import resized
from benchmark.supervisors.fitted import Fitted


@dataclass(frozen=True)
class SmallCNN:
    """Three convolutions of 8, 16 and 32 channels, each halving the image, and a linear layer; trained on the CPU.

    Images are shrunk to `size` px; classes are weighed inversely to their frequency.
    """

    size: int = 32
    epochs: int = 30
    batch: int = 32
    lr: float = 1e-3
    name: ClassVar[str] = "benchmark.supervisors.cnn.SmallCNN"
    version: ClassVar[int] = 1

    def prepare(self, inputs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Shrunk images, which may be given in the place of the images themselves."""
        small = resized(inputs, self.size).numpy()
        return np.ascontiguousarray(small[:, 0] if inputs.ndim == 3 else small.transpose(0, 2, 3, 1))

    def fit(self, inputs: NDArray[np.uint8], labels: NDArray[np.int64], num_classes: int, seed: int) -> Fitted:
        """Train on uint8 images (n, H, W) or (n, H, W, 3) and class ids (n,).

        The seed decides the initial weights and the order; torch's global random state stays as it was.
        """
        x, y = resized(inputs, self.size).float() / 255, torch.from_numpy(np.asarray(labels, dtype=np.int64))
        mean, std = x.mean(), x.std().clamp_min(1e-6)
        x = (x - mean) / std
        counts = torch.bincount(y, minlength=num_classes)
        weight = len(y) / (counts.clamp_min(1) * (counts > 0).sum())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for into, out in pairwise((x.shape[1], 8, 16, 32)):
                convolution = nn.Conv2d(into, out, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(out), _Pool(), nn.ReLU()]
            network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * (self.size // 8) ** 2, num_classes))
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr, foreach=True)
        with torch.enable_grad():
            for _ in range(self.epochs):
                for rows in torch.randperm(len(x), generator=generator).split(self.batch):
                    optimizer.zero_grad()
                    cross_entropy(network(x[rows]), y[rows], weight=weight).backward()
                    optimizer.step()
        network.eval()

        def predict_proba(images: NDArray[np.uint8]) -> NDArray[np.float64]:
            given = (resized(images, self.size).float() / 255 - mean) / std
            with torch.inference_mode():
                logits = torch.cat([network(part) for part in given.split(256)])
            return logits.double().softmax(-1).numpy()

        return Fitted(predict_proba)


class _Pool(nn.Module):
    """`nn.MaxPool2d(2)`, bit for bit, in less than half of the time: torch's kernel is quick on one memory layout only,
    in which the other layers would round differently."""

    def forward(self, x: Tensor) -> Tensor:
        return _Halved.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _Halved(Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        y, where = max_pool2d(x.contiguous(memory_format=torch.channels_last), 2, return_indices=True)
        context.save_for_backward(where.contiguous())
        context.size = x.shape[2:]
        return y.contiguous()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (where,) = context.saved_tensors
        return max_unpool2d(gradient, where, (2, 2), output_size=context.size)
