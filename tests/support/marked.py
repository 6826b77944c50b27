"""Processes that tests have started, found by a token in their environment, which whatever they start inherits."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

_TOKEN = "W2S_TEST_TOKEN"


def token() -> dict[str, str]:
    """To be added to an environment."""
    return {_TOKEN: uuid.uuid4().hex}


def processes(environment: Mapping[str, str]) -> dict[int, str]:
    """Process id -> command line of everything that was started with this environment's token and lives."""
    found, mark = {}, f"{_TOKEN}={environment[_TOKEN]}".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has just ended
            continue
    return found
