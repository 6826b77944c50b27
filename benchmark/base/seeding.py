"""Seeds: every random draw of a run is derived from the run's seed and the draw's purpose."""

import hashlib

import numpy as np


def derive(*parts: str | int) -> int:
    """A 63-bit seed that depends on every part; draws for different purposes are independent."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_rng(*parts: str | int) -> np.random.Generator:
    """A NumPy generator seeded with `derive(*parts)`."""
    return np.random.default_rng(derive(*parts))
