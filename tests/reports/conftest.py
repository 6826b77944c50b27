"""One made-up world of results for all tests of reports."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from support.synthetic import world


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results` of the world, to read."""
    return world(tmp_path_factory.mktemp("world") / "results")


@pytest.fixture(scope="session")
def default(made: Path) -> ResultStore:
    return ResultStore(made / "default")


@pytest.fixture(scope="session")
def page(made: Path) -> str:
    return render(*(ResultStore(made / name) for name in ("default", "default-tuned", "odd", "stress")))


@pytest.fixture
def copied(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Copies folders of the world, into the current folder."""
    monkeypatch.chdir(tmp_path)

    def copy(*names: str, to: str = "results") -> Path:
        for name in names:
            shutil.copytree(made / name, tmp_path / to / name)
        return tmp_path / to

    return copy
