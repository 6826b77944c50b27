"""No pickle is ever read or written: the source is searched, and malicious ones are planted wherever files are read."""

from __future__ import annotations

import ast
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
from benchmark.arrays import ArrayTask
from benchmark.assets import packages as fetch
from benchmark.assets.pinned import Pinned
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.base.paths import using
from benchmark.encoders import efficientnet, minilm
from benchmark.judging.judgements import read_judged
from benchmark.packs.read import PackTask
from benchmark.packs.write import write_pack
from benchmark.results.store import ResultStore
from benchmark.store.cache import Cache
from benchmark.store.checkpoints import Checkpoints
from support.made_up import Blobs
from support.packs import reseal
from support.planted import WRAPPINGS, Watch, pickles, watched
from support.synthetic import Task, fill
from tasks import _hh, _vader

ROOT = Path(benchmark.__file__).parents[1]
FOLDERS = ("benchmark", "methods", "tasks", "tests")

# --- the source ------------------------------------------------------------------------------------------------------

# What reads or writes pickles. Not listed: `multiprocessing`, which pickles what a run sends to its own workers through
# pipes of its own, from memory to memory: no file and nobody else's bytes are in between.
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
CALLS = {"read_pickle", "to_pickle", "load_pickle", "hickle", "load_state_dict_from_url"}
PLANTERS = {  # tests that make pickles, to see that nobody reads them
    "tests/support/planted.py",
    "tests/test_arrays.py",
    "tests/test_no_pickle.py",
    "tests/encoders/test_vision_encoder.py",
    "tests/end_to_end/test_cli.py",
    "tests/assets/test_pretrained.py",
    "tests/tasks/test_exercises.py",
}

# EfficientNet's published file is a pickle of torch's old format. Its SHA-256 is compared first, so that no other can
# reach torch's restricted reader, which knows numbers, names and tensors only.
EXCEPTION = r"benchmark/encoders/efficientnet\.py:\d+: torch\.load of known bytes"


def findings(source: str) -> list[tuple[int, str]]:
    """(line, what) of everything in a module that can read or write a pickle."""
    tree, found = ast.parse(source), []
    known = dict(_imported(tree))  # name here -> what it is
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            found += [(line, alias.name) for alias in node.names if MODULES & set(alias.name.split("."))]
        elif isinstance(node, ast.ImportFrom):
            names = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
            found += [(line, name) for name in sorted(names & (MODULES | CALLS))]
        elif isinstance(node, ast.Call):
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            first, dot, rest = ast.unparse(node.func).partition(".")
            called = known.get(first, first) + dot + rest
            package, name = called.partition(".")[0], called.rpartition(".")[2]
            if name in CALLS or (
                name in ("import_module", "__import__") and any(m in ast.unparse(node) for m in MODULES)
            ):
                found.append((line, called))
            if package == "torch" and name in ("load", "save"):
                known_bytes = ast.unparse(node) == "torch.load(io.BytesIO(_WEIGHTS.read()), weights_only=True)"
                found.append((line, "torch.load of known bytes" if known_bytes else called))
            if package == "numpy" and name in ("load", "save") and options.get("allow_pickle") != "False":
                found.append((line, f"{called} without allow_pickle=False"))
            if options.get("allow_pickle", "False") != "False":
                found.append((line, f"{called} with allow_pickle"))
            if options.get("use_safetensors", "True") != "True" or options.get("trust_remote_code", "False") != "False":
                found.append((line, f"{called}: weights may be pickles, or code"))
            of_model = name == "from_pretrained" and not any(
                what in called for what in ("Tokenizer", "Processor", "Config")
            )
            if of_model and not {"use_safetensors", None} & set(options):
                found.append((line, f"{called} without use_safetensors=True"))  # None: of a GGUF, by **options
    return found


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def test_nothing_in_the_source_reads_or_writes_pickles() -> None:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 150
    found = []
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        if name not in PLANTERS:
            found += [f"{name}:{line}: {what}" for line, what in findings(path.read_text())]
    of_tests = [line for line in found if line.startswith("tests/") and "from_pretrained" in line]  # their own folders
    (excepted,) = [line for line in found if re.fullmatch(EXCEPTION, line)]
    assert [line for line in found if line not in (*of_tests, excepted)] == []
    assert all((ROOT / name).is_file() for name in PLANTERS)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import joblib.externals",
        "from sklearn.externals import joblib",
        "import dill, json",
        "importlib.import_module('cloudpickle')",
        "__import__('marshal')",
        "pandas.read_pickle(path)",
        "frame.to_pickle(path)",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "torch.load(io.BytesIO(_WEIGHTS.read()))",
        "import numpy as np; np.load(path)",
        "np.load(path, allow_pickle=True)",
        "numpy.lib.format.read_array(file, allow_pickle=True)",
        "import torch as t; t.load(path)",
        "from torch import load; load(path)",
        "from torch import load as read; read(path)",
        "torch.serialization.load(path)",
        "import numpy as n; n.load(path, None, True)",
        "from numpy import load; load(path)",
        "AutoModel.from_pretrained(folder)",
        "kind.from_pretrained(folder)",
        "AutoModel.from_pretrained(folder, use_safetensors=False)",
        "AutoTokenizer.from_pretrained(folder, trust_remote_code=True)",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert findings(f"def f():\n    {line}\n")


