"""The cache never lies: what it gives was stored under this very key, whole, or is built again."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from benchmark.base.paths import cache_root
from benchmark.store import cache as cache_module
from benchmark.store.cache import Arrays, Cache

KEY = {"recipe": "made up", "seed": 1, "parameters": {"C": 0.5}}


class Builder:
    """Builds the same arrays each time, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Arrays:
        self.times += 1
        rng = np.random.default_rng(0)
        return {
            "train": rng.normal(size=(30, 4)).astype(np.float32),
            "ids": np.arange(7).reshape(7, 1).T,  # not contiguous
            "none": np.zeros((0, 3), np.float64),
        }


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.fixture
def build() -> Builder:
    return Builder()


def test_built_once_and_the_same_in_another_process_later(tmp_path: Path, build: Builder) -> None:
    first = Cache(tmp_path).get("features", KEY, build)
    assert_same(first, Builder()())
    for cache in (Cache(tmp_path), Cache(tmp_path)):
        assert_same(cache.get("features", KEY, build), first)
    assert build.times == 1
    assert Cache(tmp_path).path("features", KEY).is_file()


def header_length(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def at(needle: bytes, shift: int = 0) -> Callable[[bytes], int]:
    return lambda data: data.index(needle) + shift


FLIPS: dict[str, Callable[[bytes], int]] = {
    "header length, low byte": lambda data: 0,
    "header length, high byte": lambda data: 7,
    "header's first brace": lambda data: 8,
    "a name": at(b'"train"', 2),
    "a dtype": at(b'"F32"', 2),
    "a shape": at(b"[30,4]", 1),
    "an offset": at(b"data_offsets", 16),
    "key in the metadata": at(b"made up"),
    "name of the metadata's checksum": at(b"checksum"),
    "checksum": at(b"checksum", 15),
    "first byte of the payload": header_length,
    "middle of the payload": lambda data: (header_length(data) + len(data)) // 2,
    "last byte": lambda data: len(data) - 1,
}


def flip(position: Callable[[bytes], int], bit: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[position(data)] ^= 1 << bit
        return bytes(changed)

    return change


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"",
    "cut in the length": lambda data: data[:5],
    "cut in the header": lambda data: data[: header_length(data) // 2],
    "cut after the header": lambda data: data[: header_length(data)],
    "one byte short": lambda data: data[:-1],
    "one byte longer": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"<html>not found</html>",
    **{f"bit {bit} of {name}": flip(position, bit) for name, position in FLIPS.items() for bit in (0, 6)},
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_broken_entry_is_noticed_reported_in_one_line_and_rebuilt(
    tmp_path: Path, build: Builder, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    cache = Cache(tmp_path)
    expected = cache.get("features", KEY, build)
    path = cache.path("features", KEY)
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[how](whole))
    assert path.read_bytes() != whole
    assert capsys.readouterr().err == ""

    assert_same(cache.get("features", KEY, build), expected)
    assert build.times == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"cache: features/{path.name} is broken (")
    assert said[0].endswith("); building it again")

    assert_same(cache.get("features", KEY, build), expected)
    assert build.times == 2
    assert capsys.readouterr().err == ""


def test_another_keys_file_is_not_taken(tmp_path: Path, build: Builder, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path)
    other = {**KEY, "seed": 2}
    cache.get("features", other, lambda: {"train": np.ones(3)})
    path = cache.path("features", KEY)
    shutil.copy(cache.path("features", other), path)
    assert_same(cache.get("features", KEY, build), Builder()())
    assert build.times == 1
    assert f"{path.name} is broken (it holds another key)" in capsys.readouterr().err


def test_another_versions_file_is_not_taken(
    tmp_path: Path, build: Builder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_FORMAT", cache_module._FORMAT - 1)
        Cache(tmp_path).get("features", KEY, lambda: {"train": np.ones(3)})
    (older,) = (tmp_path / "features").glob("*.safetensors")
    path = Cache(tmp_path).path("features", KEY)
    assert older != path
    older.rename(path)
    assert_same(Cache(tmp_path).get("features", KEY, build), Builder()())
    assert f"{path.name} is broken (it holds another key)" in capsys.readouterr().err


def test_no_damage_of_many_is_ever_served(tmp_path: Path, build: Builder) -> None:
    """Bits flipped, tails cut off, bytes inserted and pages zeroed at random places."""
    cache, rng = Cache(tmp_path), random.Random(0)
    expected = cache.get("features", KEY, build)
    path = cache.path("features", KEY)
    whole = path.read_bytes()
    for times in range(100):
        data = bytearray(whole)
        at = rng.randrange(len(data))
        if times % 5 == 0:
            del data[at:]
        elif times % 5 == 1:
            data[at:at] = rng.randbytes(rng.randint(1, 9))
        elif times % 5 == 2:
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        else:
            data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        assert_same(cache.get("features", KEY, build), expected)
    assert build.times > 90


def test_different_keys_do_not_collide(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keys: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"seed": 2},
        {"seed": "1"},
        {"seed": 1.5},
        {"seed": None},
        {"Seed": 1},
        {"seed": 1, "size": None},
        {"seed": 1, "size": 12},
        {"a": "b", "c": "d"},
        {"a": "b,c:d"},
        {"a": ["b", "c"]},
        {"a": ["b,c"]},
        {"a": {"b": {"c": 1}}},
        {"a": {"b": 1, "c": 1}},
    ]
    for kind in ("features", "soft_labels"):
        for i, key in enumerate(keys):
            cache.get(kind, key, lambda i=i, kind=kind: {"value": np.array([i, len(kind)])})
    never = Builder()
    for kind in ("features", "soft_labels"):
        for i, key in enumerate(keys):
            assert cache.get(kind, key, never)["value"].tolist() == [i, len(kind)]
    assert never.times == 0


def test_the_order_of_a_keys_parts_does_not_matter(tmp_path: Path, build: Builder) -> None:
    for key in ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}):
        Cache(tmp_path).get("features", key, build)
    assert build.times == 1


