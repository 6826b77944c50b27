"""Versions of installed libraries and of this project: part of cache keys and of records."""

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
    if not (root / ".git").exists():
        return "unknown"
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results", ":!*.md")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + "-dirty" * bool(changed)


def _git(root: Path, *call: str) -> str:
    return subprocess.check_output(["git", "-C", root, *call], stderr=subprocess.DEVNULL, text=True).strip()
