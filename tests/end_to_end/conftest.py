"""`w2s` for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, command_line


@pytest.fixture
def w2s(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in a folder of the test's own."""
    with command_line(tmp_path) as command:
        yield command
