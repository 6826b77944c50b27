"""What the README shows is what works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from benchmark.analysis.frame import COLUMNS
from benchmark.core.names import Family
from benchmark.core.registry import METHODS
from support.command_line import CommandLine
from support.forked_runs import Forker
from support.markdown import section, tables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new folder with the README's two files."""
    folder = tmp_path_factory.mktemp("readme")
    method, arrays = BLOCKS[:2]
    (folder / "agreement.py").write_text(method)
    (folder / "make_arrays.py").write_text(arrays)
    return folder


def test_add_a_method_is_a_complete_file_of_at_most_25_lines_that_runs(folder: Path, forker: Forker) -> None:
    assert len(BLOCKS[0].splitlines()) <= 25
    subprocess.run([sys.executable, "make_arrays.py"], cwd=folder, check=True)
    methods = "agreement,ensemble"
    asked = ("run", "--plugin", "agreement.py", "--methods", methods, "--arrays", "mine.npz", "--seeds", "2")
    call = [sys.executable, "-m", "benchmark.cli", *asked]
    subprocess.run(call, cwd=folder, capture_output=True, timeout=300, check=True)
    assert (folder / "runs/arrays-mine/agreement/records.jsonl").read_text().count("\n") == 2
    table = forker.run("leaderboard", "--results", "runs/arrays-mine", folder=str(folder))
    assert table.status == 0, table
    assert "agreement" in table.out
    assert (folder / "runs/arrays-mine/LEADERBOARD.md").is_file()


def test_the_methods_file_passes_the_contract(folder: Path) -> None:
    from benchmark.core.registry import METHODS, load_plugin
    from benchmark.testing import check_method

    load_plugin(folder / "agreement.py")
    check_method(METHODS["agreement"])


def test_results_are_read_as_a_table_and_every_column_is_named() -> None:
    (code,) = (block for block in BLOCKS if "load_results" in block)
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr == "", "published results give no warning"
    about = README.split("## Tables elsewhere")[1].split("\n## ")[0]
    assert set(COLUMNS) <= set(re.findall(r"`(\w+)`", about))


def test_the_methods_of_a_row_are_of_one_family() -> None:
    (rows,) = tables(section(README, "## Methods"), by="family")
    found = [{METHODS[name].family for name in re.findall("`(.*?)`", row["methods"])} for row in rows.values()]
    assert sorted(map(sorted, found)) == sorted([family] for family in get_args(Family))


def test_the_excerpt_is_the_leaderboards() -> None:
    """Every row of a method that the README shows stands in LEADERBOARD.md, figures included."""
    excerpt = README.split("## What it finds")[1].split("\n## ")[0]
    rows = [line for line in excerpt.splitlines() if line.startswith("|")]
    assert len(rows) > 6
    published = [_cells(line) for line in (ROOT / "LEADERBOARD.md").read_text().splitlines() if line.startswith("|")]
    for row in rows[:1] + rows[2:]:
        assert any(set(_cells(row)) <= set(other) and _cells(row)[0] == other[0] for other in published), row


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]


def test_commands_and_files_that_the_readme_names_exist(w2s: CommandLine) -> None:
    help_text = w2s("--help").out
    for command in set(re.findall(r"^w2s (\w+)", README, re.M)):
        assert command in help_text
    for target in set(re.findall(r"^make (\w+)", README, re.M)):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    for link in re.findall(r"\]\(([A-Z]+\.md)\)", README):
        assert (ROOT / link).is_file()
