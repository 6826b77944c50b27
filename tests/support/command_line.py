"""The command line in this process: quick, and nothing it registers or sets outlives a test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.cli import app
from support.made_up import registries_restored


def without_untrained(err: str) -> str:
    """Standard error less what a run says of students that were hardly trained, as those of made-up tasks often are."""
    return re.sub(r"(.*\): the ceiling.*\n)+methods can't be judged there.*\n", "", err)


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The message of bad input, which must be one line, beside a status of 2 and nothing else."""
        assert self.status == 2, self
        assert self.out == "", self
        lines = self.err.splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("error: "), self
        return lines[0].removeprefix("error: ")


class CommandLine:
    """Runs `w2s` with the given arguments."""

    def __call__(self, *arguments: str | Path) -> Outcome:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # a user would see a traceback
        return Outcome(result.exit_code, result.stdout, result.stderr)


@contextmanager
def command_line(folder: Path) -> Iterator[CommandLine]:
    """`w2s` in an empty folder with its own cache; units run in this process, not in workers."""
    with pytest.MonkeyPatch.context() as patch, registries_restored():
        patch.chdir(folder)
        patch.setenv("W2S_CACHE", str(folder / "cache"))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
            patch.setenv(name, os.environ.get(name, "1"))  # the command sets them; forget that afterwards
        patch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
        yield CommandLine()
