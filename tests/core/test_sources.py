"""The hash of a method's source: what is part of it, and what it doesn't hold."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from benchmark.core.code_hash import source_findings, source_hash, source_of, sources_here
from benchmark.core.registry import METHODS
from support.synthetic import Task, entry, evaluation

PLUGIN = '''"""A plug-in."""
import os

import numpy
from benchmark.api import Method
from helper import double


class Mine(Method):
    name = "mine"
    sign = 1.0

    def loss(self, logits, batch):
        """It is doubled."""
        return double(self.sign * logits)
'''
HELPER = "from inner.deep import TWO\n\n\ndef double(x):\n    return TWO * x\n"
DEEP = "from . import other\n\nTWO = 2\n"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """With what it imports, and a file that it does not."""
    (tmp_path / "inner").mkdir()
    texts = {"mine.py": PLUGIN, "helper.py": HELPER, "inner/deep.py": DEEP, "inner/other.py": "x = 1\n", "idle.py": ""}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path / "mine.py"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import os\n", "import os  # a comment\n\n\n"),
        ('"""A plug-in."""', '"""Another docstring."""'),
        ('        """It is doubled."""\n', ""),
        ("double(self.sign * logits)", "double(\n            (self.sign) * logits\n        )"),
        ('"mine"', "'mine'"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(plugin: Path, old: str, new: str) -> None:
    before = source_hash(plugin)
    assert old in PLUGIN
    plugin.write_text(PLUGIN.replace(old, new))
    assert source_hash(plugin) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mine.py", "sign = 1.0", "sign = -1.0"),
        ("mine.py", "def loss", "def lose"),
        ("helper.py", "TWO * x", "TWO + x"),
        ("inner/deep.py", "2", "3"),
        ("inner/other.py", "1", "2"),
    ],
)
def test_what_runs_counts_and_what_it_imports_in_turn(plugin: Path, file: str, old: str, new: str) -> None:
    before, path = source_hash(plugin), plugin.parent / file
    path.write_text(path.read_text().replace(old, new))
    assert source_hash(plugin) != before


def test_neither_its_name_nor_other_files_count(plugin: Path) -> None:
    before = source_hash(plugin)
    (plugin.parent / "idle.py").write_text("something = else_\n")
    (plugin.parent / "benchmark.py").write_text("")  # not what it imports by that name
    assert source_hash(plugin.rename(plugin.with_name("method.py"))) == before


def test_a_method_holds_the_methods_that_it_is_a_variant_of(plugin: Path) -> None:
    """In `methods/` and from a plug-in."""
    raven = Path(__file__).parents[2] / "methods" / "raven.py"
    known = sources_here()
    for name in ("raven_no_easy", "raven_no_weights"):
        assert source_of(METHODS[name]) == known[name] == source_hash(raven.with_name(f"{name}.py"))
    before = source_hash(plugin)
    plugin.write_text(f"from methods.raven_no_easy import *\n{PLUGIN}")
    assert source_hash(plugin) != before
    copies = shutil.copytree(raven.parent, plugin.parent / "methods")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.core.code_hash._package", lambda: [copies])
        assert sources_here() == known
        (copies / raven.name).write_text(f"{raven.read_text()}\nmore = 1\n")
        changed = {name for name, source in sources_here().items() if source != known[name]}
    assert changed == {name for name in known if name.startswith("raven")}


def test_every_method_of_the_project_has_a_source_and_canaries_have_none() -> None:
    found = sources_here()
    for method in METHODS:
        if method.__module__.startswith("methods."):
            assert found[method.name] == source_of(method)
    assert source_of(METHODS["ground_truth"]) is None


def test_a_helper_that_is_no_python_counts_as_it_is(plugin: Path) -> None:
    before = source_hash(plugin)
    (plugin.parent / "helper.py").write_text("def (\n")
    with pytest.raises(SyntaxError):
        ast.parse((plugin.parent / "helper.py").read_text())
    assert source_hash(plugin) != before


def test_records_of_other_sources_are_named() -> None:
    evaluated = evaluation(Task("a"), "ood", range(3))

    def records(method: str, *sources: str | None) -> list[str]:
        made = [entry(Task("a"), evaluated, method, seed, source_sha256=own)[0] for seed, own in enumerate(sources)]
        return source_findings(made)

    raven = sources_here()["raven"]
    assert records("raven", None, raven) == records("raven", None) == records("outside", None, "a" * 64) == []
    assert records("raven", raven, "a" * 64) == [
        "raven: records of version 1 are of another source than the method has now"
    ]
    assert records("outside", "b" * 64, "a" * 64, None) == ["outside: records of version 1 are of 2 different sources"]
