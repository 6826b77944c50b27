"""Large pools: the same rows, minibatches and predictions as in memory, from tables on disk that are made once."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
import tracemalloc
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from benchmark.arrays import ArrayTask
from benchmark.base import files as files_module
from benchmark.base.errors import MethodFailed
from benchmark.core import minibatches
from benchmark.core.data import SPLITS, Problem, Recipe
from benchmark.core.method import Batch
from benchmark.core.problems import build_problem, training_data
from benchmark.core.training import TrainingData, train
from benchmark.store.cache import Cache
from benchmark.store.stored_rows import Mapped, StoredRows, read_header
from benchmark.students import rows, streamed
from benchmark.students.linear import Heads, LinearStudent
from benchmark.students.rows import DiskFeatures, standardised
from benchmark.students.standardiser import Standardiser
from benchmark.students.streamed import ReadAhead, Streamed, placed
from support.made_up import Blobs, make_arrays
from support.rounding import assert_close
from support.trained import SEEDS, Ensemble, Single, Staged, make_data


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools are large from 40 train examples on; windows of 32, in blocks of 8; regions of a table of 20 rows."""
    monkeypatch.setattr(minibatches, "WHOLE", 40)
    for module in (minibatches, streamed):
        monkeypatch.setattr(module, "SHUFFLE_BLOCK", 8)
        monkeypatch.setattr(module, "WINDOW", 32)
    monkeypatch.setattr(rows, "REGION", 20 * 4 * 5)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def splits_of(cache: Cache, pairs: bool, source: str = "made up") -> dict[str, DiskFeatures]:
    """100 rows of 5 features in two arrays and a file, dealt in random order."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(100, 5)) * [1, 2, 3, 0, 1] + [0, 1, 1000, 7, 0]).astype(np.float32)
    path = cache.root.parent / "some.safetensors"
    save_file({"other": x[:3], "x": x[60:90]}, path)
    parts = (x[:60], read_header(path)[1]["x"], x[90:])
    order = rng.permutation(100).reshape((50, 2) if pairs else (100,))
    cuts = np.split(order, [len(order) * 6 // 10, len(order) * 7 // 10])
    return {split: DiskFeatures(parts, part, source, cache) for split, part in zip(SPLITS, cuts, strict=True)}


@pytest.mark.parametrize("pairs", [False, True])
def test_tables_are_the_splits_standardised_in_their_own_order(small: None, cache: Cache, pairs: bool) -> None:
    splits = splits_of(cache, pairs)
    tables = standardised(splits)
    expected = Standardiser.of(torch.from_numpy(np.asarray(splits["train"])))
    for split, own in splits.items():
        assert own.shape == ((*own.index.shape, 5))
        table = tables[split]
        assert isinstance(table, StoredRows)
        found = table.read(0, len(table))
        raw = np.asarray(own)
        size = np.abs(raw).reshape(-1, 5).max(0) / expected.scale.numpy()  # of what the mean is taken from
        assert_close(found, expected(torch.from_numpy(raw)), len(raw), scale=size)
        np.testing.assert_array_equal(found, load_file(table.path)[split])
        np.testing.assert_array_equal(found[[3, 1]], table[np.array([3, 1])])
    (path,) = cache.root.rglob("*.safetensors")
    before = path.stat().st_mtime_ns
    standardised(splits)
    assert path.stat().st_mtime_ns == before
    standardised(splits_of(cache, pairs, source="another"))
    assert len(list(cache.root.rglob("*.safetensors"))) == 2


def test_statistics_in_one_pass_are_those_in_memory() -> None:
    x = torch.randn(5000, 6) * torch.tensor([1e-3, 1, 10, 0, 1, 1]) + torch.tensor([0, 1, 1e4, 3, -100, 0.1])
    mean, scale = Standardiser.of_pieces(iter(x.split(700)))
    exact = x.double()
    deviation = exact.std(0, correction=0)
    expected = torch.where(deviation > 1e-6, deviation, 1.0)
    assert_close(mean, exact.mean(0), 1, scale=exact.mean(0).abs())
    assert_close(scale, expected, 1, scale=expected)
    assert_close(Standardiser.of(x).scale, expected, 5000, scale=torch.maximum(x.abs().amax(0), expected))


@pytest.mark.parametrize("damage", ["flipped", "cut", "moved"])
def test_a_broken_table_is_said_and_made_again(
    small: None, cache: Cache, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = standardised(splits_of(cache, False))["train"]
    assert isinstance(table, StoredRows)
    good, data = table.path.read_bytes(), bytearray(table.path.read_bytes())
    if damage == "flipped":
        data[-100] ^= 1
    elif damage == "cut":
        data = data[:-8]
    else:
        other = standardised(splits_of(cache, False, source="another"))["train"]
        assert isinstance(other, StoredRows)
        data = bytearray(other.path.read_bytes())
    table.path.write_bytes(data)
    capsys.readouterr()
    standardised(splits_of(cache, False))
    assert capsys.readouterr().err.count("is broken") == 1
    assert table.path.read_bytes() == good


def test_a_killed_build_leaves_nothing_behind(small: None, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **where: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files_module.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            standardised(splits_of(cache, False))
    assert not list(cache.root.rglob("*.safetensors"))
    (folder,) = [path for path in (cache.root / "tables").iterdir() if path.is_dir()]
    (folder / ".writing-0123.tmp").write_bytes(b"what SIGKILL left")
    table = standardised(splits_of(cache, False))["train"]
    assert isinstance(table, StoredRows)
    assert list(folder.iterdir()) == [table.path]


def test_what_can_not_be_written_stays_in_memory(
    small: None, cache: Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = standardised(splits_of(cache, False))

    def refuse(*args: object, **where: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files_module.os, "replace", refuse)
    held = standardised(splits_of(cache, False, source="another"))
    assert "disk full" in capsys.readouterr().err
    for split, table in stored.items():
        assert isinstance(held[split], np.ndarray)
        np.testing.assert_array_equal(held[split], table[np.arange(len(table))])


def test_rows_beyond_the_parts_are_refused(cache: Cache) -> None:
    for bad in (-1, 5):
        with pytest.raises(IndexError, match="of 5"):
            DiskFeatures((np.zeros((5, 2), np.float32),), np.array([0, bad]), "made up", cache)


# ---- training


def on_disk(data: TrainingData, folder: Path, in_memory: bool = False) -> TrainingData:
    """The same data as tables in files; or as they are where files can't be written."""

    def tables(name: str, features: torch.Tensor) -> list[Any]:
        if in_memory:
            return list(features.numpy())
        path = folder / f"{name}.safetensors"
        save_file({str(s): own.numpy() for s, own in enumerate(features)}, path)
        header = read_header(path)[1]
        return [header[str(s)] for s in range(len(features))]

    features = {name: Streamed(tables(name, x.contiguous())) for name, x in data.features.items()}
    return replace(data, features=features)


