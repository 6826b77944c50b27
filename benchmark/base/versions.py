"""Versions of installed libraries and of this project: part of cache keys and of records."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def libraries(*names: str) -> dict[str, str]:
    """Distribution -> version, of those that are installed."""
    return {name: found for name in names if (found := _version(name)) is not None}


@cache
def project_commit() -> str:
    """The project's git commit, `-dirty` when tracked files differ from it, or `unknown` outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        if not (root / ".git").exists():
            return "unknown"
        call = ["git", "-C", str(root)]
        head = subprocess.run([*call, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*call, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results", ":!*.md"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("-dirty" if changed.strip() else "")
