"""How the user is told: lines on the way, and how far work has come."""

import sys
from collections.abc import Callable

Say = Callable[[str], None]  # one line for the user
Tell = Callable[[str, float], None]  # what is going on, and the share of the work that is done


def notice(line: str) -> None:
    """About something that work goes on from (a broken cache entry, a download, a full disk): on standard error."""
    print(line, file=sys.stderr, flush=True)
