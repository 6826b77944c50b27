"""Fixtures for all tests, and `pytest --plugin FILE`: the methods of an outside plug-in through the same suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.command_line import CommandLine, command_line
from support.tiny import FAMILIES, Models, save_model

from benchmark.base.errors import W2SError
from benchmark.base.paths import using
from benchmark.core.registry import load_plugin

# Laws are tried on the same examples every time, so that none fails now and then; `--hypothesis-profile search` looks
# for others.
settings.register_profile(
    "ordinary",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("search", settings.get_profile("ordinary"), derandomize=False, max_examples=500)
settings.load_profile("ordinary")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], metavar="FILE", help="Python file that registers methods")


def pytest_configure(config: pytest.Config) -> None:
    for file in config.getoption("--plugin"):  # before collection, when tests are parametrised by the registry
        try:
            load_plugin(Path(file))
        except W2SError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """Whatever a test says about this machine is forgotten after it."""
    with using():
        yield


@pytest.fixture
def w2s(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in a folder of the test's own."""
    with command_line(tmp_path) as command:
        yield command


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Tiny language models, a folder for each family."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        save_model(root / family, family)
    save_model(root / "gpt2-no-pad", "gpt2", pad=False)
    return Models(root)