# Each process says `asked` after it has looked and found nothing, and builds only after `go` is there. So both have
# missed before either builds, and a second build would happen if the lock or the second look behind it were missing.
TWO = """
import sys, time
from pathlib import Path
import numpy as np
from benchmark.store import cache

folder, name = Path(sys.argv[1]), sys.argv[2]
read = cache._held

def look(path, *args, **kwargs):
    found = read(path, *args, **kwargs)
    (folder / f"asked-{name}").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)
    return found

def build():
    (folder / f"built-{name}").touch()
    return {"value": np.arange(5)}

cache._held = look
print(cache.Cache(folder / "cache").get("features", {"seed": 1}, build)["value"].tolist())
"""


def test_two_processes_that_ask_for_one_key_build_once(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO, tmp_path, name], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    try:
        while not all((tmp_path / f"asked-{name}").exists() for name in "ab"):
            assert all(process.poll() is None for process in processes)
            os.sched_yield()
        (tmp_path / "go").touch()
        for process in processes:
            assert process.communicate(timeout=60)[0] == "[0, 1, 2, 3, 4]\n"
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
    assert len(list(tmp_path.glob("built-*"))) == 1


def test_a_killed_builders_lock_is_free(tmp_path: Path, build: Builder) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from benchmark.store.cache import Cache\n"
        f"Cache(Path(sys.argv[1])).get('features', {KEY!r}, lambda: os.kill(os.getpid(), signal.SIGKILL))"
    )
    process = subprocess.run([sys.executable, "-c", code, tmp_path], check=False, timeout=60)
    assert process.returncode == -9
    assert Cache(tmp_path).path("features", KEY).with_suffix(".lock").exists()
    Cache(tmp_path).get("features", KEY, build)
    assert build.times == 1


