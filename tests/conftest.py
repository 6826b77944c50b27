"""Fixtures for all tests, and `pytest --plugin FILE`: the methods of an outside plug-in through the same suite."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.command_line import CommandLine, command_line
from support.snapshots import Snapshots
from support.tiny import FAMILIES, Models, save_model

from benchmark.base.errors import W2SError
from benchmark.core.registry import load_plugin
from benchmark.store.cache import Cache


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], metavar="FILE", help="Python file that registers methods")
    parser.addoption("--update-snapshots", action="store_true", help="write the texts that tests are compared with")


def pytest_configure(config: pytest.Config) -> None:
    for file in config.getoption("--plugin"):  # before collection, when tests are parametrised by the registry
        try:
            load_plugin(Path(file))
        except W2SError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture
def w2s(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in a folder of the test's own."""
    with command_line(tmp_path) as command:
        yield command


@pytest.fixture(scope="session", autouse=True)
def errors_are_kept_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is known of made-up results goes into a cache of the session's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.analysis.example_errors.Cache", partial(Cache, tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Snapshots:
    """The texts in `snapshots` beside the test."""
    return Snapshots(request.path.parent / "snapshots", request.config.getoption("--update-snapshots"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Tiny language models, a folder for each family."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        save_model(root / family, family)
    save_model(root / "gpt2-no-pad", "gpt2", pad=False)
    return Models(root)
