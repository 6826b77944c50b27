"""A cache at an fsspec address (`s3://bucket/folder`), which machines that see no common folder share.

What is there has a copy on this machine, which is what everything else reads and writes; a `Mirror` brings files over.
"""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.base.errors import NotAvailable
from benchmark.base.files import atomic_write
from benchmark.base.notices import notice

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"})


def split_address(text: str | None) -> tuple[Path | None, str | None]:
    """A folder of this machine or an address: one of the two, or neither when nothing was given.

    `file://` and plain paths are folders, which all machines must see under the same path.

    Raises:
        NotAvailable: fsspec can't use the address here; a package that it needs is not installed, say.
    """
    if text is None:
        return None, None
    if "://" not in text or text.startswith("file://"):
        return Path(text.removeprefix("file://")), None
    address = text.rstrip("/")
    try:
        Mirror(address, Path())._system()
    except Exception as error:  # each system has errors of its own
        raise NotAvailable(f"{address}: fsspec can't use this address here ({error})") from None
    return None, address


@dataclass(frozen=True)
class Mirror:
    """A folder at an address and its copy here. What fails there is said in a line, and work goes on without.

    Names are relative to both, with `/`. Object stores replace a file as a whole; so that nothing is ever read that was
    half written elsewhere, others get a temporary name first.

    Attributes:
        address: as fsspec has it.
        folder: the copy.
    """

    address: str
    folder: Path

    def files(self, below: str) -> list[str]:
        """Names of the files in a folder there."""
        found: list[str] = []
        with self._trying("can't be listed"):
            system, root = self._system()
            system.invalidate_cache()
            found = sorted(str(path)[len(root) :].lstrip("/") for path in system.find(f"{root}/{below}"))
        return found

    def has(self, names: Sequence[str]) -> set[str]:
        """Those of some files of one folder that are there."""
        if len(names) != 1:
            return set(self.files(names[0].rpartition("/")[0])) & set(names) if names else set()
        there = False
        with self._trying(f"{names[0]} can't be looked for"):
            system, root = self._system()
            there = system.exists(f"{root}/{names[0]}")
        return set(names) if there else set()

    def fetch(self, names: Sequence[str]) -> bool:
        """Bring here those of some files that are there; whether any came."""
        came = False
        with self._trying("files can't be brought here"):
            system, root = self._system()
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    atomic_write(self.folder / name, system.cat_file(f"{root}/{name}"))
                    came = True
        return came

    def put(self, names: Sequence[str]) -> None:
        with self._trying("files can't be brought there"):
            system, root = self._system()
            protocols = [system.protocol] if isinstance(system.protocol, str) else system.protocol
            for name in names:
                data, target = (self.folder / name).read_bytes(), f"{root}/{name}"
                system.makedirs(target.rpartition("/")[0], exist_ok=True)
                if _OBJECT_STORES.intersection(protocols):
                    system.pipe_file(target, data)
                    continue
                beside = f"{target}.writing-{secrets.token_hex(4)}.tmp"
                try:
                    system.pipe_file(beside, data)
                    system.mv(beside, target)
                except BaseException:
                    with contextlib.suppress(Exception):
                        system.rm_file(beside)
                    raise

    def remove(self, names: Sequence[str]) -> None:
        with self._trying("files can't be removed"):
            system, root = self._system()
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    system.rm_file(f"{root}/{name}")

    def _system(self) -> tuple[Any, str]:
        """fsspec's file system (which it keeps) and the path in it."""
        from fsspec.core import url_to_fs

        system, root = url_to_fs(self.address)
        return system, root.rstrip("/")

    @contextlib.contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:  # the folder is not there yet
            pass
        except Exception as error:  # each system has errors of its own
            notice(f"cache: {self.address}: {what} ({type(error).__name__}: {error}); going on without")
