"""Versions of installed libraries: part of cache keys and of records."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def libraries(*names: str) -> dict[str, str]:
    """Distribution -> version, of those that are installed."""
    return {name: found for name in names if (found := _version(name)) is not None}
