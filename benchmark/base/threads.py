"""Threads: one a process."""

from __future__ import annotations

import os


def one_thread() -> None:
    """Keep this process and its workers to one thread each, unless the user's environment says otherwise.

    Must come before torch is imported. Many small operations gain nothing from threads, and lose most of their speed
    when threads outnumber free cores; one process a core uses the machine better.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
