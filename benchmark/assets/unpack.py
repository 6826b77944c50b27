"""Archives that others made: nothing but files and folders comes out of them, inside one folder, up to a stated size.

tarfile's data filter refuses what leads outside as well. But links that stay inside can be chained until they do not
(CVE-2025-4517 and its kin), and no data set here holds any: all links are refused.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from benchmark.base.errors import W2SError

MOST_MEMBERS = 2_000_000  # of the data sets here, one has half a million
_LONGEST_HEADER = 1 << 20  # bytes of a name or of a member's attributes, which tarfile reads into memory
_CHUNK = 1 << 20
# what broken archives make the readers raise
_FAULTS = (
    tarfile.ReadError,
    tarfile.HeaderError,
    tarfile.StreamError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    ValueError,
)


class Unsafe(W2SError):
    """An archive holds what it should not."""


class Broken(W2SError):
    """It is no whole archive."""


def unpack(archive: Path, folder: Path, proof: str, most: int, origin: str) -> None:
    """Unpack a tar.gz beside `folder` and rename, so that a folder of that name is always whole.

    The gzip checksum is read to the end, as nothing else may tell that an archive is damaged.

    Args:
        proof: a file that the archive must hold.
        most: bytes that it may have when it is unpacked.
        origin: where it is from, for messages.

    Raises:
        W2SError: it is unsafe, larger, damaged or another one; nothing of it is left.
        OSError: the disk is full, say.
    """
    temporary = folder.with_name(f".unpacking-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed one left
    temporary.mkdir()
    try:
        with archive.open("rb") as file, _members(file, most) as members:
            for tar, member in members:
                tar.extract(member, temporary, filter="data")
        top = list(temporary.iterdir())
        source = top[0] if len(top) == 1 and top[0].is_dir() else temporary  # some archives hold the folder itself
        if not (source / proof).is_file():
            raise Unsafe(f"it holds no {proof}: it is another data set or version")
        os.replace(source, folder)
    except Broken as error:
        raise W2SError(f"what {origin} sent is no whole tar.gz archive ({error})") from error
    except (Unsafe, tarfile.FilterError) as error:
        raise W2SError(f"the archive of {origin} was not unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_members(stream: IO[bytes], names: Sequence[str], most: int, origin: str) -> dict[str, bytes]:
    """The named files of a tar.gz that is read from a stream; nothing is written.

    Args:
        most: bytes that the stream may give, and that the archive may have when it is unpacked.
        origin: where it is from, for messages.

    Raises:
        W2SError: a file is missing, or the archive is unsafe, larger or damaged.
    """
    found: dict[str, bytes] = {}
    try:
        with _members(_Bounded(stream, most), most) as members:
            for tar, member in members:
                if member.name in names and (file := tar.extractfile(member)) is not None:
                    found[member.name] = file.read()
    except (Unsafe, Broken) as error:
        raise W2SError(f"{origin}: {error}") from error
    if lacking := [name for name in names if name not in found]:
        raise W2SError(f"{origin}: {lacking[0]} is no file in its archive")
    return found


class _Bounded:
    """A stream of at most so many bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._most, self._left = stream, most, most

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise Unsafe(f"it is larger than {self._most:,} bytes when unpacked, which is more than is expected")
        return data


class _Member(tarfile.TarInfo):
    """Of a header's attributes no more is read into memory than makes sense."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if not member.isreg() and member.size > _LONGEST_HEADER:
            raise Unsafe(f"a header in it is {member.size:,} bytes long")
        return member


@contextmanager
def _members(file: Any, most: int) -> Iterator[Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]]:
    """The members of a tar.gz, each after it was looked at; all of the file is read when they end."""
    try:
        with gzip.GzipFile(fileobj=file) as unzipped:
            stream = _Bounded(unzipped, most)
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:  # type: ignore[call-overload]
                yield _checked(tar, most)
            while stream.read(_CHUNK):
                pass
    except _FAULTS as error:
        raise Broken(str(error)) from error


def _checked(tar: tarfile.TarFile, most: int) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    size = 0
    for number, member in enumerate(tar, 1):
        path = PurePosixPath(member.name)
        if number > MOST_MEMBERS:
            raise Unsafe(f"it holds more than {MOST_MEMBERS:,} files")
        if path.is_absolute() or ".." in path.parts:
            raise Unsafe(f"{member.name!r} leads out of its folder")
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise Unsafe(f"{member.name!r} is neither a plain file nor a folder")
        size += member.size
        if size > most:
            raise Unsafe(f"its files are larger than {most:,} bytes in all, which is more than is expected")
        yield tar, member
        tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
