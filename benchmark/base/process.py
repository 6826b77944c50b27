"""This process: how it is stopped, how much memory there is for it, how many threads it uses."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

STOPPED = "stopped; the same command goes on from what was finished"
_GROUPS, _LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # Linux


def interruptible() -> None:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does; a second one ends the process at once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def one_thread() -> None:
    """Keep this process and its workers to one thread each, unless the user's environment says otherwise.

    Must come before torch is imported. Many small operations gain nothing from threads, and lose most of their speed
    when threads outnumber free cores; one process a core uses the machine better.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def memory() -> int:
    """Bytes of memory for this process and for files that the system keeps: the machine's, or what its container or
    batch job may use."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit in _limits():
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int(limit.read_text()))
    return min(found)


def _limits() -> Iterator[Path]:
    """Where they stand: those of this process's control group and of all above it; of versions 2 and 1."""
    yield from (_LIMITS / "memory.max", _LIMITS / "memory" / "memory.limit_in_bytes")  # a container's own view
    with contextlib.suppress(OSError):
        for line in _GROUPS.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            for group in (Path(path), *Path(path).parents):
                own = group.relative_to(group.anchor)
                if not kinds:
                    yield _LIMITS / own / "memory.max"
                elif "memory" in kinds.split(","):
                    yield _LIMITS / "memory" / own / "memory.limit_in_bytes"
