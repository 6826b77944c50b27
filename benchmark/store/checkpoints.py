"""The state of one training, written while it goes on, so that a killed one goes on where it stopped.

A checkpoint is a safetensors file named by the hash of everything that decides the training; it holds that key, so one
from other settings is told apart even when somebody moved it, and a checksum.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from benchmark.base.errors import W2SError
from benchmark.base.files import atomic_write
from benchmark.base.fingerprint import canonical, fingerprint
from benchmark.base.notices import notice
from benchmark.store.cache import locked
from benchmark.store.mirror import Mirror

FOLDER = "checkpoints"


@dataclass(frozen=True)
class Checkpoints:
    """Where one training's state is kept.

    Attributes:
        path: the file; None keeps nothing.
        key: canonical JSON of everything that decides the training.
        mirror: of the cache, if it is shared at an address: another machine goes on from what is there.
    """

    path: Path | None
    key: str = ""
    mirror: Mirror | None = None

    @classmethod
    def of(cls, root: Path, key: Mapping[str, Any], mirror: Mirror | None = None) -> "Checkpoints":
        """Those of the training that `key` (JSON values) decides, in the cache folder `root`."""
        return cls(root / FOLDER / f"{fingerprint(key)[:32]}.safetensors", canonical(key), mirror)

    def part(self, name: str) -> "Checkpoints":
        """Those of one part of the training: a stage."""
        if self.path is None:
            return self
        return replace(self, path=self.path.with_name(f"{self.path.stem}-{name}.safetensors"), key=f"{self.key}|{name}")

    def save(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Replace the state: tensors of any device, and JSON values that say how far training is.

        Training goes on where it can't be written, on a full disk, say.
        """
        if self.path is not None:
            state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            text = canonical({"key": self.key, "progress": progress})
            metadata = {"checkpoint": text, "checksum": _checksum(state, text)}
            try:
                atomic_write(self.path, save(state, metadata=metadata))
            except OSError as error:
                notice(f"checkpoint {self.path} cannot be written ({error}); going on without")
                return
            if self.mirror is not None:
                self.mirror.put([f"{FOLDER}/{self.path.name}"])

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state that was saved last (on the CPU), or None; a broken file is reported in a line and counts as none.

        Raises:
            W2SError: the file belongs to a training with other settings.
        """
        if self.path is None:
            return None
        if self.mirror is not None:
            self.mirror.fetch([f"{FOLDER}/{self.path.name}"])
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            if metadata["checksum"] != _checksum(tensors, metadata["checkpoint"]):
                raise ValueError("its checksum differs")
            found = json.loads(metadata["checkpoint"])
            key, progress = found["key"], found["progress"]
        except Exception as error:  # whatever a broken file makes the reader raise
            notice(f"checkpoint {self.path.name} is broken ({error}); training starts anew")
            return None
        if key != self.key:
            raise W2SError(
                f"checkpoint {self.path}: it is of a training with other settings ({_difference(key, self.key)}); "
                "move it away, or run with the settings that it was made with"
            )
        return tensors, progress

    @contextlib.contextmanager
    def locked(self) -> Iterator["Checkpoints"]:
        """Only one process at a time trains this; a second one waits, and finds it done. Yields these; where nothing
        can be written, such that keep nothing."""
        if self.path is None:
            yield self
            return
        with locked(self.path) as failure:
            if failure is not None:
                notice(f"checkpoint {self.path} cannot be written ({failure}); going on without")
            yield self if failure is None else Checkpoints(None)

    def discard(self) -> None:
        """Delete the state, those of all parts, and what was left of them by a kill."""
        if self.path is not None:
            try:
                for path in self.path.parent.glob(f"*{self.path.stem}*"):
                    path.unlink(missing_ok=True)
            except OSError as error:  # it is in nobody's way
                notice(f"checkpoint {self.path} cannot be deleted ({error}); it stays")
            if self.mirror is not None:
                own = f"{FOLDER}/{self.path.stem}"
                self.mirror.remove([name for name in self.mirror.files(FOLDER) if name.startswith(own)])


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _difference(found: str, wanted: str) -> str:
    """The first setting that differs."""
    try:
        a, b = json.loads(found.split("|")[0]), json.loads(wanted.split("|")[0])
        name = next(name for name in sorted({*a, *b}) if a.get(name) != b.get(name))
        return f"{name}: found {a.get(name)}, expected {b.get(name)}"
    except (ValueError, StopIteration):
        return "unknown ones"
