"""The command `w2s`: thin, one function per subcommand, a module for each subject. What they do is elsewhere."""

import sys

from benchmark.cli import looking, running, submitting, judging, making  # noqa: F401 # isort: skip (their order in the help)
from benchmark.base.process import STOPPED, interruptible
from benchmark.cli.common import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of `w2s`."""
    try:
        interruptible()
        app()
    except KeyboardInterrupt:  # before there was a command
        print(STOPPED, file=sys.stderr)
        sys.exit(130)
