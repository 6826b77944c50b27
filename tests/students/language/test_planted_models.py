"""Model folders with malicious pickles, or code, in the place of each file: neither is ever run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.planted import Watch, pickles, watched
from support.tiny import save_model

pytest.importorskip("peft")

from benchmark.assets.pretrained import find_model
from benchmark.base.errors import W2SError
from benchmark.students.language.network import Settings, forget_networks, network


@pytest.fixture(params=["protocol 0", "protocol 5", "torch"])
def plant(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[bytes, Watch]]:
    with watched(tmp_path) as watch:
        yield pickles(watch.witness)[request.param], watch
        watch.assert_nothing_ran()
    forget_networks()


def load(folder: Path) -> None:
    forget_networks()
    network(Settings(str(folder), "classifier", 2, None, 2, 4, "cpu", False))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_in_a_model_folder(plant: tuple[bytes, Watch], file: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / file).write_bytes(plant[0])
    with pytest.raises(W2SError, match=str(folder)) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_beside_the_weights(plant: tuple[bytes, Watch], tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    for file in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "vocab.pkl", "adapter_model.bin"):
        (folder / file).write_bytes(plant[0])
    load(folder)


def test_instead_of_the_weights(plant: tuple[bytes, Watch], tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "pytorch_model.bin").write_bytes(plant[0])
    with pytest.raises(W2SError, match=r"no model.safetensors, only pytorch_model.bin; pickles are not read"):
        load(folder)
    shards = {"weight_map": {"bert.embeddings.word_embeddings.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    with pytest.raises(W2SError, match=r"model.safetensors.index.json names 'pytorch_model.bin'"):
        load(folder)


def test_code_in_a_model_folder(tmp_path: Path) -> None:
    folder, witness = save_model(tmp_path / "model", "bert"), tmp_path / "the code ran"
    (folder / "evil.py").write_text(f"open({str(witness)!r}, 'w')\nConfig = Model = Tokenizer = object\n")
    for file, mapped in (
        ("config.json", {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Tokenizer", None]}),
    ):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, "auto_map": mapped}))
    load(folder)  # as the library's own class
    assert not witness.exists()
    for file in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, "model_type": "evil", "tokenizer_class": "EvilTokenizer"}))
    with pytest.raises(W2SError):
        load(folder)
    assert not witness.exists()


def test_a_folder_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *address, **_: asked.append(address))
    monkeypatch.setattr("socket.socket.connect", lambda _, address: asked.append(address))
    load(save_model(tmp_path / "model", "llama"))
    find_model(str(tmp_path / "model"))
    assert asked == []
