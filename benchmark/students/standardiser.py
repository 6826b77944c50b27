"""How features are standardised: by mean and scale of a pool's train split."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Standardiser(NamedTuple):
    """Mean and scale of features, from a pool's train split (for pairs: over both responses); each (D,)."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Standardiser":
        """Statistics of (N, D) or (N, 2, D); a constant feature keeps its scale."""
        flat = features.reshape(-1, features.shape[-1])
        scale, mean = torch.std_mean(flat, dim=0, correction=0)
        return cls(mean, torch.where(scale > 1e-6, scale, torch.ones_like(scale)))

    @classmethod
    def of_pieces(cls, pieces: Iterable[Tensor]) -> "Standardiser":
        """The same, to rounding, in one pass over pieces of what is too large for memory."""
        count, (shift, total, squares) = 0, torch.zeros(3, 1, dtype=torch.float64)
        for piece in pieces:
            rows = piece.reshape(-1, piece.shape[-1]).double()
            if not count:  # a shift near the mean keeps the squares small
                shift = rows.mean(0)
            rows -= shift
            count += len(rows)
            total = total + rows.sum(0)
            squares = squares + rows.square().sum(0)
        mean = total / count
        scale = (squares / count - mean.square()).clamp_min(0).sqrt()
        return cls((shift + mean).float(), torch.where(scale > 1e-6, scale, torch.ones_like(scale)).float())

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised features, same shape."""
        return (features - self.mean) / self.scale
