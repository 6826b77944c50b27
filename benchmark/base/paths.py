"""Where things lie on this machine, and what may be fetched: what the user said, else the environment, else the system.

A run hands its `Settings` to the processes that work for it; nothing is told through the environment.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs


@dataclass(frozen=True)
class Settings:
    """What a user said about this machine.

    Attributes:
        cache: the cache's folder; None for `W2S_CACHE`, or the user's cache folder of this system.
        data: folder of large data sets; None for `W2S_DATA`, if that is set.
        download: whether missing models and data sets may be downloaded.
        fetch: whether small source archives may be fetched with pip, which a plan never does.
    """

    cache: Path | None = None
    data: Path | None = None
    download: bool = False
    fetch: bool = True


_settings = Settings()


def settings() -> Settings:
    """Those of this process."""
    return _settings


def use(chosen: Settings) -> None:
    """Make them this process's."""
    global _settings
    _settings = chosen


@contextmanager
def using(**changes: Any) -> Iterator[None]:
    """Other settings for a while."""
    before = _settings
    use(replace(before, **changes))
    try:
        yield
    finally:
        use(before)


def cache_root() -> Path:
    """The cache's folder."""
    given = _settings.cache or os.environ.get("W2S_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("w2s-bench", appauthor=False))


def data_root() -> Path | None:
    """The folder of the user's large data sets, or None when none was named."""
    given = _settings.data or os.environ.get("W2S_DATA")
    return Path(given).absolute() if given else None
