"""What encoders do on a GPU, without one: "cuda" is a stand-in that computes nothing and fails where CUDA would, and
"cpu:0", which isn't called "cpu", goes the GPU's way with numbers."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.base.errors import W2SError
from benchmark.encoders import devices, efficientnet, images, minilm, use, vision
from benchmark.encoders.devices import HostTables
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.encoders.images import image_batches, resized
from benchmark.encoders.minilm import MiniLM
from benchmark.encoders.use import USE
from benchmark.encoders.vision import VisionEncoder
from support.fake_cuda import HostReads, PinnedMemory, fake_cuda
from support.rounding import assert_close

WORDS = np.array(["film", "plot", "characters", "uncompelling", "."])
SIZES = st.integers(1, 70)


def texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(60))) for _ in range(n)]


def pictures(n: int, height: int = 28, width: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPImageProcessor, ViTConfig, ViTModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(**size, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that this test alone uses: those of the stand-in hold no numbers."""
    for module, name in ((minilm, "_load"), (efficientnet, "_network"), (vision, "_load"), (use, "_weights")):
        monkeypatch.setattr(module, name, functools.cache(getattr(module, name).__wrapped__))


@pytest.fixture
def four_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 4)


@given(SIZES, SIZES, SIZES, st.sampled_from([(), (3,)]), st.integers(0, 99))
def test_images_are_resized_to_the_bytes_of_the_cpu(
    height: int, width: int, size: int, colours: Any, seed: int
) -> None:
    x = np.random.default_rng(seed).integers(0, 256, (2, height, width, *colours), dtype=np.uint8)
    with PinnedMemory():
        assert torch.equal(resized(x, size, "cpu:0"), resized(x, size))


def test_large_images_are_resized_to_the_bytes_of_the_cpu() -> None:
    x = pictures(1, 900, 500)
    with PinnedMemory():
        for size in (224, 3, 901):
            assert torch.equal(resized(x, size, "cpu:0"), resized(x, size))


