"""Tests of the WILDS tasks on miniature data. Those that read them through the real `wilds` run where it is installed
(`make test-wilds`); the folder must not be called `wilds`, or `import wilds` would find it."""

from importlib.util import find_spec
from pathlib import Path

import miniature
import pytest

collect_ignore = [] if find_spec("wilds") else ["test_reading.py", "test_runs.py"]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with all five data sets; read only."""
    folder = tmp_path_factory.mktemp("data")
    for name in miniature.WRITERS:
        miniature.write(name, folder)
    return folder
