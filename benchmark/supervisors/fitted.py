"""What training a weak model gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fitted:
    """A trained weak model. `predict_proba` gives (n, K) probabilities of n inputs as `fit` has them."""

    predict_proba: Callable[[Any], NDArray[np.float64]]
