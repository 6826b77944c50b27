"""Large archives, downloaded only when the user asks: resumed where they broke off, checked, unpacked safely.

Where a user keeps large data sets is the data root: `--data-root DIR`, or the environment variable W2S_DATA.
"""

from __future__ import annotations

import gzip
import http.client
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from benchmark.errors import NotAvailable, W2SError

VARIABLE = "W2S_DATA"
_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte

Say = Callable[[str], None]


def data_root() -> Path | None:
    """The folder of the user's large data sets, or None when none was named."""
    named = os.environ.get(VARIABLE)
    return Path(named).absolute() if named else None


@dataclass(frozen=True)
class Archive:
    """A tar.gz archive of one data set.

    Attributes:
        folder: name of the folder under the data root that it is unpacked into; a mirror has it as `<folder>.tar.gz`.
        url: the data set's own address.
        size: bytes, as its makers state them.
        proof: a file that the unpacked archive must hold.
        trouble: what is known to go wrong at `url`, for error messages.
    """

    folder: str
    url: str
    size: int
    proof: str
    trouble: str


def download(archive: Archive, root: Path, mirror: str | None, say: Say) -> Path:
    """Download and unpack an archive; returns the new folder. A second process waits for the first.

    Args:
        mirror: base address of a copy: `<mirror>/<folder>.tar.gz` is downloaded instead.
        say: told what is downloaded, how large it is, and how far it is.

    Raises:
        NotAvailable: the server failed; what has arrived is kept, and the same command goes on from there.
        W2SError: the folder is there already, the disk is too small, or the archive is not what it should be.
    """
    folder = root / archive.folder
    url = f"{mirror.rstrip('/')}/{archive.folder}.tar.gz" if mirror else archive.url
    if not url.startswith(("http://", "https://")):
        raise W2SError(f"mirror {mirror}: expected an address that begins with http:// or https://")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{archive.folder}.lock"):
            if folder.exists():
                raise W2SError(f"{folder} is there already, but not complete: move it away, then download again")
            _check_space(archive, root)
            part = root / f"{archive.folder}.tar.gz.part"
            say(f"downloading {archive.folder}: {gigabytes(archive.size)} from {url}, to be unpacked into {folder}")
            _fetch(url, part, archive, folder, say)
            say(f"unpacking {part.name}")
            try:
                _unpack(part, folder, archive.proof, url)
            finally:  # one that can't be unpacked is no use for going on
                part.unlink()
            return folder
    except OSError as error:
        raise W2SError(f"cannot write to the data root {root}: {error}") from error


def gigabytes(size: float) -> str:
    """A size in words."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _check_space(archive: Archive, root: Path) -> None:
    """Archive and unpacked files are on the disk at once, and images are hardly smaller in the archive."""
    free, needed = shutil.disk_usage(root).free, 2 * archive.size
    if free < needed:
        raise W2SError(
            f"{root}: {gigabytes(free)} are free, {archive.folder} needs {gigabytes(needed)} (also to unpack)"
        )


def _fetch(url: str, part: Path, archive: Archive, folder: Path, say: Say) -> None:
    """Append to `part` what it lacks; a server that can't go on in the middle sends everything again."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "w2s-bench", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
            if have and answer.status == 206:
                say(f"going on after {gigabytes(have)}")
            else:
                have = 0
            coming = answer.headers.get("Content-Length")
            whole = have + int(coming) if coming else None
            told, total = have, whole or archive.size
            with part.open("ab" if have else "wb") as file:
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    if have - told >= total / 20:
                        told = have
                        say(f"{gigabytes(have)} of {gigabytes(total)}")
        if whole is not None and have != whole:
            raise http.client.IncompleteRead(b"", whole - have)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # asked for what comes after the end: everything is here
            return
        raise _unavailable(archive, url, folder, f"HTTP {error.code} {error.reason}", have) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        why = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise _unavailable(archive, url, folder, why, have) from error


def _unavailable(archive: Archive, url: str, folder: Path, why: str, have: int) -> NotAvailable:
    kept = f"; {gigabytes(have)} have arrived and are kept" if have else ""
    return NotAvailable(
        f"could not download {url} ({why}){kept}; {archive.trouble}; try again later (it goes on where it broke off), "
        f"name a mirror that has {archive.folder}.tar.gz with --mirror URL, or get the archive otherwise and unpack it "
        f"into {folder}"
    )


def _unpack(part: Path, folder: Path, proof: str, url: str) -> None:
    """Unpack beside the folder and rename, so that a folder of that name is always whole.

    The gzip checksum is read to the end: nothing else tells a damaged archive, as no hash of it is published. tarfile's
    data filter refuses absolute paths, links that lead outside, and devices.
    """
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder.parent))
    try:
        try:
            with gzip.open(part) as stream:
                with tarfile.open(fileobj=stream, mode="r|") as tar:
                    tar.extractall(temporary, filter="data")
                while stream.read(_CHUNK):
                    pass
        except tarfile.FilterError as error:
            raise W2SError(f"the archive of {url} is not safe to unpack ({error}); it was deleted") from error
        except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            what = f"what {url} sent is no whole tar.gz archive ({error})"
            raise W2SError(f"{what}; it was deleted: run again, or name a mirror with --mirror URL") from error
        top = list(temporary.iterdir())
        source = top[0] if len(top) == 1 and top[0].is_dir() else temporary  # some archives hold the folder itself
        if not (source / proof).is_file():
            raise W2SError(f"the archive of {url} holds no {proof}: it is another data set or version, and was deleted")
        os.chmod(source, 0o755)  # a temporary folder is its owner's alone
        os.replace(source, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
