"""A cache at an fsspec address (`s3://bucket/folder`), which machines that see no common folder share.

What is there has a copy on this machine, which is what everything else reads and writes; a `Mirror` brings files over.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.files import atomic_write

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"})


def split_address(text: str | None) -> tuple[Path | None, str | None]:
    """A folder of this machine or an address: one of the two, or neither when nothing was given.

    `file://` and plain paths are folders, which all machines must see under the same path.
    """
    if text is None:
        return None, None
    if "://" not in text:
        return Path(text), None
    if text.startswith("file://"):
        return Path(text.removeprefix("file://")), None
    return None, text.rstrip("/")


@dataclass(frozen=True)
class Mirror:
    """A folder at an address and its copy here.

    Names are relative to both, with `/`. Object stores replace a file as a whole; so that nothing is ever read that was
    half written elsewhere, others get a temporary name first.

    Attributes:
        address: as fsspec has it.
        folder: the copy.
    """

    address: str
    folder: Path

    def files(self, below: str = "") -> list[str]:
        """Names of the files there."""
        system, root = self._system()
        with self._said("can't be listed"):
            system.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                found = system.find(f"{root}/{below}".rstrip("/"))
                return sorted(str(path)[len(root) :].lstrip("/") for path in found)
        return []

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        system, root = self._system()
        with self._said(f"{name} can't be looked for"):
            return bool(system.exists(f"{root}/{name}"))

    def fetch(self, name: str) -> bool:
        """Bring a file here; false when it is not there."""
        system, root = self._system()
        with self._said(f"{name} can't be read"):
            try:
                data = system.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return False
        atomic_write(self.folder / name, data)
        return True

    def put(self, name: str) -> None:
        """Bring a file there."""
        data = (self.folder / name).read_bytes()
        system, root = self._system()
        target = f"{root}/{name}"
        with self._said(f"{name} can't be written"):
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            if _OBJECT_STORES.intersection([system.protocol] if isinstance(system.protocol, str) else system.protocol):
                system.pipe_file(target, data)
                return
            beside = f"{target}.writing-{secrets.token_hex(4)}.tmp"
            try:
                system.pipe_file(beside, data)
                system.mv(beside, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    system.rm_file(beside)
                raise

    def remove(self, name: str) -> None:
        """Remove a file there, if it is there."""
        system, root = self._system()
        with self._said(f"{name} can't be removed"), contextlib.suppress(FileNotFoundError):
            system.rm_file(f"{root}/{name}")

    def _system(self) -> tuple[Any, str]:
        """fsspec's file system (which it keeps) and the path in it."""
        from fsspec.core import url_to_fs

        try:
            system, root = url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise NotAvailable(f"{self.address}: fsspec can't use this address here ({error})") from None
        return system, root.rstrip("/")

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError, W2SError):
            raise
        except Exception as error:  # each system has errors of its own
            raise W2SError(f"{self.address}: {what} ({type(error).__name__}: {error})") from error
