"""Fixtures for all tests, and `pytest --plugin FILE`: the methods of an outside plug-in through the same suite."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from benchmark.base.errors import W2SError
from benchmark.base.paths import using
from benchmark.core.registry import load_plugin
from benchmark.store.cache import Cache
from support import marked
from support.command_line import CommandLine, command_line
from support.forked_runs import Forker
from support.made_up import registries_restored
from support.snapshots import Snapshots
from support.tiny import FAMILIES, Models, save_model

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
    parser.addoption("--update-snapshots", action="store_true", help="write the texts that tests are compared with")


def pytest_configure(config: pytest.Config) -> None:
    for file in config.getoption("--plugin"):  # before collection, when tests are parametrised by the registry
        try:
            load_plugin(Path(file))
        except W2SError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="module", autouse=True)
def _imports_are_no_garbage() -> None:
    """Libraries hold millions of objects, and each collection, of which language models ask for many, looks at all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_outlives_a_test() -> Iterator[None]:
    """Tasks, methods, settings of this machine and environment variables are afterwards what they were."""
    environment = dict(os.environ)
    with registries_restored(), using():
        yield
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)


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
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """The command line in processes of its own, with the user's ordinary cache, at no more than the price of a fork."""
    forker = Forker(tmp_path_factory.mktemp("forker"), {"OMP_NUM_THREADS": "1", **os.environ, **marked.token()})
    yield forker
    forker.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Tiny language models, a folder for each family."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        save_model(root / family, family)
    save_model(root / "gpt2-no-pad", "gpt2", pad=False)
    return Models(root)
