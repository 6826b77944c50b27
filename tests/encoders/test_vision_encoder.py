"""Frozen vision models, on tiny ones with random weights: the features of the model itself, streamed in chunks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.base.errors import NotAvailable, W2SError
from benchmark.core.data import Domain, Pool
from benchmark.core.inputs import Lazy
from benchmark.encoders.vision import VisionEncoder
from benchmark.store import cache as cache_module
from benchmark.store.cache import Cache
from benchmark.students.frozen import LinearHead
from support.rounding import assert_close

SIZE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
ROUNDINGS = 4 * 6 * 64 + 192  # four blocks of six products of at most 64 terms each, and the patches' pixels


def save(folder: Path, network: Any) -> Path:
    from transformers import ViTImageProcessor

    network.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    network = ViTModel(ViTConfig(**SIZE, intermediate_size=64))
    with torch.no_grad():  # as they are after training: not all alike
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return save(tmp_path_factory.mktemp("vit"), network)


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 40, 48, 3), dtype=np.uint8)


def plain(folder: Path, x: np.ndarray, pixels: int = 32) -> dict[str, np.ndarray]:
    """One forward pass as the library's documentation does it."""
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", size={"height": pixels, "width": pixels})
    prepared = processor(images=[Image.fromarray(image) for image in x], return_tensors="pt")
    with torch.no_grad():
        out = AutoModel.from_pretrained(folder)(
            **prepared, output_hidden_states=True, interpolate_pos_encoding=pixels != 32
        )
    return {"half": out.hidden_states[2][:, 0].numpy(), "full": out.last_hidden_state[:, 0].numpy()}


@pytest.mark.parametrize("pixels", [None, 64])
def test_features_are_the_class_token_of_the_plain_model(vit: Path, pixels: int | None) -> None:
    x = images(10)
    found = VisionEncoder(str(vit), pixels, batch=4).encode(x)
    assert list(found) == ["half", "full"]
    for output, expected in plain(vit, x, pixels or 32).items():
        assert found[output].dtype == np.float32
        assert_close(found[output], expected, ROUNDINGS)
        assert expected.std(0).mean() > 1e-3  # images are told apart


def test_lazy_and_grey_images_keep_their_order(vit: Path) -> None:
    encoder, x = VisionEncoder(str(vit), batch=4), images(9)
    found = encoder.encode(x)
    lazy = Lazy.of([Image.fromarray(image) for image in x])
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(encoder.encode(lazy)["full"], found["full"])
    assert_close(encoder.encode(lazy.select(order))["full"], found["full"][order], ROUNDINGS)
    grey = x[..., 0]
    in_colour = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(encoder.encode(grey)["full"], encoder.encode(in_colour)["full"])


@pytest.mark.parametrize("kind", ["vit without pooler", "clip", "dinov2", "swin", "resnet"])
def test_other_families(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import transformers as t

    torch.manual_seed(0)
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    network, sizes = {
        "vit without pooler": lambda: (t.ViTModel(t.ViTConfig(**SIZE), add_pooling_layer=False), (32, 32)),
        "clip": lambda: (t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=SIZE)), (32, 32)),
        "dinov2": lambda: (t.Dinov2Model(t.Dinov2Config(**SIZE)), (32, 32)),
        "swin": lambda: (
            t.SwinModel(t.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=32, window_size=4)),
            (16, 16),
        ),
        "resnet": lambda: (
            t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")),
            (8, 16),
        ),
    }[kind]()
    save(tmp_path, network)
    capfd.readouterr()
    before = torch.get_rng_state()
    found = VisionEncoder(str(tmp_path)).encode(images(3))
    assert (found["half"].shape[1], found["full"].shape[1]) == sizes
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_mean_over_positions_where_there_is_no_class_token(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, SwinConfig, SwinModel

    network = SwinModel(SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=32, window_size=4)).eval()
    save(tmp_path, network)
    prepared = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")(images=list(images(3)), return_tensors="pt")
    with torch.no_grad():
        expected = network(**prepared).last_hidden_state.mean(1).numpy()
    assert_close(VisionEncoder(str(tmp_path)).encode(images(3))["full"], expected, ROUNDINGS)


