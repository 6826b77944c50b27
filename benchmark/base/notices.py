"""One line for the user about something that work goes on from: a broken cache entry, a download, a full disk."""

from __future__ import annotations

import sys
from collections.abc import Callable

Say = Callable[[str], None]  # given a line of what a command has to say


def notice(line: str) -> None:
    """On standard error, at once."""
    print(line, file=sys.stderr, flush=True)
