"""Where things lie on this machine: the cache, and the user's large data sets."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

DATA_VARIABLE = "W2S_DATA"


def cache_root() -> Path:
    """The cache's folder: `W2S_CACHE`, or the user's cache folder of this system."""
    given = os.environ.get("W2S_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("w2s-bench", appauthor=False))


def data_root() -> Path | None:
    """The folder of the user's large data sets, or None when none was named."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).absolute() if named else None
