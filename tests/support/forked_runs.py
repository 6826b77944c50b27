"""`w2s` in forks of one process that has imported everything: a command starts at once, and can be killed anywhere.

As a program this is that process: it reads a request in JSON from each line, and answers with the fork's process id
and, when that has ended, with what came of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from support import marked

DEADLINE = 240
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Asked:
    """One command, and the signal that it gets, if any.

    Attributes:
        cores: how many it believes to have. With one it does its units itself, unless told otherwise.
        moment: the signal comes at the n-th of these moments: before a file is synced, before one is renamed, after it
            is renamed. 0: at none.
        delay: the signal comes after so many seconds. 0: not by time.
    """

    arguments: list[str]
    folder: str
    environment: dict[str, str] = field(default_factory=dict)
    cores: int = 1
    signal: int = signal.SIGKILL
    moment: int = 0
    delay: float = 0.0


@dataclass(frozen=True)
class Ended:
    """What came of it.

    Attributes:
        status: as Python's subprocesses have it: minus the signal of a process that was killed.
        moments: how many there were; of a process that was killed 0.
    """

    status: int
    out: str
    err: str
    seconds: float
    moments: int


@dataclass
class Running:
    """A command under way."""

    pid: int
    _answers: IO[str]

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return Path(f"/proc/{self.pid}").exists()

    def ended(self) -> Ended:
        """Wait for it; once."""
        return Ended(**json.loads(self._answers.readline()))


class Forker:
    """See the module. One command at a time.

    Args:
        folder: where commands run, unless they are given another one.
        environment: of all of them, with a token (`marked`).
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        path = os.pathsep.join([str(TESTS.parent), str(TESTS), *filter(None, [environment.get("PYTHONPATH")])])
        self.folder, self.environment = folder, {**environment, "PYTHONPATH": path}
        pipe = subprocess.PIPE
        call = [sys.executable, "-P", __file__]
        self.process = subprocess.Popen(call, cwd=folder, env=self.environment, stdin=pipe, stdout=pipe, text=True)

    def start(self, *arguments: str | Path, **more: Any) -> Running:
        """Begin `w2s` with these arguments; `more` as in `Asked`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = Asked([str(a) for a in arguments], **{"folder": str(self.folder), **more})
        print(json.dumps(asdict(asked)), file=self.process.stdin, flush=True)
        return Running(json.loads(self.process.stdout.readline()), self.process.stdout)

    def run(self, *arguments: str | Path, **more: Any) -> Ended:
        """The same, to its end."""
        return self.start(*arguments, **more).ended()

    def started(self, kind: str = "") -> dict[int, str]:
        """Process id -> command line, which holds `kind`, of what this process has started and lives."""
        found = marked.processes(self.environment)
        return {pid: line for pid, line in found.items() if pid != self.process.pid and kind in line}

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=DEADLINE)


def _command(asked: Asked, count: int) -> int:
    """In the fork: the command's exit status. The number of moments goes to the file descriptor `count`."""
    moments = 0

    def step() -> None:
        nonlocal moments
        moments += 1
        if moments == asked.moment:
            os.kill(os.getpid(), asked.signal)

    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            step()
        fsync(descriptor)

    def rename(source: Any, target: Any, **where: Any) -> None:
        step()
        replace(source, target, **where)
        step()

    os.fsync, os.replace = sync, rename  # type: ignore[assignment]
    os.sched_getaffinity = lambda pid: set(range(asked.cores))  # type: ignore[assignment]
    os.environ.update(asked.environment)
    os.chdir(asked.folder)
    sys.argv[1:] = asked.arguments
    from benchmark import cli

    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(count, str(moments).encode())
    return status


def _forked(asked: Asked) -> Iterator[Any]:
    """The process id of a fork that does this, then what came of it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as count:
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)  # as a shell does
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where this was started in the background
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            status = 99
            try:
                status = _command(asked, count.fileno())
            except BaseException:
                sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            finally:
                os._exit(status)
        yield child
        if asked.delay:
            time.sleep(asked.delay)
            if asked.signal == signal.SIGINT:  # a terminal sends it to all that it runs
                os.killpg(child, asked.signal)
            else:
                os.kill(child, asked.signal)  # if it has ended, it waits to be asked for its status
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = time.monotonic() - begun
        for file in (out, err, count):
            file.seek(0)
        said = out.read().decode(), err.read().decode()
        yield asdict(Ended(status, *said, seconds, int(count.read() or 0)))


def _serve() -> None:
    import torch._dynamo  # noqa: F401 (the first optimizer would import it, for more than a second)

    from benchmark.core.registry import METHODS, TASKS

    METHODS.discover()
    TASKS.discover()
    for line in sys.stdin:
        for answer in _forked(Asked(**json.loads(line))):
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
