"""Large archives, downloaded only when the user asks: resumed where they broke off, checked, unpacked (`unpack.py`).

Where a user keeps large data sets is the data root: `--data-root DIR`, or the environment variable W2S_DATA.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from benchmark.assets.unpack import unpack
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.files import sha256_file

_TIMEOUT = 60  # seconds without a byte

Say = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    """A tar.gz archive of one data set.

    Attributes:
        folder: name of the folder under the data root that it is unpacked into; a mirror has it as `<folder>.tar.gz`.
        url: the data set's own address.
        size: bytes, as its makers state them.
        proof: a file that the unpacked archive must hold.
        trouble: what is known to go wrong at `url`, for error messages.
        licence: in words.
        unpacked: bytes of its files; None where that is not known: about as many as the archive's, then.
    """

    folder: str
    url: str
    size: int
    proof: str
    trouble: str
    licence: str
    unpacked: int | None = None


def download(archive: Archive, root: Path, mirror: str | None, say: Say) -> Path:
    """Download and unpack an archive; returns the new folder. A second process waits for the first.

    Args:
        mirror: base address of a copy: `<mirror>/<folder>.tar.gz` is downloaded instead.
        say: told what is downloaded, how large it is, and how far it is.

    Raises:
        NotAvailable: the server failed; what has arrived is kept, and the same command goes on from there.
        W2SError: the folder is there already, the disk is too small, what came is not what came the last time, or the
            archive is not what it should be. Only in the last case what has arrived is deleted.
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
            part = root / f"{archive.folder}.tar.gz.part"
            # what is still to come, and the unpacked files beside the whole archive
            needed = max(0, archive.size - _size(part)) + (archive.unpacked or archive.size)
            if (free := shutil.disk_usage(root).free) < needed:
                raise W2SError(
                    f"{root}: {gigabytes(free)} are free, {archive.folder} needs {gigabytes(needed)} (also to unpack)"
                )
            known = _known(root, archive)
            hashes = "no hash of it is published: the SHA-256 of what comes is said, and kept for the next time"
            say(
                f"downloading {archive.folder}: {gigabytes(archive.size)} from {url}, to be unpacked into {folder}; "
                f"licence: {archive.licence}; {f'expected SHA-256 {known}, as the last time' if known else hashes}"
            )
            _fetch(url, part, archive, folder, say)
            sha256 = _compared(part, known, archive, say)
            say(f"unpacking {part.name}")
            try:
                unpack(part, folder, archive.proof, 2 * (archive.unpacked or archive.size), url)
            except W2SError as error:  # a bad archive is no use for going on
                part.unlink()
                raise W2SError(f"{error}; it was deleted: run again, or name a mirror with --mirror URL") from error
            except OSError as error:
                raise W2SError(
                    f"cannot unpack into {folder} ({error}); {part} is kept: run again to go on from there, or delete "
                    "it to download anew"
                ) from error
            _note(root, archive).write_text(f"{sha256}  {archive.folder}.tar.gz\n")
            part.unlink()
            return folder
    except OSError as error:
        raise W2SError(f"cannot write to the data root {root}: {error}") from error


def gigabytes(size: float) -> str:
    """A size in words."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetch(url: str, part: Path, archive: Archive, folder: Path, say: Say) -> None:
    """Append to `part` what it lacks; a server that can't go on in the middle sends everything again."""
    import httpx2  # here, as most that import this module download nothing

    have = _size(part)
    headers = {"User-Agent": "w2s-bench", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with httpx2.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as answer:
            code, coming = answer.status_code, answer.headers.get("Content-Length")
            if have and (code == 416 or (code == 200 and coming == str(have))):
                return  # it is all here; the checksum tells if it should be another archive
            if not answer.is_success:
                raise httpx2.HTTPError(f"HTTP {code} {answer.reason_phrase}")
            if have and code == 206:
                say(f"going on after {gigabytes(have)}")
            else:
                have = 0
            told, total = have, have + int(coming) if coming else archive.size
            with part.open("ab" if have else "wb") as file:
                for chunk in answer.iter_raw():
                    file.write(chunk)
                    have += len(chunk)
                    if have - told >= total / 20:
                        told = have
                        say(f"{gigabytes(have)} of {gigabytes(total)}")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:  # the network's; the disk's are OSErrors
        why, kept = str(error) or type(error).__name__, _size(part)
        arrived = f"; {gigabytes(kept)} have arrived and are kept" if kept else ""
        raise NotAvailable(
            f"could not download {url} ({why}){arrived}; {archive.trouble}; try again later (it goes on where it broke "
            f"off), name a mirror that has {archive.folder}.tar.gz with --mirror URL, or get the archive otherwise and "
            f"unpack it into {folder}"
        ) from error


def _note(root: Path, archive: Archive) -> Path:
    """Where the SHA-256 of the first archive that came is kept, as `sha256sum` writes it."""
    return root / f"{archive.folder}.tar.gz.sha256"


def _known(root: Path, archive: Archive) -> str | None:
    note = _note(root, archive)
    if not note.exists():
        return None
    words = note.read_text(errors="replace").split()
    if not words or not re.fullmatch("[0-9a-f]{64}", words[0]):
        raise W2SError(f"{note}: expected a SHA-256, found {' '.join(words)[:80]!r}; delete it if you don't need it")
    return words[0]


def _compared(part: Path, known: str | None, archive: Archive, say: Say) -> str:
    """The SHA-256 of what came. Nobody publishes it; but what comes again must be what came the first time."""
    say(f"computing the SHA-256 of {part.name}")
    found = sha256_file(part)
    if known is not None and found != known:
        raise W2SError(
            f"{archive.folder}: what came has SHA-256 {found}, expected {known} as the last time; it was not unpacked. "
            f"Run again after deleting {part} to download it anew, or {_note(part.parent, archive)} to accept it"
        )
    say(f"SHA-256 {found}")
    return found
