"""Content-addressed store of features and soft labels: safetensors files with a checksum, named by their key's hash.

A key holds everything that changes the value (data fingerprint, recipe and parameters, seed, weights' hash,
versions), so an entry is never stale; a broken one is noticed, reported in one line and built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from benchmark.files import atomic_write

Arrays = dict[str, NDArray[Any]]
_FORMAT = 1
KINDS = ("features", "soft_labels", "downloads", "checkpoints")


def cache_root() -> Path:
    """The cache's folder: `W2S_CACHE`, or the user's cache folder of this system."""
    given = os.environ.get("W2S_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("w2s-bench", appauthor=False))


class Cache:
    """Named arrays by key.

    Args:
        root: folder; made when first written to.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or cache_root()

    def get(self, kind: str, key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
        """The arrays stored under `key`, built and stored when they are not there or broken.

        Of several processes that ask for one key, one builds and the others wait for it.
        """
        text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
        path = self.path(kind, key)
        if (found := self._read(path, text, quiet=True)) is not None:
            return found
        with _locked(path):
            if (found := self._read(path, text)) is not None:
                return found
            arrays = {name: np.ascontiguousarray(value) for name, value in build().items()}
            try:
                atomic_write(path, save(arrays, metadata={"key": text, "checksum": _checksum(arrays)}))
            except OSError as error:
                _say(f"cache: could not write {path.name} ({error}); going on without")
            return arrays

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where the entry of `key` is, or would be."""
        text = json.dumps({"format": _FORMAT, **key}, sort_keys=True)
        return self.root / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"

    def info(self) -> dict[str, tuple[int, int]]:
        """Kind -> (files, bytes), downloads included."""
        found: dict[str, tuple[int, int]] = {}
        for kind in KINDS:
            files = [p for p in (self.root / kind).rglob("*") if p.is_file() and p.suffix != ".lock"]
            found[kind] = (len(files), sum(p.stat().st_size for p in files))
        return found

    def clear(self) -> int:
        """Delete what the cache made, and nothing else that lies in its folder; returns the bytes freed."""
        freed = sum(size for _, size in self.info().values())
        for kind in KINDS:
            shutil.rmtree(self.root / kind, ignore_errors=True)
        return freed

    def _read(self, path: Path, text: str, quiet: bool = False) -> Arrays | None:
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            if metadata.get("key") != text:
                raise ValueError("it holds another key")
            if metadata.get("checksum") != _checksum(arrays):
                raise ValueError("its checksum differs")
        except Exception as error:  # whatever a broken file makes the reader raise
            if not quiet:  # said once, by whoever builds it
                _say(f"cache: {path.parent.name}/{path.name} is broken ({error}); building it again")
            return None
        return arrays


def _checksum(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except OSError:  # a read-only cache: build without a lock
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
