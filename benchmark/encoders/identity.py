"""No encoder: for tasks whose inputs are features already."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError


@dataclass(frozen=True)
class Identity:
    """Inputs (n, D) are the features."""

    name: str = "identity"
    outputs: tuple[str, ...] = ("features",)
    fingerprint: str = "identity-1"

    def encode(self, inputs: NDArray[np.floating], device: str = "cpu") -> dict[str, NDArray[np.float32]]:
        """The inputs as float32.

        Raises:
            W2SError: they are not a two-dimensional array.
        """
        if not isinstance(inputs, np.ndarray) or inputs.ndim != 2:
            found = getattr(inputs, "shape", type(inputs).__name__)
            raise W2SError(f"encoder 'identity': inputs are {found}, expected an array (n, D)")
        return {"features": inputs.astype(np.float32)}
