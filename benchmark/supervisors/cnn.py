"""Weak model of images: a small convolutional network on images of 32 px."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate


@dataclass(frozen=True)
class TrainedCNN:
    """A fitted `SmallCNN`."""

    network: nn.Module
    size: int
    mean: Tensor
    std: Tensor

    def predict_proba(self, inputs: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(n, K) probabilities of n images."""
        x = (_shrink(inputs, self.size) - self.mean) / self.std
        with torch.inference_mode():
            logits = torch.cat([self.network(part) for part in x.split(256)])
        return logits.double().softmax(-1).numpy()


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

    def fit(self, inputs: NDArray[np.uint8], labels: NDArray[np.int64], num_classes: int, seed: int) -> TrainedCNN:
        """Train on uint8 images (n, H, W) or (n, H, W, 3) and class ids (n,).

        The seed decides the initial weights and the order; torch's global random state stays as it was.
        """
        x, y = _shrink(inputs, self.size), torch.from_numpy(np.asarray(labels, dtype=np.int64))
        mean, std = x.mean(), x.std().clamp_min(1e-6)
        x = (x - mean) / std
        counts = torch.bincount(y, minlength=num_classes)
        weight = len(y) / (counts.clamp_min(1) * (counts > 0).sum())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(x.shape[1], num_classes, self.size)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        with torch.enable_grad():
            for _ in range(self.epochs):
                for rows in torch.randperm(len(x), generator=generator).split(self.batch):
                    optimizer.zero_grad()
                    cross_entropy(network(x[rows]), y[rows], weight=weight).backward()
                    optimizer.step()
        return TrainedCNN(network.eval(), self.size, mean, std)


def _shrink(images: NDArray[np.uint8], size: int) -> Tensor:
    """(n, channels, size, size) in 0..1."""
    x = torch.from_numpy(np.ascontiguousarray(images))
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return interpolate(x, (size, size), mode="bilinear", antialias=True).float() / 255


def _network(channels: int, num_classes: int, size: int) -> nn.Module:
    layers: list[nn.Module] = []
    for out in (8, 16, 32):
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
        channels = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (size // 8) ** 2, num_classes))
