"""Content-addressed store of features and soft labels: safetensors files with a checksum, named by their key's hash.

A key holds everything that changes the value (data fingerprint, recipe and parameters, seed, weights' hash,
versions), so an entry is never stale; a broken one is noticed, reported in one line and built again.
"""

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from benchmark.base.files import atomic_file, atomic_write, remove_temporaries, remove_temporaries_of
from benchmark.base.fingerprint import canonical, fingerprint
from benchmark.base.notices import notice
from benchmark.base.paths import cache_root
from benchmark.store.mirror import Mirror
from benchmark.store.stored_rows import CHUNK, Part, StoredRows, blocks, read_header

Arrays = dict[str, NDArray[Any]]
Loaded = TypeVar("Loaded", bound=Mapping[str, Part])
_FORMAT = 1
KINDS = ("features", "tables", "soft_labels", "downloads", "checkpoints", "models", "analyses")


class Cache:
    """Named arrays by key.

    Args:
        root: folder; made when first written to.
        address: where machines that don't see the folder share its entries (`benchmark.store.mirror`): what is lacking
            here is fetched from there, what is built here is put there. When that fails, work goes on without.
    """

    def __init__(self, root: Path | None = None, address: str | None = None) -> None:
        self.root = root or cache_root()
        self.mirror = None if address is None else Mirror(address, self.root)

    def get(self, kind: str, key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
        """The arrays stored under `key`, built and stored when they are not there or broken.

        Of several processes that ask for one key, one builds and the others wait for it.
        """
        text, path = _text(key), self.path(kind, key)
        if (found := _held(path, text, quiet=True)) is not None:
            self._share(path)
            return found
        with locked(path):
            if (found := _held(path, text, quiet=self.mirror is not None)) is not None:
                return found
            if self._fetch([path]) and (found := _held(path, text)) is not None:
                return found
            arrays = {name: np.ascontiguousarray(value) for name, value in build().items()}
            self._write(path, text, arrays)
            return arrays

    def read(self, kind: str, key: Mapping[str, Any]) -> Arrays | None:
        """The arrays stored under `key`; None when they are not there, or broken."""
        return _held(self.path(kind, key), _text(key))

    def write(self, kind: str, key: Mapping[str, Any], arrays: Arrays) -> None:
        """Store arrays under `key`, in the place of others there. What can't be written is left."""
        self._write(self.path(kind, key), _text(key), arrays)

    def get_rows(self, kind: str, key: Mapping[str, Any], build: Callable[[], Arrays]) -> dict[str, list[Part]]:
        """As `get`, in one part that is not read: for `stored_rows.gather`. What can't be written stays in memory."""
        text, path = _text(key), self.path(kind, key)
        if (found := _stored(path, text)) is not None:
            self._share(path)
            return _by_name([found])
        made = self.get(kind, key, build)
        return _by_name([_stored(path, text) or made])

    def get_tables(
        self, kind: str, key: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], fill: Callable[[BinaryIO], None]
    ) -> dict[str, StoredRows] | None:
        """Float32 arrays of these shapes stored under `key`, in one file that is never held in memory.

        They stay on this machine: a mirror holds whole files in memory, and has what they are made from.

        Args:
            fill: given a file that stands where the data begin, writes the arrays there, one after the other in the
                order of their names.

        Returns:
            The arrays, or None where they can't be written (said in one line).
        """
        folder = self.path(kind, key).with_suffix("")
        path, text = folder / "tables.safetensors", _text(key)
        if (found := _stored(path, text)) is not None:
            return found
        with locked(folder):
            if (found := _stored(path, text, quiet=False)) is not None:
                return found
            try:
                folder.mkdir(parents=True, exist_ok=True)
                remove_temporaries(folder)  # large ones, of killed builds
                with atomic_file(path) as file:
                    file.write(_header(text, "0" * 64, shapes))
                    file.flush()
                    fill(file)
                    file.flush()
                    checksum = _checksum(read_header(Path(file.name))[1])
                    file.seek(0)
                    file.write(_header(text, checksum, shapes))
            except OSError as error:
                notice(f"cache: could not write {kind}/{folder.name} ({error}); going on in memory")
                return None
        return read_header(path)[1]

    def get_chunks(
        self, kind: str, key: Mapping[str, Any], n: int, build: Callable[[list[slice]], Iterator[Arrays]]
    ) -> dict[str, list[Part]]:
        """The arrays of n examples stored under `key`, in parts of at most `CHUNK` examples, as `get_rows`.

        For what is too large to hold at once: each part is on disk before the next is built, so an interrupted build
        goes on where it stopped. Broken parts are reported in one line, and only they are built again. Where nothing
        can be written, the parts stay in memory.

        Args:
            build: given the ranges of examples that are lacking, yields the arrays of each in turn.
        """
        chunked = _Chunked(self, kind, key, n)
        if chunked.mark.exists() and None not in (found := chunked.read()):
            self._share(*(path for path, _ in chunked.entries))
            return _by_name(found)
        with locked(chunked.folder):
            found = chunked.read()
            if self._fetch([path for (path, _), part in zip(chunked.entries, found, strict=True) if part is None]):
                found = chunked.read()
            lacking = [i for i, part in enumerate(found) if part is None]
            if broken := [chunked.entries[i][0].stem for i in lacking if chunked.entries[i][0].exists()]:
                what = f"{len(broken)} of {len(found)} chunks of {kind}/{chunked.folder.name} are broken"
                notice(f"cache: {what} ({', '.join(broken[:5])}); building them again")
            for i, arrays, written in chunked.build(lacking, build):
                found[i] = read_header(chunked.entries[i][0])[1] if written else arrays
            if all(path.exists() for path, _ in chunked.entries):
                with contextlib.suppress(OSError):  # without it, the next reader takes the lock and looks again
                    remove_temporaries(chunked.folder)  # workers write without the lock, but now none needs to
                    atomic_write(chunked.mark, chunked.text.encode())
        return _by_name(found)

    def lacking_chunks(self, kind: str, key: Mapping[str, Any], n: int) -> list[int]:
        """Positions of the chunks of `get_chunks` that are not there; one that is there may be broken."""
        entries = [path for path, _ in _Chunked(self, kind, key, n).entries]
        there = self._share(*entries)
        return [i for i, path in enumerate(entries) if not path.exists() and path not in there]

    def build_chunks(
        self,
        kind: str,
        key: Mapping[str, Any],
        n: int,
        wanted: Sequence[int],
        build: Callable[[list[slice]], Iterator[Arrays]],
        made: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Build some chunks of `get_chunks`, by their positions, unless they are there: one worker's share of them.

        Args:
            made: told how many are done, one by one.
        """
        chunked = _Chunked(self, kind, key, n)
        there = self._share(*(chunked.entries[i][0] for i in wanted))
        lacking = [i for i in wanted if chunked.entries[i][0] not in there and _stored(*chunked.entries[i]) is None]
        for count, _ in enumerate(chunked.build(lacking, build), 1):
            made(count)

    def width(self, kind: str, key: Mapping[str, Any], name: str, chunks_of: int | None) -> int | None:
        """Columns of the rows `name` of `get_rows`, or of the `get_chunks` of so many, if they are all on this machine;
        a file that is broken counts as there."""
        whole = [self.path(kind, key)]
        paths = whole if chunks_of is None else [path for path, _ in _Chunked(self, kind, key, chunks_of).entries]
        if not all(path.exists() for path in paths):
            return None
        with contextlib.suppress(Exception):
            return read_header(paths[0])[1][name].shape[-1]
        return None

    def path(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where the entry of `key` is, or would be."""
        return self.root / kind / f"{fingerprint({'format': _FORMAT, **key})[:32]}.safetensors"

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

    def _write(self, path: Path, text: str, arrays: Arrays) -> bool:
        try:
            atomic_write(path, save(arrays, metadata={"key": text, "checksum": _checksum(arrays)}))
        except OSError as error:
            notice(f"cache: could not write {path.name} ({error}); going on without")
            return False
        if self.mirror is not None:
            self.mirror.put([self._name(path)])
        return True

    def _share(self, *paths: Path) -> set[Path]:
        """Put those entries (of one folder) at the address that are here and not there; which were there."""
        if self.mirror is None:
            return set()
        names = {self._name(path): path for path in paths}
        there = self.mirror.has(list(names))
        self.mirror.put([name for name, path in names.items() if name not in there and path.exists()])
        return {names[name] for name in there}

    def _fetch(self, paths: Sequence[Path]) -> bool:
        """Bring entries here from the address; whether any came."""
        return self.mirror is not None and self.mirror.fetch([self._name(path) for path in paths])

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class _Chunked:
    """Where the chunks of one entry are, each with its key."""

    def __init__(self, cache: Cache, kind: str, key: Mapping[str, Any], n: int) -> None:
        whole = {**key, "examples": n, "chunk": CHUNK}
        self._cache, self.text = cache, _text(whole)
        self.folder = cache.path(kind, whole).with_suffix("")
        self.mark = self.folder / "complete.json"
        self.ranges = [slice(start, min(start + CHUNK, n)) for start in range(0, max(n, 1), CHUNK)]
        self.entries = [
            (self.folder / f"{i:06d}.safetensors", _text({**whole, "range": [r.start, r.stop]}))
            for i, r in enumerate(self.ranges)
        ]

    def read(self) -> list[Any]:
        """Each chunk's arrays as they lie in its file, None for those that lack or are broken."""
        return [_stored(*entry) for entry in self.entries]

    def build(
        self, wanted: Sequence[int], build: Callable[[list[slice]], Iterator[Arrays]]
    ) -> Iterator[tuple[int, Arrays, bool]]:
        """Position, arrays and whether they could be written, for each of the chunks in turn."""
        made = build([self.ranges[i] for i in wanted]) if wanted else ()
        for i, parts in zip(wanted, made, strict=True):
            arrays = {name: np.ascontiguousarray(value) for name, value in parts.items()}
            yield i, arrays, self._cache._write(*self.entries[i], arrays)


def _sound(path: Path, text: str, load: Callable[[Path], tuple[dict[str, str], Loaded]], quiet: bool) -> Loaded | None:
    """The arrays that `load` finds in a file; None where it is not there, another entry's, or broken (said in a line
    unless `quiet`: once, by whoever builds it)."""
    if not path.exists():
        return None
    try:
        metadata, arrays = load(path)
        if metadata.get("key") != text:
            raise ValueError("it holds another key")
        if metadata.get("checksum") != _checksum(arrays):
            raise ValueError("its checksum differs")
    except Exception as error:  # whatever a broken file makes the reader raise
        if not quiet:
            notice(f"cache: {path.parent.name}/{path.name} is broken ({error}); building it again")
        return None
    return arrays


def _stored(path: Path, text: str, quiet: bool = True) -> dict[str, StoredRows] | None:
    """As `_held`, but the arrays are only looked through, block by block."""
    return _sound(path, text, read_header, quiet)


def _held(path: Path, text: str, quiet: bool = False) -> Arrays | None:
    """The arrays of an entry, None when it is not there or broken."""

    def load(path: Path) -> tuple[dict[str, str], Arrays]:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)

    return _sound(path, text, load, quiet)


def _text(key: Mapping[str, Any]) -> str:
    return canonical({"format": _FORMAT, **key})


def _header(text: str, checksum: str, shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The beginning of a safetensors file of float32 arrays, in the order of their names."""
    content: dict[str, Any] = {"__metadata__": {"key": text, "checksum": checksum}}
    start = 0
    for name in sorted(shapes):
        stop = start + 4 * math.prod(shapes[name])
        content[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [start, stop]}
        start = stop
    header = json.dumps(content).encode()
    header += b" " * (-len(header) % 8)  # as safetensors itself aligns the data
    return len(header).to_bytes(8, "little") + header


def _by_name(parts: Sequence[Any]) -> dict[str, list[Part]]:
    return {name: [part[name] for part in parts] for name in parts[0]}


def _checksum(arrays: Mapping[str, Part]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        if isinstance(value, StoredRows):
            for _, block in blocks([value]):
                digest.update(block.data)
        else:
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[OSError | None]:
    """Others wait; what killed writers of the file left is removed. Yields why nothing can be locked here, if so."""
    lock, failure = FileLock(path.with_suffix(".lock")), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        remove_temporaries_of(path)
    except OSError as error:  # a read-only cache
        failure = error
    try:
        yield failure
    finally:
        lock.release()
