"""Writing files so that a kill at any moment leaves the old content or the new one, never a torn file."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PREFIX, _SUFFIX = ".writing-", ".tmp"


def atomic_write(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: write a temporary file beside it, sync, rename, sync the folder.

    Missing parent folders are made. Writers of the same path don't disturb each other; the last one wins.
    """
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, to be written and read, that replaces `path` when all went well: as `atomic_write`, bit by bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_PREFIX}{path.name}-{secrets.token_hex(8)}{_SUFFIX}"
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def temporary(name: str) -> bool:
    """Whether a file of this name is what a writer was killed over."""
    return _PREFIX in name and name.endswith(_SUFFIX)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left behind, in `folder` and below. Only for whoever holds the folder's lock."""
    for path in folder.rglob(f"{_PREFIX}*{_SUFFIX}"):
        path.unlink(missing_ok=True)


def remove_temporaries_of(path: Path) -> None:
    """Remove what killed writers of this one file left behind. Only for whoever holds its lock."""
    for left in path.parent.glob(f"{_PREFIX}{glob.escape(path.name)}-*{_SUFFIX}"):
        left.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; a file system that can't sync folders is left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
