"""What a user sees of a run while it goes on: one bar over the units, naming those in flight."""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmark.running.executors.contract import Job, units_of


class UnitsBar:
    """One bar over the units, naming those in flight; nothing when standard error is not a terminal."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar, self._task = bar, bar.add_task("starting", total=total)
        self._in_flight: dict[str, tuple[str, float]] = {}  # label -> what a job is at, and units' worth done
        self._gone: set[str] = set()
        self._units = 0

    def tell(self, job: Job, text: str, share: float) -> None:
        """What a job is at, and the share of it that is done."""
        if job.label not in self._gone:  # a message may arrive after its unit
            self._in_flight[job.label] = text, share * len(units_of(job))
            self._show()

    def finished(self, job: Job) -> None:
        self._in_flight.pop(job.label, None)
        self._gone.add(job.label)
        self._units += len(units_of(job))
        self._show()

    def _show(self) -> None:
        in_flight = dict(self._in_flight)
        text = " | ".join(f"{label}: {what}" for label, (what, _) in in_flight.items())
        done = self._units + sum(done for _, done in in_flight.values())
        self._bar.update(self._task, description=text or "working", completed=done)


@contextlib.contextmanager
def progress(total: int) -> Iterator[UnitsBar]:
    """The bar of a run of so many units."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty()) as bar:
        yield UnitsBar(bar, total)