@pytest.mark.parametrize("batch_size", [16, 12, 100])  # a part of a window, no part of it, larger than it
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("how", ["mapped", "held"])
def test_streamed_training_equals_training_in_memory(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, pairs: bool, how: str
) -> None:
    """Several methods at once, and one of several stages that keeps some examples: every weight is the same.

    Tables are mapped; or in memory, as the cache can't be written.
    """
    data, recipe = make_data(K=2 if pairs else 4, N=203, D=5, pairs=pairs), Recipe(1e-2, 3, batch_size)
    other = on_disk(data, tmp_path, how == "held")
    for a, b in zip(
        train([Single(), Ensemble(), Staged()], data, recipe),
        train([Single(), Ensemble(), Staged()], other, recipe),
        strict=True,
    ):
        assert isinstance(a.student, Heads)
        assert isinstance(b.student, Heads)
        assert torch.equal(a.student.weight, b.student.weight)
        features, there = data.features["full"], other.features["full"]
        assert_close(a.student.predict(features), b.student.predict(there), 16)


def test_the_first_window_of_an_epoch_is_opened_before_the_last_one_ends(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = on_disk(make_data(N=200), tmp_path)
    epoch, opened = len(SEEDS) * math.ceil(192 / 32), []
    monkeypatch.setattr(streamed, "Mapped", lambda table: opened.append(table) or Mapped(table))
    beyond, last = [], 1 - 0.5 / (192 // 16)

    @dataclass(eq=False)
    class Waits(Ensemble):
        def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            if batch.progress * 3 % 1 > last or batch.progress * 3 % 1 == 0:  # the last minibatch of an epoch
                before, until = epoch * (len(beyond) + 1), time.monotonic() + 20
                while len(opened) <= before < 3 * epoch and time.monotonic() < until:
                    time.sleep(0.01)
                beyond.append(len(opened) > before)
            return super().loss(logits, batch)

    train([Waits()], data, Recipe(1e-2, 3, 16))
    assert beyond == [True, True, False]
    assert len(opened) == 3 * epoch


@pytest.mark.parametrize("ending", [None, ValueError, KeyboardInterrupt], ids=["done", "failed", "interrupted"])
def test_nothing_of_a_training_stays_when_it_ends(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException] | None
) -> None:
    made: list[weakref.ref[ReadAhead]] = []
    init = ReadAhead.__init__
    monkeypatch.setattr(ReadAhead, "__init__", lambda s, f: made.append(weakref.ref(s)) or init(s, f))

    @dataclass(eq=False)
    class Ends(Ensemble):
        def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            if ending is not None and batch.progress > 0.4:
                raise ending
            return super().loss(logits, batch)

    data, threads = on_disk(make_data(N=200), tmp_path), threading.active_count()
    gc.disable()
    try:
        train([Ends()], data, Recipe(1e-2, 3, 16))
    except (MethodFailed, KeyboardInterrupt):
        assert ending is not None
    else:
        assert ending is None
    finally:
        left = [own() for own in made if own() is not None]
        gc.enable()
    assert len(made) == 1
    assert threading.active_count() == threads
    assert not left


def test_a_forked_copy_does_not_wait_for_threads_that_it_lacks(small: None, tmp_path: Path) -> None:
    here, copies = os.getpid(), []

    @dataclass(eq=False)
    class Forks(Ensemble):
        def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            if os.getpid() == here and not copies and (pid := os.fork()):
                copies.append(pid)
            return super().loss(logits, batch)

    try:
        train([Forks()], on_disk(make_data(N=200), tmp_path), Recipe(1e-2, 3, 16))
    except RuntimeError:  # in the copy
        os._exit(7)
    finally:
        if os.getpid() != here:
            os._exit(8)
    until = time.monotonic() + 20
    while (ended := os.waitpid(copies[0], os.WNOHANG)) == (0, 0) and time.monotonic() < until:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(copies[0], signal.SIGKILL)
        os.waitpid(copies[0], 0)
    assert ended[0], "the copy hangs"
    assert os.waitstatus_to_exitcode(ended[1]) == 7


def test_predictions_in_blocks_are_those_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.students import linear

    for pairs in (False, True):
        data = make_data(K=2 if pairs else 4, pairs=pairs)
        (trained,) = train([Single()], data, Recipe(epochs=1))
        whole = trained.student.predict(data.features["full"])
        with monkeypatch.context() as patch:
            patch.setattr(linear, "READ_ROWS", 32)
            assert_close(trained.student.predict(data.features["full"]), whole, 16)
            assert (trained.student.classes(data.features["full"]) == whole.argmax(-1)).all()
        assert (trained.student.classes(Streamed([*data.features["full"].numpy()])) == whole.argmax(-1)).all()


# ---- from the pool to predictions


def predictions(task: ArrayTask, cache: Cache) -> np.ndarray:
    problems = [build_problem(task, "ood", seed, cache) for seed in SEEDS]
    data, held_out = training_data(task.student, problems)
    tests = held_out["test"]
    assert isinstance(data.features["features"], Streamed)
    found = train([Single(), Ensemble()], data, Recipe(1e-2, 3, 16))
    return np.stack([t.student.seed(s).predict(tests[s])[0, 0].numpy() for t in found for s in range(2)])


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("groups", [False, True])
def test_arrays_in_a_file_give_what_arrays_in_memory_give(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: bool, groups: bool
) -> None:
    arrays = make_arrays(K=2 if pairs else 3, pairs=pairs)
    if groups:
        arrays["groups"] = np.arange(len(arrays["labels"])) // 4
    save_file(arrays, tmp_path / "mine.safetensors")
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "cache"))
    stored = ArrayTask.from_file(tmp_path / "mine.safetensors", split_by_group=groups)
    held = ArrayTask(**arrays, name="mine", split_by_group=groups)
    assert isinstance(stored.features, StoredRows)
    assert stored.fingerprint == held.fingerprint
    first = predictions(stored, Cache())
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "another"))
    np.testing.assert_array_equal(first, predictions(held, Cache()))
    problem = stored.problem("ood", 0, Cache())
    assert (np.diff(problem.truth.groups["train"]) < 0).any(), "a large train split is in random order"
    for split in SPLITS:
        x = problem.features["features"][split]
        assert isinstance(x, DiskFeatures)
        np.testing.assert_array_equal(np.asarray(x), arrays["features"][x.index])


