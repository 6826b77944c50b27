"""Folders at an fsspec address (`s3://bucket/folder`), for a cache or for results that several machines share.

What is there has a copy on this machine, which is what everything else reads and writes; a `Mirror` brings files over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.files import atomic_write, temporary

_LOCK = ".lock.json"
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
    _pushed: dict[str, tuple[int, int, int]] = field(default_factory=dict, compare=False, repr=False)

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
        """Bring a file here; false when it is not there.

        Raises:
            W2SError: its name leads out of the folder, as those of object stores may.
        """
        if Path(name).anchor or ".." in Path(name).parts:
            raise W2SError(
                f"{self.address}: the file '{name}' would lie outside a copy of this folder; remove it there"
            )
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
        self._pipe(name, (self.folder / name).read_bytes())

    def remove(self, name: str) -> None:
        """Remove a file there, if it is there."""
        system, root = self._system()
        with self._said(f"{name} can't be removed"), contextlib.suppress(FileNotFoundError):
            system.rm_file(f"{root}/{name}")

    def pull(self) -> None:
        """Bring everything here."""
        for name in self.files():
            if _is_content(name) and self.fetch(name):
                self._pushed[name] = _signature(self.folder / name)

    def push(self) -> None:
        """Bring everything there that has changed here: truth first, then a folder's predictions before its records."""
        for path in sorted((p for p in self.folder.rglob("*") if p.is_file()), key=self._turn):
            name = path.relative_to(self.folder).as_posix()
            signature = _signature(path)
            if self._pushed.get(name) != signature and _is_content(name):
                self.put(name)
                self._pushed[name] = signature

    @contextlib.contextmanager
    def locked(self) -> Iterator[Callable[[], bool]]:
        """Keep other runs out; the lock is a file there that names its holder.

        Yields:
            Tells whether the lock is still ours, and all is there that was brought there or pulled from there.

        Raises:
            W2SError: another run holds it. One of this machine whose process is gone does not count.
        """
        system, root = self._system()
        mine = {"host": socket.gethostname(), "process": os.getpid(), "token": secrets.token_hex(8)}
        # Of two runs here that find a dead one's lock, the slower must not remove the faster's new one.
        with FileLock(_turnstile(self.address), mode=0o666):  # any user's
            holder = self._holder()
            if holder and _is_gone(holder):
                self.remove(_LOCK)
                holder = None
            if holder is None:
                with contextlib.suppress(FileExistsError), self._said("can't be written"):
                    system.makedirs(root, exist_ok=True)
                    system.pipe_file(f"{root}/{_LOCK}", json.dumps(mine).encode(), mode="create")
                holder = self._holder()  # not every system can refuse to replace a file: look who won
        if holder != mine:
            who = f"process {holder.get('process')} on {holder.get('host')}" if holder else "somebody"
            raise W2SError(
                f"{self.address}: another run is writing here ({who}); wait until it ends, or, if it is dead, remove "
                f"{self.address}/{_LOCK}"
            )
        try:
            for name in filter(temporary, self.files()):
                self.remove(name)
            yield lambda: self._holder() == mine and self._pushed.keys() <= set(self.files())
        finally:
            if self._holder() == mine:
                self.remove(_LOCK)

    def _holder(self) -> dict[str, Any] | None:
        system, root = self._system()
        with self._said("its lock can't be read"):
            system.invalidate_cache()
            try:
                found = json.loads(system.cat_file(f"{root}/{_LOCK}"))
            except FileNotFoundError:
                return None
            except ValueError:
                return {}
        return found if isinstance(found, dict) else {}

    def _pipe(self, name: str, data: bytes) -> None:
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

    def _turn(self, path: Path) -> tuple[bool, Path, bool, str]:
        first = path.parent.name.startswith("_")
        return not first, path.parent, path.suffix != ".safetensors", path.name

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


def _is_content(name: str) -> bool:
    """Whether a file is neither a lock, also one of a folder that was copied there, nor half-written."""
    return not temporary(name) and not name.rpartition("/")[2].startswith(".")


def _turnstile(address: str) -> Path:
    """A file of this machine that is locked while a run here looks who holds an address."""
    return Path(tempfile.gettempdir()) / f"w2s-{hashlib.sha256(address.encode()).hexdigest()[:16]}.lock"


def _signature(path: Path) -> tuple[int, int, int]:
    """Changes when a file is replaced."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a lock's holder was a process of this machine that is no more."""
    if holder.get("host") != socket.gethostname() or not isinstance(process := holder.get("process"), int):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
