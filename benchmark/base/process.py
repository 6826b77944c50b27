"""This process: how it is stopped, and how many threads it uses."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType

STOPPED = "stopped; the same command goes on from what was finished"


def interruptible() -> None:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does; a second one ends the process at once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or less where its control group has a limit."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 * 2**30]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such group, or `max`
            found.append(int(Path(limit).read_text()))
    return min(found)


def one_thread() -> None:
    """Keep this process and its workers to one thread each, unless the user's environment says otherwise.

    Must come before torch is imported. Many small operations gain nothing from threads, and lose most of their speed
    when threads outnumber free cores; one process a core uses the machine better.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