def test_bad_values_in_a_large_file_are_found(small: None, tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays["features"][77, 1] = np.nan
    save_file(arrays, tmp_path / "bad.safetensors")
    with pytest.raises(Exception, match="NaN or infinity in row 77"):
        ArrayTask.from_file(tmp_path / "bad.safetensors")


def test_half_precision_features_are_read_as_float32(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = make_arrays()
    arrays["features"] = arrays["features"].astype(np.float16)
    save_file(arrays, tmp_path / "half.safetensors")
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "cache"))
    stored = ArrayTask.from_file(tmp_path / "half.safetensors")
    assert stored.fingerprint == ArrayTask(**arrays).fingerprint
    data, _ = training_data(stored.student, [stored.problem("ood", 0, Cache())])
    (table,) = data.features["features"].tables
    assert table.dtype == np.float32


@pytest.mark.parametrize("ratings", [False, True])
@pytest.mark.parametrize("condition", ["ood", "ind"])
def test_a_large_pool_of_a_task_has_the_same_examples(
    tmp_path: Path, condition: str, ratings: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Blobs((200, 160, 215), ratings=ratings)
    cache = Cache(tmp_path)

    def built() -> Problem:
        return build_problem(task, condition, 0, cache)

    usual, read = built(), ("test", "val", "train")
    expected, usual_held_out = training_data(task.student, [usual], held_out=read)
    monkeypatch.setattr(minibatches, "WHOLE", 10)
    large = built()
    data, held_out = training_data(task.student, [large], held_out=read)
    for output, splits in large.features.items():
        raw = usual.features[output]["train"].reshape(-1, splits["train"].shape[-1])
        size = np.abs(raw).max(0) / raw.std(0)  # of what the mean is taken from
        for split in SPLITS:
            assert isinstance(splits[split], DiskFeatures)
            np.testing.assert_array_equal(np.asarray(splits[split]), usual.features[output][split])
        found = torch.cat(list(data.features[output].blocks(0)))
        assert_close(found, expected.features[output][0], len(raw), scale=size)
    assert tuple(held_out) == read
    for split, (own,) in held_out.items():
        assert own.shape == (1, *usual_held_out[split][0].shape[1:])
        assert_close(torch.cat(list(own.blocks(0))), usual_held_out[split][0][0], len(raw), scale=size)


def test_memory_does_not_grow_with_the_pool(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making tables and reading them from end to end, by what NumPy allocates; `make bench-pools` measures the rest."""
    monkeypatch.setattr(minibatches, "WHOLE", 1000)
    monkeypatch.setattr(rows, "REGION", 2**20)

    def peak(n: int) -> int:
        path = tmp_path / f"{n}.safetensors"
        save_file({"x": np.random.default_rng(0).normal(size=(n, 64)).astype(np.float32)}, path)
        source = read_header(path)[1]["x"]
        order = np.random.default_rng(1).permutation(n)
        tracemalloc.start()
        table = standardised({"train": DiskFeatures((source,), order, str(n), cache)})["train"]
        for _, block in rows.blocks([table]):
            assert block.shape[1] == 64
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    few, many = peak(20_000), peak(80_000)  # 5 and 20 MB
    assert many - few < 6e6  # order and places: 8 bytes a row, a few times


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("room", [0.5, 0.0])  # resident, and in windows through pinned memory
def test_on_a_gpu_it_makes_no_difference_where_features_lie(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: float
) -> None:
    data, recipe = make_data(N=203), Recipe(1e-2, 3, 16)
    there = {name: x.cuda() for name, x in data.features.items()}
    monkeypatch.setattr(streamed, "_ROOM", room)
    tables = {name: x.tables for name, x in on_disk(data, tmp_path).features.items()}
    other = {name: placed(own, "cuda") for name, own in tables.items()}
    assert all(isinstance(x, Streamed) == (room == 0) for x in other.values())
    labels = data.soft_labels.cuda()
    for a, b in zip(
        train([Single(), Staged()], TrainingData(there, labels, SEEDS, LinearStudent), recipe),
        train([Single(), Staged()], TrainingData(other, labels, SEEDS, LinearStudent), recipe),
        strict=True,
    ):
        torch.testing.assert_close(a.student.weight, b.student.weight, atol=1e-5, rtol=0)
