"""ARCHITECTURE.md describes the house that stands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_core_is_read_in_an_hour() -> None:
    section = TEXT.split("## The core")[1].split("## ")[0]
    files = re.findall(r"`([a-z_/]+\.py)`", section)
    assert len(files) > 10
    assert sum(len((ROOT / "benchmark" / file).read_text().splitlines()) for file in files) <= 3000


def test_every_file_and_folder_that_is_named_is_there() -> None:
    roots = (ROOT, ROOT / "benchmark")
    named = [name for name in re.findall(r"`([\w/.]+)`", TEXT) if "/" in name]
    named = [name.split(".")[0] + ".py" if re.search(r"/\w+\.[A-Z]|/\w+\.\w+_", name) else name for name in named]
    lost = [name for name in named if not any((r / n).exists() for r in roots for n in (name, f"{name}.py"))]
    assert not lost


def test_every_package_has_its_line_in_the_picture() -> None:
    picture = TEXT.split("```")[1]
    packages = {path.parent.name for path in (ROOT / "benchmark").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"[a-z]+", picture))
