"""Writing files so that a kill at any moment leaves the old content or the new one, never a torn file."""

import contextlib
import glob
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from benchmark.base.errors import W2SError

_PREFIX, _SUFFIX = ".writing-", ".tmp"


def atomic_write(path: Path, data: bytes, folder: int | None = None) -> None:
    """Replace `path` by `data`: write a temporary file beside it, sync, rename, sync the folder.

    Missing parent folders are made. Writers of the same path don't disturb each other; the last one wins.

    Args:
        folder: an open one that `path`, of at most two parts, is relative to. It is the same one when it was renamed
            meanwhile, and nothing can be written when it was removed, whatever has taken its place.
    """
    with atomic_file(path, folder) as file:
        file.write(data)


def write_output(path: Path, data: bytes) -> None:
    """`atomic_write` where a user said: W2SError if the file can't be written there."""
    try:
        atomic_write(path, data)
    except OSError as error:
        raise W2SError(f"{path}: cannot be written: {error}") from error


@contextlib.contextmanager
def atomic_file(path: Path, folder: int | None = None) -> Iterator[BinaryIO]:
    """A new file, to be written and read, that replaces `path` when all went well: as `atomic_write`, bit by bit."""
    if folder is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif path.parent != Path():
        with contextlib.suppress(FileExistsError):
            os.mkdir(path.parent, dir_fd=folder)
    temporary = path.parent / f"{_PREFIX}{path.name}-{secrets.token_hex(8)}{_SUFFIX}"

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666, dir_fd=folder)

    try:
        with open(temporary, "x+b", opener=opener) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    sync_folder(path.parent, folder)


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


def sync_folder(path: Path, folder: int | None = None) -> None:
    """Make renames in a folder last through a power cut; a file system that can't sync folders is left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
