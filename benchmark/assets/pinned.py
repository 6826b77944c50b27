"""Files that installed packages bring: each is compared with a known SHA-256 before it is used.

That finds damaged files, other versions, and what an index has passed off for the package. It is no guard against those
who may write into the installation: they could change the code as well.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from benchmark.assets.packages import package_folder
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.versions import libraries


@dataclass(frozen=True)
class Pinned:
    """Files of one package of which a single content is known.

    Attributes:
        module, distribution: the package; it is never imported.
        files: paths in the module's folder.
        sha256: of the file; of several files, of what `sha256sum` says about them in this order: lines
            "<SHA-256>  <path>".
    """

    module: str
    distribution: str
    files: tuple[str, ...]
    sha256: str

    @property
    def folder(self) -> Path:
        """The module's folder.

        Raises:
            NotAvailable: the package is not installed.
        """
        return package_folder(self.module, self.distribution)

    def read(self, file: str | None = None) -> bytes:
        """The very bytes that were compared; of the only file where none is named.

        Raises:
            NotAvailable: the package is not installed, or lacks the file.
            W2SError: it is another file than the one known.
        """
        file = file or self.files[0]
        data = _bytes(self, self.folder, file)
        expected = self.sha256 if len(self.files) == 1 else self.hashes()[file]
        _compare(self, file, hashlib.sha256(data).hexdigest(), expected)
        return data

    def hashes(self) -> dict[str, str]:
        """File -> SHA-256, computed and compared once a process: for what is read by its path, or is many files.

        Raises:
            NotAvailable, W2SError: as `read`.
        """
        return _hashes(self, self.folder)


@functools.cache
def _hashes(pinned: Pinned, folder: Path) -> dict[str, str]:
    found = {file: hashlib.sha256(_bytes(pinned, folder, file)).hexdigest() for file in pinned.files}
    total = found[pinned.files[0]]
    if len(found) > 1:
        total = hashlib.sha256("".join(f"{sha256}  {file}\n" for file, sha256 in found.items()).encode()).hexdigest()
    more = f" and {len(found) - 1:,} more, together," * (len(found) > 1)
    _compare(pinned, pinned.files[0] + more, total, pinned.sha256)
    return found


def _bytes(pinned: Pinned, folder: Path, file: str) -> bytes:
    try:
        return (folder / file).read_bytes()
    except OSError as error:
        raise NotAvailable(_message(pinned, f"cannot read {file} ({error.strerror})")) from error


def _compare(pinned: Pinned, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise W2SError(_message(pinned, f"{what} has SHA-256 {found}, expected {expected}"))


def _message(pinned: Pinned, what: str) -> str:
    """With the version that is installed, and the command that installs it again."""
    name = pinned.distribution
    installed = " ".join([name, *libraries(name).values()])
    return f"{installed}: {what}; run: pip install --force-reinstall --no-deps -c constraints.txt {name}"
