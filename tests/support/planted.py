"""Malicious pickles in many wrappings, and a watch over whoever unpickles."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


class Payload:
    """Unpickling this makes an empty file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return shutil.copyfile, (os.devnull, str(self.witness))


def _saved(write: Callable[[Any], None]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def pickles(witness: Path) -> dict[str, bytes]:
    """Name -> file content that makes `witness` when a careless reader opens it."""
    payload = Payload(witness)
    objects = np.array([payload], dtype=object)
    return {
        "protocol 0": pickle.dumps(payload, 0),
        "protocol 5": pickle.dumps(payload, 5),
        "torch": _saved(lambda file: torch.save({"a": payload}, file)),
        "torch, legacy": _saved(lambda file: torch.save({"a": payload}, file, _use_new_zipfile_serialization=False)),
        "npy": _saved(lambda file: np.save(file, objects)),
        "npz": _saved(lambda file: np.savez(file, a=objects, features=objects, labels=objects, soft_labels=objects)),
        "gzip": gzip.compress(pickle.dumps(payload, 0)),
    }


WRAPPINGS = list(pickles(Path("/")))


@dataclass
class Watch:
    """Attributes: witness: what a payload makes. unpickled: who has called a function that unpickles."""

    witness: Path
    unpickled: list[str] = field(default_factory=list)

    def assert_nothing_ran(self) -> None:
        assert not self.witness.exists()
        assert self.unpickled == []


@contextmanager
def watched(folder: Path) -> Iterator[Watch]:
    """Note every call of what unpickles. (Libraries may catch what it would raise.)"""
    watch = Watch(folder / "the payload ran")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load")):
            real = getattr(module, name)

            def noted(
                *arguments: Any, real: Any = real, name: str = f"{module.__name__}.{name}", **options: Any
            ) -> Any:
                watch.unpickled.append(name)
                return real(*arguments, **options)

            patch.setattr(module, name, noted)
        yield watch
