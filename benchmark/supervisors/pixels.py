"""Weak model of images: logistic regression on raw pixels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmark.supervisors.classifiers import fit_logistic
from benchmark.supervisors.fitted import Fitted


@dataclass(frozen=True)
class PixelLogistic:
    """Logistic regression on the pixels of uint8 images of one size, scaled to 0..1."""

    C: float = 1.0
    name: ClassVar[str] = "benchmark.supervisors.pixels.PixelLogistic"
    version: ClassVar[int] = 1

    def fit(self, inputs: NDArray[np.uint8], labels: NDArray[np.int64], num_classes: int, seed: int) -> Fitted:
        """Train on images (n, H, W[, 3]) and class ids (n,); nothing in it is random."""
        return fit_logistic(_pixels, _pixels(inputs), labels, num_classes, self.C, balanced=False)


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return images.reshape(len(images), -1) / 255