def test_what_killed_writers_of_an_entry_left_is_removed_when_it_is_built(tmp_path: Path, build: Builder) -> None:
    cache = Cache(tmp_path)
    others = cache.path("features", {**KEY, "seed": 2})
    left = [path.with_name(f".writing-{path.name}-0123.tmp") for path in (cache.path("features", KEY), others)]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"what SIGKILL left")
    cache.get("features", KEY, build)
    assert [path.exists() for path in left] == [False, True], "another may be writing its own entry"


def test_a_failed_build_stores_nothing_and_frees_the_lock(tmp_path: Path, build: Builder) -> None:
    def fail() -> Arrays:
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        Cache(tmp_path).get("features", KEY, fail)
    assert not Cache(tmp_path).path("features", KEY).exists()
    with filelock.FileLock(Cache(tmp_path).path("features", KEY).with_suffix(".lock"), timeout=0):
        pass
    Cache(tmp_path).get("features", KEY, build)
    assert build.times == 1


def test_a_folder_that_cannot_be_made_goes_on_without(
    tmp_path: Path, build: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    for times in (1, 2):
        assert_same(cache.get("features", KEY, build), Builder()())
        assert build.times == times
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert "could not write" in said[0]
        assert said[0].endswith("going on without")


def test_a_read_only_cache_is_read_and_goes_on_without_what_it_lacks(
    tmp_path: Path, build: Builder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions don't bind root, who may run the tests; so writing is refused here by hand."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    cache = Cache(tmp_path)
    cache.get("features", KEY, build)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(cache_module, "atomic_write", refuse)
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert_same(cache.get("features", KEY, build), Builder()())
    assert build.times == 1
    assert capsys.readouterr().err == ""
    assert_same(cache.get("features", {**KEY, "seed": 2}, build), Builder()())
    assert build.times == 2
    assert "Permission denied" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def held(cache: Cache) -> dict[str, tuple[int, int]]:
    """What `info` says of kinds with any files."""
    return {kind: counted for kind, counted in cache.info().items() if counted[0]}


def test_info_counts_files_and_bytes_and_clear_frees_them(tmp_path: Path, build: Builder) -> None:
    cache = Cache(tmp_path / "cache")
    assert held(cache) == {}
    assert cache.clear() == 0
    for seed in range(3):
        cache.get("features", {"seed": seed}, build)
    cache.get("soft_labels", KEY, build)
    (tmp_path / "cache" / "downloads" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / "deep" / "archive.zip").write_bytes(b"12345")
    sizes = {
        kind: [path.stat().st_size for path in (tmp_path / "cache" / kind).glob("*.safetensors")]
        for kind in ("features", "soft_labels")
    }
    assert held(cache) == {
        "downloads": (1, 5),
        "features": (3, sum(sizes["features"])),
        "soft_labels": (1, sum(sizes["soft_labels"])),
    }
    assert cache.clear() == 5 + sum(map(sum, sizes.values()))
    assert held(cache) == {}
    cache.get("features", {"seed": 0}, build)
    assert build.times == 5


def test_clear_leaves_alone_what_is_not_the_caches(tmp_path: Path, build: Builder) -> None:
    """`--cache` may name any folder, by mistake also one that holds other things."""
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"1")
    cache = Cache(tmp_path)
    cache.get("features", KEY, build)
    cache.clear()
    assert not list((tmp_path / "features").glob("*.safetensors"))
    assert (tmp_path / "thesis.tex").exists()
    assert (tmp_path / "photos" / "one.jpg").exists()


def test_the_root_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "mine"))
    assert cache_root() == Cache().root == tmp_path / "mine"
    monkeypatch.delenv("W2S_CACHE")
    assert cache_root().name == "w2s-bench"


def test_the_key_stands_in_the_file_for_whoever_looks(tmp_path: Path, build: Builder) -> None:
    from safetensors import safe_open

    cache = Cache(tmp_path)
    cache.get("features", KEY, build)
    with safe_open(cache.path("features", KEY), framework="numpy") as file:
        assert KEY.items() <= json.loads(file.metadata()["key"]).items()
