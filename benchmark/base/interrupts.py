"""SIGINT and SIGTERM end a command, but not in the middle of an import: compiled modules abort there, and CPython takes
an interrupt of the code that `dataclass` writes for one that nobody has handled."""

from __future__ import annotations

import _thread
import signal
import time
from types import FrameType

STOPPED = "stopped; the same command goes on from what was finished"
_PATIENCE = 10.0  # seconds that an import may go on
_AGAIN = 0.02


def interruptible() -> None:
    """Either signal raises KeyboardInterrupt in the main thread, a second SIGTERM ends the process at once. Where
    SIGINT is ignored, as in what a shell runs in the background, it stays so."""
    signal.signal(signal.SIGTERM, _Stop())
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Stop())


class _Stop:
    """The handler of one signal."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._coming = False  # again

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if _importing(frame) and now < self._since + _PATIENCE:
            if not self._coming:
                self._coming = True
                _thread.start_new_thread(self._again, (_thread.get_ident(), signum))  # `threading` may be locked now
            return
        self._since = None
        if signum == signal.SIGTERM:
            signal.signal(signum, signal.SIG_DFL)
        raise KeyboardInterrupt

    def _again(self, thread: int, signum: int) -> None:
        time.sleep(_AGAIN)
        self._coming = False
        signal.pthread_kill(thread, signum)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
