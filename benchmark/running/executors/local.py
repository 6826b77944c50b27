"""This process does everything itself, one unit after the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmark.running.executors.contract import Outcomes, TellJob, do
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup


def in_this_process(plan: Sequence[Unit], setup: Setup, tell: TellJob) -> Outcomes:
    """See `benchmark.running.executors.contract`."""
    for unit in plan:
        yield unit, do(unit, setup, partial(tell, unit))
