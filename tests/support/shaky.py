"""A file system of fsspec over a folder, `shaky://`, that fails where it is told to; S3's behaviour, on a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Shaky(LocalFileSystem):
    """See the module.

    Attributes:
        root: the folder.
        fails: whether this call (operation, path below the root) goes wrong: a write then leaves half a file.
        calls: what was asked for.
    """

    protocol = "shaky"
    root: ClassVar[Path]
    fails: ClassVar[Callable[[str, str], bool]] = staticmethod(lambda operation, name: False)
    calls: ClassVar[list[tuple[str, str]]] = []

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return str(path) if str(path).startswith(str(cls.root)) else f"{cls.root}/{str(path).removeprefix('shaky://')}"

    def _step(self, operation: str, path: str) -> bool:
        name = Path(path).relative_to(self.root).as_posix()
        self.calls.append((operation, name))
        return type(self).fails(operation, name)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        broken = self._step("write", path)
        with Path(path).open("xb" if mode == "create" else "wb") as file:
            file.write(value[: len(value) // 2] if broken else value)
        if broken:
            raise ConnectionError("the line broke")

    def cat_file(self, path: str, *more: Any, **options: Any) -> bytes:
        if self._step("read", path):
            raise ConnectionError("the line broke")
        return Path(path).read_bytes()

    def exists(self, path: str, **options: Any) -> bool:
        if self._step("look", path):
            raise ConnectionError("the line broke")
        return Path(path).exists()

    def mv(self, source: str, target: str, **options: Any) -> None:
        if self._step("rename", target):
            raise ConnectionError("the line broke")
        Path(source).replace(target)

    def rm_file(self, path: str) -> None:
        if self._step("remove", path):
            raise ConnectionError("the line broke")
        Path(path).unlink()


@contextmanager
def shaky(root: Path) -> Iterator[type[Shaky]]:
    """Make the protocol known; it fails nowhere at first."""
    Shaky.root, Shaky.calls = root, []
    Shaky.fails = staticmethod(lambda operation, name: False)
    fsspec.register_implementation("shaky", Shaky, clobber=True)
    yield Shaky
