"""Where the one task of a run comes from that is no plug-in: the user's arrays, a feature pack."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from benchmark.core.task import ReadyMade


class Source(Protocol):
    """Made from what the user names; goes to every process that works for the run."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files or folders that are read, and sent to machines that don't see them."""

    def folder(self, suite: str) -> str:
        """The name of the folder under `runs/` for its results, in a suite whose folder has the given name."""

    def register(self, copies: Mapping[Path, Path]) -> ReadyMade:
        """Make the task known in this process.

        Args:
            copies: file -> where it lies here, of those that this machine doesn't see.

        Raises:
            W2SError: the files can't be used.
        """
