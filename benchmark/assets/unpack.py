"""Archives that others made: nothing but files and folders comes out of them, inside one folder, up to a stated size.

tarfile's data filter keeps out what leads outside. But links that stay inside can be chained until they do not
(CVE-2025-4517 and its kin), and no data set here holds any: all links are refused.
"""

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from benchmark.base.errors import W2SError

_CHUNK = 1 << 20


def unpack(archive: Path, folder: Path, proof: str, most: int, origin: str) -> None:
    """Unpack a tar.gz beside `folder` and rename, so that a folder of that name is always whole.

    Args:
        proof: a file that the archive must hold.
        most: bytes that its files may have in all.
        origin: where it is from, for messages.

    Raises:
        W2SError: it is unsafe, larger, damaged or another one; nothing of it is left.
        OSError: the disk is full, say.
    """
    temporary = folder.with_name(f".unpacking-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed one left
    temporary.mkdir()
    try:
        _extract(archive, temporary, most)
        top = list(temporary.iterdir())
        source = top[0] if len(top) == 1 and top[0].is_dir() else temporary  # some archives hold the folder itself
        if not (source / proof).is_file():
            raise W2SError(f"it holds no {proof}: it is another data set or version")
        os.replace(source, folder)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, W2SError) as error:
        raise W2SError(f"the archive of {origin} was not unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, folder: Path, most: int) -> None:
    size = 0
    with gzip.open(archive) as file:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise W2SError(f"{member.name!r} is neither a plain file nor a folder")
                size += member.size
                if size > most:
                    raise W2SError(f"its files are larger than {most:,} bytes in all, which is more than is expected")
                tar.extract(member, folder, filter="data")
                tar.members = []  # type: ignore[attr-defined]  # else it keeps them all
        while file.read(_CHUNK):  # to the checksum: nothing else may tell that an archive is damaged
            pass
