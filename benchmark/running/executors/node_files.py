"""What a worker on another machine must have before it can do anything: the same code, and the run's own files."""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import torch

from benchmark.base.errors import W2SError
from benchmark.base.files import atomic_write, sha256_file
from benchmark.base.versions import libraries
from benchmark.core.registry import METHODS, TASKS
from benchmark.running.result import LIBRARIES
from benchmark.running.setup import Setup

Keep = Callable[[bytes], Any]  # puts bytes where workers find them; gives what they ask with
Get = Callable[[Any], bytes]

_MOST = 256 * 10**6  # bytes of a file or folder that is sent; the driver and the object stores hold them in memory


@dataclass(frozen=True)
class NodeFiles:
    """Packed by the driver, unpacked by each worker process."""

    code: str  # hash of the harness, methods and tasks
    versions: Mapping[str, str]  # of the libraries
    # (plug-in, array file or pack folder; the file below it; SHA-256; its content, kept somewhere; None if too large)
    files: tuple[tuple[Path, str, str, Any], ...]
    token: Path | None  # in the cache: by it a worker sees that its cache is the driver's; None where it need not be

    @classmethod
    def of(cls, setup: Setup, keep: Keep, token: Path | None) -> Self:
        """All that a run needs besides the installed packages."""
        files = []
        for root in (*setup.plugins, *(setup.source.files if setup.source else ())):
            paths = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
            sent = sum(path.stat().st_size for path in paths) <= _MOST
            for path in paths:
                name = path.relative_to(root).as_posix() if root.is_dir() else ""
                files.append((root, name, sha256_file(path), keep(path.read_bytes()) if sent else None))
        return cls(code_hash(), libraries(*LIBRARIES), tuple(files), token)

    def unpack(self, setup: Setup, get: Get) -> Setup:
        """The setup for this machine.

        Raises:
            W2SError: other code or libraries are installed here, the cache is another one, there is no GPU, a file is
                too large to send, or there is no safe place for it.
        """
        if code_hash() != self.code:
            raise W2SError("w2s-bench is another version on this node than where the run was started; install the same")
        if (here := libraries(*LIBRARIES)) != self.versions:
            names = sorted(n for n in {*here, *self.versions} if here.get(n) != self.versions.get(n))
            found = ", ".join(f"{name} is {here.get(name)}, expected {self.versions.get(name)}" for name in names)
            raise W2SError(f"libraries differ on this node ({found}); install the same (constraints.txt)")
        if self.token is not None and not self.token.exists():
            way = "with --cache, name a folder that all nodes see, or an address (s3://...)"
            raise W2SError(f"the cache {setup.cache.root} is not the same on this node; {way}")
        if setup.device == "cuda" and not torch.cuda.is_available():
            raise W2SError("--device cuda: torch finds no CUDA device on this node; install a CUDA build of torch")
        copies: dict[Path, Path] = {}
        for root in dict.fromkeys(root for root, *_ in self.files):
            own = [(name, digest, kept) for other, name, digest, kept in self.files if other == root]
            if not all(_same(root / name, digest) for name, digest, _ in own):
                copies[root] = _unpack(root, own, get)
        settings = setup.settings if setup.cache_address is None else replace(setup.settings, cache=None)
        return replace(setup, settings=settings, copies=copies)


@cache
def code_hash() -> str:
    """Of the source files of this project's packages."""
    digest = hashlib.sha256()
    for package in ("benchmark", METHODS.package, TASKS.package):
        root = Path(import_module(package).__path__[0])
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{root.name}/{path.relative_to(root).as_posix()}|".encode() + path.read_bytes())
    return digest.hexdigest()


def _same(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest


def _unpack(root: Path, files: list[tuple[str, str, Any]], get: Get) -> Path:
    """Write a file or folder under a name that its content decides; what is there already stays."""
    if any(kept is None for *_, kept in files):
        large = f"too large to send (more than {_MOST / 1e6:g} MB)"
        raise W2SError(f"{root}: not the same on this node, and {large}; put it under one path that all nodes see")
    together = hashlib.sha256("".join(digest for _, digest, _ in files).encode()).hexdigest()[:16]
    copy = _own_folder() / together / root.name
    for name, digest, kept in files:
        path = copy / name
        if not _same(path, digest):
            atomic_write(path, get(kept))
        if not _same(path, digest):
            raise W2SError(f"{root.name}: it did not arrive whole on this node")
    return copy


def _own_folder() -> Path:
    """Where nobody else can change a plug-in between the look at it and its import."""
    own = Path(tempfile.gettempdir()) / f"w2s-node-files-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    found = own.lstat()  # of a link itself: it may lead anywhere
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise W2SError(f"{own}: not a folder of this user that others can't write to; remove it")
    return own
