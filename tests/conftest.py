"""`pytest --plugin FILE` runs the methods of an outside plug-in through the same suite."""

from pathlib import Path

import pytest

from benchmark.errors import W2SError
from benchmark.registry import load_plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], metavar="FILE", help="Python file that registers methods")


def pytest_configure(config: pytest.Config) -> None:
    for file in config.getoption("--plugin"):  # before collection, when tests are parametrised by the registry
        try:
            load_plugin(Path(file))
        except W2SError as error:
            raise pytest.UsageError(str(error)) from None
