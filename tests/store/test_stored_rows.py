"""Rows in parts and in files, as NumPy gives them in one piece; entries in chunks, built and mended part by part."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from benchmark.base.errors import W2SError
from benchmark.store import cache as cache_module
from benchmark.store.cache import Arrays, Cache
from benchmark.store.stored_rows import Mapped, StoredRows, blocks, gather, read_header
from support.laws import generators

KEY = {"recipe": "made up"}
N = 19  # with chunks of 8: 8, 8, 3


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 8)


def whole(n: int = N) -> Arrays:
    rng = np.random.default_rng(0)
    return {"half": rng.normal(size=(n, 3)).astype(np.float32), "full": rng.normal(size=(n, 5)).astype(np.float32)}


@given(generators, st.lists(st.integers(0, 9), min_size=1, max_size=4), st.sampled_from(((), (3,), (2, 3))), st.data())
def test_rows_of_parts_in_memory_and_in_files_are_those_of_numpy(
    rng: np.random.Generator, sizes: list[int], shape: tuple[int, ...], data: st.DataObject
) -> None:
    dtype = data.draw(st.sampled_from(TYPES))
    parts = [rng.integers(100, size=(n, *shape)).astype(dtype) for n in sizes]
    x = np.concatenate(parts)
    index = rng.integers(len(x), size=data.draw(st.sampled_from(((0,), (5,), (3, 2))))) if len(x) else np.zeros(0, int)
    with TemporaryDirectory() as folder:
        save_file({f"{i}": part for i, part in enumerate(parts)}, Path(folder) / "x.safetensors")
        _, stored = read_header(Path(folder) / "x.safetensors")
        for own in (parts, [stored[f"{i}"] if rng.random() < 0.5 else part for i, part in enumerate(parts)]):
            found = gather(own, index)
            assert found.dtype == x.dtype
            np.testing.assert_array_equal(found, x[index])
            pieces = list(blocks(own, 4))
            assert all(len(piece) <= 4 for _, piece in pieces)
            for start, piece in pieces:
                np.testing.assert_array_equal(piece, x[start : start + len(piece)])
            assert sum(len(piece) for _, piece in pieces) == len(x)


TYPES = ("f8", "f4", "f2", "?", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1")


class Builder:
    """Yields slices of `whole`; remembers which, and dies before the given one."""

    def __init__(self, dies_before: int | None = None) -> None:
        self.built: list[int] = []
        self.dies_before = dies_before

    def __call__(self, ranges: list[slice]) -> Iterator[Arrays]:
        for r in ranges:
            if r.start == self.dies_before:
                raise KeyboardInterrupt
            self.built.append(r.start)
            yield {name: x[r] for name, x in whole().items()}


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.safetensors"))


def assert_whole(found: dict[str, list]) -> None:
    assert list(found) == ["full", "half"] or list(found) == ["half", "full"]
    rows = np.random.default_rng(1).permutation(N)
    for name, x in whole().items():
        for index in (np.arange(N), rows, rows[:4], rows[:6].reshape(3, 2), rows[:0]):
            got = gather(found[name], index)
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got, x[index])


def test_built_once_and_read_from_the_files_afterwards(tmp_path: Path) -> None:
    build = Builder()
    for _ in range(2):
        found = Cache(tmp_path).get_chunks("features", KEY, N, build)
        assert_whole(found)
        assert all(isinstance(part, StoredRows) for parts in found.values() for part in parts)
    assert build.built == [0, 8, 16]
    assert len(files(tmp_path)) == 3


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).get_chunks("features", KEY, N, Builder(dies_before=16))
    assert len(files(tmp_path)) == 2
    again = Builder()
    assert_whole(Cache(tmp_path).get_chunks("features", KEY, N, again))
    assert again.built == [16]


def test_what_killed_writers_left_is_removed_when_all_chunks_are_there(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).get_chunks("features", KEY, N, Builder(dies_before=16))
    folder = files(tmp_path)[0].parent
    (folder / ".writing-000001.safetensors-0123.tmp").write_bytes(b"what SIGKILL left")
    Cache(tmp_path).build_chunks("features", KEY, N, [2], Builder())
    Cache(tmp_path).get_chunks("features", KEY, N, Builder())
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{i:06d}.safetensors" for i in range(3)),
        "complete.json",
    ]


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "swapped", "another version's", "gone"])
def test_only_a_broken_chunk_is_built_again(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Cache(tmp_path).get_chunks("features", KEY, N, Builder())
    first, second, _ = files(tmp_path)
    data = bytearray(second.read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
    elif damage == "cut":
        data = data[:-4]
    elif damage == "emptied":
        data.clear()
    elif damage == "another version's":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cache_module, "_FORMAT", cache_module._FORMAT - 1)
            Cache(tmp_path / "older").get_chunks("features", KEY, N, Builder())
        data = bytearray(files(tmp_path / "older")[1].read_bytes())
    elif damage == "swapped":  # whole and of the right shape, but of other examples
        data = bytearray(first.read_bytes())
    second.write_bytes(data)
    if damage == "gone":
        second.unlink()
    capsys.readouterr()
    again = Builder()
    assert_whole(Cache(tmp_path).get_chunks("features", KEY, N, again))
    assert again.built == [8]
    said = capsys.readouterr().err
    if damage == "gone":
        assert said == ""
    else:
        assert said.count("\n") == 1
        assert "1 of 3 chunks" in said
        assert "000001" in said
    assert_whole(Cache(tmp_path).get_chunks("features", KEY, N, again))
    assert again.built == [8]


@pytest.mark.parametrize("mark", [True, False])
def test_two_chunks_in_each_others_place(mark: bool, tmp_path: Path) -> None:
    Cache(tmp_path).get_chunks("features", KEY, N, Builder())
    first, second, _ = files(tmp_path)
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    if not mark:
        (first.parent / "complete.json").unlink()
    again = Builder()
    assert_whole(Cache(tmp_path).get_chunks("features", KEY, N, again))
    assert again.built == [0, 8]


@pytest.mark.parametrize("change", ["written", "replaced", "cut", "deleted"])
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("how", [lambda rows: rows[np.array([1])], lambda rows: rows.read(0, 1), Mapped])
def test_a_chunk_that_changes_after_it_was_checked_is_not_read(
    how: Callable[[StoredRows], object], built: bool, change: str, tmp_path: Path
) -> None:
    if not built:
        Cache(tmp_path).get_chunks("features", KEY, N, Builder())
    found = Cache(tmp_path).get_chunks("features", KEY, N, Builder())["full"]
    path = files(tmp_path)[1]
    whole = path.read_bytes()
    os.utime(path, ns=(0, path.stat().st_mtime_ns))  # being read is no change
    how(found[1])  # type: ignore[arg-type]
    if change == "written":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # the clock of file systems is coarse
    elif change == "replaced":
        (tmp_path / "other").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        (tmp_path / "other").rename(path)
    elif change == "cut":
        path.write_bytes(whole[:-4])
    else:
        path.unlink()
    with pytest.raises(W2SError, match=rf"{path}.*; run again"):
        how(found[1])  # type: ignore[arg-type]
    gather(found, np.arange(8))  # the others are as they were


def test_other_keys_and_sizes_are_other_entries(tmp_path: Path) -> None:
    cache, build = Cache(tmp_path), Builder()
    cache.get_chunks("features", KEY, N, build)
    cache.get_chunks("features", {"recipe": "another"}, N, build)
    cache.get_chunks("features", KEY, 8, build)
    assert build.built == [0, 8, 16, 0, 8, 16, 0]


def test_what_can_not_be_written_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(cache_module, "atomic_write", refuse)
    assert_whole(Cache(tmp_path).get_chunks("features", KEY, N, Builder()))
    assert "disk full" in capsys.readouterr().err


def test_info_counts_chunks_and_clear_deletes_them(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.get_chunks("features", KEY, N, Builder())
    count, size = cache.info()["features"]
    assert count == 4  # and the mark
    assert size > sum(x.nbytes for x in whole().values())
    assert cache.clear() == size
    assert cache.info()["features"] == (0, 0)
    build = Builder()
    cache.get_chunks("features", KEY, N, build)
    assert build.built == [0, 8, 16]


def test_memory_does_not_grow_with_the_number_of_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 256)
    chunk = 256 * 1024 * 4

    def build(ranges: list[slice]) -> Iterator[Arrays]:
        return ({"full": np.full((r.stop - r.start, 1024), r.start, np.float32)} for r in ranges)

    def peaks(chunks: int) -> tuple[int, int]:
        """Of building, and of reading a few rows."""
        found = []
        for _ in range(2):
            tracemalloc.start()
            parts = Cache(tmp_path).get_chunks("features", KEY, chunks * 256, build)["full"]
            rows = np.arange(0, chunks * 256, chunks)
            assert (gather(parts, rows)[:, 0] == rows // 256 * 256).all()
            found.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return found[0], found[1]

    few, many = peaks(4), peaks(16)
    assert max(many) < 5 * chunk
    for a, b in zip(few, many, strict=True):
        assert b < a + chunk
