"""Cache files that are not what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from places import Place
from safetensors import safe_open
from safetensors.numpy import save_file


def flip_a_bit(path: Path, other: Path, rng: np.random.Generator) -> list[Path]:
    """Anywhere: in the header, the metadata, an array."""
    data = bytearray(path.read_bytes())
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return [path]


def truncate(path: Path, other: Path, rng: np.random.Generator) -> list[Path]:
    """To any length."""
    data = path.read_bytes()
    path.write_bytes(data[: int(rng.integers(1, len(data)))])
    return [path]


def empty(path: Path, other: Path, rng: np.random.Generator) -> list[Path]:
    """To none."""
    path.write_bytes(b"")
    return [path]


def swap(path: Path, other: Path, rng: np.random.Generator) -> list[Path]:
    """Two whole entries, each under the other's name."""
    own, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(own)
    return [path, other]


def another_version(path: Path, other: Path, rng: np.random.Generator) -> list[Path]:
    """Whole, of this name, but made by another version of the project: with other numbers and their true checksum."""
    from benchmark.store.cache import _checksum

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
        arrays = {name: file.get_tensor(name)[::-1].copy() for name in file.keys()}  # noqa: SIM118 (not a dict)
    key = json.loads(metadata["key"])
    key["protocol" if "protocol" in key else "format"] = 0
    save_file(arrays, path, {"key": json.dumps(key, sort_keys=True), "checksum": _checksum(arrays)})
    return [path]


KINDS: tuple[Callable[[Path, Path, np.random.Generator], list[Path]], ...] = (
    flip_a_bit,
    truncate,
    empty,
    swap,
    another_version,
)


def corrupted(place: Place, rng: np.random.Generator) -> None:
    """A run over several broken entries names each of them, makes it again, and ends with the undisturbed results."""
    paths = sorted((place.cache / "soft_labels").glob("*.safetensors"))
    dealt = [Path(path) for path in rng.permutation(paths)[: 2 * len(KINDS)]]
    own, others = dealt[: len(KINDS)], dealt[len(KINDS) :]
    if rng.random() < 0.2:  # features take long to make again
        own[int(rng.integers(len(KINDS)))] = Path(rng.choice(sorted((place.cache / "features").glob("*.saf*"))))
    broken = [path for spoil, one, other in zip(KINDS, own, others, strict=True) for path in spoil(one, other, rng)]
    place.tally.faults += len(KINDS)
    ended = place.finish()
    place.tally.expect(place.did_all(ended), f"{ended}")
    for path in broken:
        named = f"{path.parent.name}/{path.name} is broken"
        place.tally.expect(named in ended.err, f"{named}: not said in {ended.err!r}")