# --- planted pickles -------------------------------------------------------------------------------------------------


@pytest.fixture(params=WRAPPINGS)
def plant(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[bytes, Watch]]:
    """A malicious file's content; when the test ends, nothing may have been unpickled."""
    with watched(tmp_path) as watch:
        yield pickles(watch.witness)[request.param], watch
        watch.assert_nothing_ran()


def test_the_payload_works(tmp_path: Path) -> None:
    witness = tmp_path / "the payload ran"
    for name, data in pickles(witness).items():
        path = tmp_path / "file"
        path.write_bytes(data)
        if name.startswith("torch"):
            torch.load(path, weights_only=False)
        elif name.startswith("np"):
            loaded = np.load(path, allow_pickle=True)
            assert loaded is not None
            _ = loaded["a"] if name == "npz" else loaded
        elif name != "gzip":
            pickle.loads(data)
        else:
            continue
        assert witness.exists(), name
        witness.unlink()
    with watched(tmp_path) as watch:
        pickle.loads(pickle.dumps(1))
        with pytest.raises(AssertionError):
            watch.assert_nothing_ran()


def test_in_the_cache(plant: tuple[bytes, Watch], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, key = Cache(tmp_path / "cache"), {"recipe": "made up"}
    build = {"x": np.arange(3)}
    cache.get("features", key, lambda: build)
    cache.path("features", key).write_bytes(plant[0])
    np.testing.assert_array_equal(cache.get("features", key, lambda: build)["x"], build["x"])
    assert f"{cache.path('features', key).name} is broken" in capsys.readouterr().err


def test_in_a_chunk(plant: tuple[bytes, Watch], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path / "cache")
    for planted in (False, True):
        if planted:
            (chunk,) = (tmp_path / "cache").rglob("000000.safetensors")
            chunk.write_bytes(plant[0])
            (chunk.parent / "complete.json").write_bytes(plant[0])
        parts = cache.get_chunks("features", {}, 3, lambda ranges: ({"x": np.arange(3)[r]} for r in ranges))
        np.testing.assert_array_equal(parts["x"][0][np.arange(3)], np.arange(3))
    assert "1 of 1 chunks" in (said := capsys.readouterr().err)
    assert "000000" in said


def test_in_a_checkpoint(plant: tuple[bytes, Watch], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints.of(tmp_path, {"task": "made up"})
    assert checkpoints.path is not None
    checkpoints.save({"w": torch.ones(2)}, {"epoch": 1})
    checkpoints.path.write_bytes(plant[0])
    assert checkpoints.load() is None
    assert f"checkpoint {checkpoints.path.name} is broken" in capsys.readouterr().err


@pytest.mark.parametrize(
    "file",
    [
        "_tasks/a-ood.safetensors",
        "naive/predictions.safetensors",
        "naive/records.jsonl",
        "naive/replies.jsonl",
        "naive/judgements.jsonl",
    ],
)
def test_in_results(plant: tuple[bytes, Watch], file: str, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "suite")
    fill(store, [Task("a")], ("naive",), range(1))
    (store.root / file).write_bytes(plant[0] + b"\n")
    problems = [*ResultStore(store.root).load().problems, *read_judged(store.root).problems]
    assert problems
    assert all(line.startswith(file) for line in problems)


@pytest.fixture(scope="module")
def made_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_pack(Blobs(), ("ood",), range(1), folder / "pack", Cache(folder / "cache"), "cpu", lambda line: None)
    return folder / "pack"


@pytest.mark.parametrize("file", ["pack.json", "ood/features", "ood/supervision-0", "ood/truth-0"])
def test_in_a_pack(plant: tuple[bytes, Watch], file: str, made_pack: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made_pack, tmp_path / "pack")
    path = folder / (file if file == "pack.json" else f"{file}.safetensors")
    path.write_bytes(plant[0])
    with pytest.raises(W2SError, match=path.name):
        PackTask(folder)
    if file != "pack.json":
        reseal(folder, lambda content: None)  # with hashes that fit
        with pytest.raises(W2SError, match=f"cannot read {file}"):
            PackTask(folder).problem("ood", 0, Cache())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_in_arrays(plant: tuple[bytes, Watch], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(plant[0])
    with pytest.raises(W2SError, match=f"--arrays {path}: "):
        ArrayTask.from_file(path)


def test_in_packages(plant: tuple[bytes, Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.assets.pinned.package_folder", lambda *_: tmp_path)
    for read, file in (
        (lambda: efficientnet.load_network(64), efficientnet._WEIGHTS.files[0]),
        (lambda: minilm._load.__wrapped__("cpu"), minilm.MINILM_WEIGHTS.files[0]),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(plant[0])
        with pytest.raises(W2SError, match=rf"{file} has SHA-256 \w+, expected \w+; run: pip install"):
            read()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_in_the_one_excepted_file_were_its_hash_the_known_one(
    wrapping: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pickles(tmp_path / "the payload ran")[wrapping]
    monkeypatch.setattr(Pinned, "read", lambda self: data)
    with pytest.raises((pickle.UnpicklingError, RuntimeError, ValueError)):
        efficientnet.load_network(64)
    assert not (tmp_path / "the payload ran").exists()


def test_in_the_texts_archive(
    plant: tuple[bytes, Watch], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("W2S_CACHE", str(tmp_path))
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "vaderSentiment-0.5.zip").write_bytes(plant[0])
    fetch._verified.cache_clear()
    with using(fetch=False), pytest.raises(NotAvailable, match=r"source archive of vaderSentiment 0\.5"):
        _vader._source_files.__wrapped__()
    assert "vaderSentiment-0.5.zip in the cache is not the known archive" in capsys.readouterr().err


def test_in_preference_pairs(plant: tuple[bytes, Watch], tmp_path: Path) -> None:
    path = tmp_path / "helpful-base.test.jsonl.gz"
    path.write_bytes(plant[0])
    with pytest.raises(W2SError, match=path.name):
        _hh.read.__wrapped__(str(tmp_path), "helpful-base")


def test_what_is_written_is_no_pickle(made_pack: Path, tmp_path: Path) -> None:
    """Everything that a run leaves begins as safetensors or JSON do."""
    cache, store = Cache(tmp_path / "cache"), ResultStore(tmp_path / "suite")
    fill(store, [Task("a")], ("naive",), range(1))
    cache.get("features", {}, lambda: {"x": np.arange(3)})
    cache.get_chunks("features", {}, 3, lambda ranges: ({"x": np.arange(3)[r]} for r in ranges))
    Checkpoints.of(tmp_path, {}).save({"w": torch.ones(2)}, {})
    written = [path for folder in (tmp_path, made_pack) for path in folder.rglob("*") if path.is_file()]
    kinds: dict[str, Callable[[bytes], bool]] = {
        ".safetensors": lambda data: data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < len(data),
        ".jsonl": lambda data: all(isinstance(json.loads(line), dict) for line in data.splitlines()),
        ".json": lambda data: isinstance(json.loads(data), dict),
        ".md": lambda data: data.startswith(b"---"),
        ".lock": lambda data: data == b"",
        "": lambda data: data == b"",  # .lock
    }
    assert len(written) > 10
    for path in written:
        assert kinds[path.suffix](path.read_bytes()), path
