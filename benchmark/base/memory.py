"""How much memory there is for this process and for the files that the system keeps in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS, _LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # Linux


def memory() -> int:
    """Bytes: the machine's, or what its container or its batch job may use."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit in _files():
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            found.append(int(limit.read_text()))
    return min(found)


def _files() -> Iterator[Path]:
    """Where limits stand: those of this process's control group and of all above it; of versions 2 and 1."""
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
