"""The command `w2s`: thin, one function per subcommand, a module for each subject. What they do is elsewhere."""

from __future__ import annotations

import signal
import sys

from benchmark.cli import looking, running, submitting, judging, making  # noqa: F401 # isort: skip (their order in the help)
from benchmark.cli.common import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of `w2s`. SIGTERM ends a command like SIGINT does; a second one at once."""

    def stop(signum: int, frame: object) -> None:
        signal.signal(signum, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