@pytest.mark.usefixtures("own_networks")
def test_networks_see_the_cpus_pixels(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    pools = efficientnet._pools
    monkeypatch.setattr(efficientnet, "_pools", lambda network, x: seen.append(x) or pools(network, x))
    monkeypatch.setattr(
        VisionEncoder,
        "_features",
        lambda self, network, x, levels, device: (
            seen.append(x if levels is None else vision._valued(x, levels)) or (torch.zeros(len(x), 1),) * 2
        ),
    )
    for encoder in (EfficientNetLite0(64), VisionEncoder(str(vit)), VisionEncoder(str(vit), pixels=48)):
        with PinnedMemory():
            there, here = encoder.encode(pictures(5), "cpu:0"), encoder.encode(pictures(5))
        assert there.keys() == here.keys()
        on_device, on_cpu = seen[-2:]
        assert on_device.dtype == torch.float32
        assert torch.equal(on_device, on_cpu)
        assert on_cpu.std() > 0.1


@pytest.mark.usefixtures("own_networks", "four_readers")
def test_features_are_those_of_the_cpu_and_nobody_waits_for_one(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_TOKENISED", 7)
    monkeypatch.setattr(minilm, "_TOKENS", 512)
    monkeypatch.setattr(efficientnet, "_PIXELS_AT_ONCE", {"cpu": 300_000, "other": 3 * 64**2})
    monkeypatch.setattr(use, "_TOKENS_AT_ONCE", {"cpu": 384, "other": 128})
    for module in (minilm, efficientnet, use):
        monkeypatch.setattr(module, "_BATCHES_KEPT", 2)
    for encoder, inputs, roundings in (
        (MiniLM(), texts(24), 12 * 1536),
        (EfficientNetLite0(64), pictures(8), 99 * 64),
        (USE(), texts(24), 12 * 1280),
    ):
        with PinnedMemory(), HostReads() as reads:
            there = encoder.encode(inputs, "cpu:0")
        assert reads.count == 0
        for output, expected in encoder.encode(inputs).items():
            assert_close(there[output], expected, roundings)
    encoder = VisionEncoder(str(vit), batch=4)
    with PinnedMemory(), HostReads() as reads:
        there = encoder.encode(pictures(10), "cpu:0")
    assert reads.count == 0
    here = encoder.encode(pictures(10))
    for output, expected in here.items():
        assert there[output].dtype == np.float32
        np.testing.assert_allclose(there[output], expected, atol=0.05 * np.abs(expected).max())  # half precision


@pytest.mark.usefixtures("own_networks", "four_readers")
@pytest.mark.parametrize("kind", ["minilm", "efficientnet", "vision", "use"])
def test_on_cuda_bytes_go_there_pinned_and_features_come_back_rarely(
    kind: str, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "_TOKENS", 128)
    monkeypatch.setattr(minilm, "_BATCHES_KEPT", 9)
    monkeypatch.setattr(efficientnet, "_PIXELS_AT_ONCE", {"other": 3 * 64**2})
    monkeypatch.setattr(efficientnet, "_BATCHES_KEPT", 2)
    monkeypatch.setattr(use, "_TOKENS_AT_ONCE", {"other": 16})
    monkeypatch.setattr(use, "_BATCHES_KEPT", 9)
    encoder, inputs, shipped, batches, kept = {
        "minilm": (MiniLM(), ["a", "b " * 100] * 12, {torch.int64}, 2 + 12, 9),  # two of 8 short texts, 12 of one long
        "efficientnet": (EfficientNetLite0(64), pictures(8), {torch.uint8, torch.int32}, 3, 2),
        "vision": (VisionEncoder(str(vit), batch=4), pictures(10), {torch.uint8}, 3, 3),
        "use": (USE(), ["a", "b " * 100] * 12, {torch.int64}, 3 + 12, 9),  # three of 5 short texts, 12 of one long
    }[kind]
    with fake_cuda() as cuda:
        encoder.encode(inputs, "cuda")
        cuda.forget()  # the weights
        found = encoder.encode(inputs, "cuda")
    assert {output: x.shape[0] for output, x in found.items()} == dict.fromkeys(encoder.outputs, len(inputs))
    assert len(cuda.to_host) == len(encoder.outputs) * math.ceil(batches / kept)
    assert cuda.unpinned == 0
    assert {dtype for _, dtype in cuda.to_device} == shipped


@pytest.mark.usefixtures("own_networks")
def test_a_processor_that_does_more_than_take_each_number_is_left_to_work(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import CLIPImageProcessorPil

    plain = CLIPImageProcessorPil.normalize
    monkeypatch.setattr(CLIPImageProcessorPil, "normalize", lambda self, x, *a, **k: plain(self, x - x.mean(), *a, **k))
    with fake_cuda() as cuda:
        VisionEncoder(str(vit)).encode(pictures(3), "cuda")
    assert cuda.to_device[-1] == ((3, 3, 32, 32), torch.float32)


@given(st.lists(st.integers(1, 4), max_size=9), st.integers(1, 5), st.sampled_from(["cpu", "cpu:0"]), st.randoms())
def test_rows_come_back_to_their_places(sizes: list[int], batches: int, device: str, random: Any) -> None:
    n = sum(sizes)
    a, b = np.full((n, 2), np.nan, np.float32), np.full((n, 1), np.nan, np.float32)
    order, tables, at = random.sample(range(n), n), HostTables([a, b], device, batches), 0
    for number, size in enumerate(sizes, 1):
        rows, at = order[at : at + size], at + size
        x = torch.tensor(rows, dtype=torch.float16)[:, None]
        tables.put(rows, [x.expand(-1, 2), -x])
        if device == "cpu" or number % batches == 0:
            assert np.isfinite(a[rows]).all()
    tables.copy()
    np.testing.assert_array_equal(a, np.arange(n)[:, None].repeat(2, 1))
    np.testing.assert_array_equal(b[:, 0], -np.arange(n))


class Watched:
    """Numbers that say who read them."""

    def __init__(self, n: int, breaks_at: int | None = None) -> None:
        self.n, self.breaks_at, self.reads, self.together = n, breaks_at, [], threading.Barrier(4)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        if i < 4:
            self.together.wait(20)  # until four threads read
        if i == self.breaks_at:
            raise W2SError("image 9 can't be read")
        self.reads.append(i)
        return i


def number(item: int, position: int) -> np.ndarray:
    return np.array([item, position], np.uint8)


@pytest.mark.usefixtures("four_readers")
def test_several_threads_read_two_batches_ahead_in_order() -> None:
    watched, batches = Watched(20), [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(6)]
    with PinnedMemory():
        for i, batch in enumerate(image_batches(watched, number, batches, "cuda")):
            assert batch.is_pinned()
            np.testing.assert_array_equal(batch, [[x, x] for x in batches[i]])
            assert max(watched.reads) < 3 * (i + 1 + images._AHEAD)
    assert sorted(watched.reads) == list(range(18))


@pytest.mark.usefixtures("four_readers")
def test_what_a_reader_raises_ends_reading() -> None:
    watched = Watched(400, breaks_at=9)
    with PinnedMemory(), pytest.raises(W2SError, match="image 9 can't be read"):
        list(image_batches(watched, number, [list(range(400))], "cuda"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read images")]


def test_a_cpu_reads_by_itself_when_it_wants_a_batch() -> None:
    watched = Watched(20)
    watched.together = threading.Barrier(1)
    made: Iterator[torch.Tensor] = image_batches(watched, number, [[5, 4], [9]], "cpu")
    assert watched.reads == []
    np.testing.assert_array_equal(next(made), [[5, 5], [4, 4]])
    assert watched.reads == [5, 4]