def test_the_fingerprint_follows_weights_preprocessing_and_pixels_not_the_place(vit: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    first = VisionEncoder(str(vit)).fingerprint
    moved = Path(shutil.copytree(vit, tmp_path / "moved"))
    encoder = VisionEncoder(str(moved))
    assert encoder.fingerprint == first == replace(encoder, batch=8).fingerprint
    assert replace(encoder, pixels=64).fingerprint != first
    before = encoder.encode(images(2))["full"]
    weights = load_file(moved / "model.safetensors")
    weights["layernorm.bias"] = weights["layernorm.bias"] + 1
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    second = encoder.fingerprint
    assert second != first
    assert_close(encoder.encode(images(2))["full"], before + 1, 4)  # and the new ones are read
    path, before = moved / "preprocessor_config.json", encoder.encode(images(2))["full"]
    path.write_text(path.read_text().replace("0.5", "0.45"))
    assert encoder.fingerprint not in (first, second)
    assert not np.array_equal(encoder.encode(images(2))["full"], before)


def test_a_hub_snapshot_on_this_machine_is_used_and_its_commit_is_the_fingerprint(vit: Path, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(vit, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    code = (
        "from benchmark.encoders.vision import VisionEncoder; import numpy as np; e = VisionEncoder('someone/tiny');"
        "print(e.name, e.fingerprint, e.encode(np.zeros((1, 8, 8, 3), np.uint8))['full'].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split(" ", 2)[:2] == ["tiny", f"vision-1-{commit}-Nonepx"]


def test_a_model_that_is_not_here_is_told_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(NotAvailable, match="hf download nobody/no-such-model --local-dir FOLDER") as raised:
        _ = VisionEncoder("nobody/no-such-model").fingerprint
    with pytest.raises(NotAvailable):
        VisionEncoder("nobody/no-such-model").encode(images(1))
    assert "\n" not in str(raised.value)
    with pytest.raises(NotAvailable, match="does not exist"):
        _ = VisionEncoder("/no/such/folder").fingerprint
    assert time.monotonic() - started < 5  # nothing is asked of the network


def test_pickled_weights_are_not_read(vit: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(vit, tmp_path / "bin"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    for use in (lambda e: e.fingerprint, lambda e: e.encode(images(1))):
        with pytest.raises(W2SError, match=r"no model.safetensors, only pytorch_model.bin; pickles are not read"):
            use(VisionEncoder(str(folder)))


def test_lacking_weights_are_not_made_up(vit: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(vit, tmp_path / "lacking"))
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "layers.1.layernorm" not in k and "layer.1.layernorm" not in k},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(W2SError, match=r"the weights lack \d+ tensors of the network, first .*1\.layernorm"):
        VisionEncoder(str(folder)).encode(images(1))


def test_what_can_not_be_used_is_refused(vit: Path) -> None:
    with pytest.raises(W2SError, match="batch is 48, expected a divisor of 1024"):
        VisionEncoder(str(vit), batch=48)
    with pytest.raises(W2SError, match="an image is str"):
        VisionEncoder(str(vit)).encode(["a.jpg"])
    with pytest.raises(W2SError, match=r"an image is float64 \(4, 4\)"):
        VisionEncoder(str(vit)).encode(np.zeros((2, 4, 4)))
    with pytest.raises(W2SError, match="no images"):
        VisionEncoder(str(vit)).encode(images(0))


@dataclass
class Watched:
    """Images that count how often each is read, and break at one of them."""

    x: np.ndarray
    breaks_at: int | None = None
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Image.Image:
        if i == self.breaks_at:
            raise KeyboardInterrupt
        self.reads.append(i)
        return Image.fromarray(self.x[i])


def read(watched: Watched, vit: Path, cache: Cache) -> dict[str, dict[str, np.ndarray]]:
    """The features of a pool of one domain with chunks of 8 images."""
    n = len(watched)
    domain = Domain(lambda: Lazy.of(watched), np.zeros(n, np.int64), np.arange(n), "made up")
    rows = {"train": np.arange(n)[::-1], "test": np.array([3, 17, 0])}
    pool = Pool(rows, {}, {}, ("only",))
    return LinearHead(VisionEncoder(str(vit), batch=4)).read("a task", {"only": domain}, pool, cache, "cpu")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 8)


@pytest.mark.usefixtures("small_chunks")
def test_a_pool_streamed_in_chunks_has_the_features_of_one_pass(vit: Path, tmp_path: Path) -> None:
    x = images(21)
    whole = VisionEncoder(str(vit), batch=4).encode(x)
    watched = Watched(x)
    for _ in range(2):
        found = read(watched, vit, Cache(tmp_path))
        for output, expected in whole.items():
            np.testing.assert_array_equal(found[output]["train"], expected[::-1])
            np.testing.assert_array_equal(found[output]["test"], expected[[3, 17, 0]])
    assert watched.reads == list(range(21))


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_pass_does_not_encode_finished_chunks_again(vit: Path, tmp_path: Path) -> None:
    x = images(29)
    with pytest.raises(KeyboardInterrupt):
        read(Watched(x, breaks_at=18), vit, Cache(tmp_path))
    resumed = Watched(x)
    found = read(resumed, vit, Cache(tmp_path))
    assert resumed.reads == list(range(16, 29))
    whole = VisionEncoder(str(vit), batch=4).encode(x)
    np.testing.assert_array_equal(found["full"]["train"], whole["full"][::-1])


@pytest.mark.usefixtures("small_chunks")
def test_images_are_read_when_their_chunk_is_wanted(vit: Path) -> None:
    watched = Watched(images(24))
    chunks = VisionEncoder(str(vit), batch=4).stream(Lazy.of(watched), [slice(0, 8), slice(16, 24)])
    next(chunks)
    assert watched.reads == list(range(8))
    next(chunks)
    assert watched.reads == [*range(8), *range(16, 24)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_is_near_the_cpu(vit: Path) -> None:
    encoder, x = VisionEncoder(str(vit), batch=8), Lazy.of(images(20))
    there, here = encoder.encode(x, "cuda"), encoder.encode(x)
    for output, expected in here.items():
        assert there[output].dtype == np.float32
        np.testing.assert_allclose(there[output], expected, atol=0.05 * np.abs(expected).max())  # 8 bits of mantissa
