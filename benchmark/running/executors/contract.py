"""The contract of an executor, and what all of them share: how one job is done and in which order jobs begin.

An executor is a generator over a plan. It yields each job once, in any order, with what came of it: of a unit its
result or the one-line error that it failed with, of joined units a list of these, of a `Pass` None. Closing it ends
whatever is still running. It writes no results.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from benchmark.base.errors import W2SError
from benchmark.base.notices import Tell
from benchmark.core.abilities import ChunkReader
from benchmark.core.pools import pool_domains
from benchmark.running.joining import Joined, joined
from benchmark.running.plan import Unit
from benchmark.running.result import UnitResult
from benchmark.running.setup import Setup
from benchmark.running.unit import execute, execute_together

ATTEMPTS = 3  # of a job whose worker dies; what fails on its own merits fails once


@dataclass(frozen=True)
class Pass:
    """A share of the reading of one large domain: the cache's chunks that one worker makes."""

    task: str
    domain: str
    chunks: tuple[int, ...]  # their positions
    number: int  # of this share among those of the domain, from 1
    readers: frozenset[str]  # tasks whose units wait for it

    @property
    def label(self) -> str:
        return f"{self.task} (reading {self.domain}, part {self.number})"


Job = Unit | Joined | Pass
UnitOutcome = UnitResult | W2SError
Outcome = UnitOutcome | list[UnitOutcome] | None
Outcomes = Generator[tuple[Job, Outcome], None, None]
TellJob = Callable[[Job, str, float], None]  # what a job is at, and the share of it that is done


def do(job: Job, setup: Setup, tell: Tell) -> Outcome:
    """Do one job in this process. Whatever it raises, `sys.exit` included, comes back as a one-line `W2SError`.

    A process that the job forks never gets out of here: there would be two of us.
    """
    process = os.getpid()

    def own(text: str, share: float) -> None:
        if os.getpid() != process:
            os._exit(1)
        tell(text, share)

    try:
        if isinstance(job, Unit):
            return execute(job, setup, own)
        if isinstance(job, Joined):
            if (results := execute_together(job.units, setup, own)) is not None:
                return list(results)
            own("each alone", 0)
            return [outcome for unit in job.units for _, outcome in outcomes_of(unit, do(unit, setup, tell))]
        task = setup.task(job.task)
        student, chunks = task.student, job.chunks
        assert isinstance(student, ChunkReader)
        made = lambda count: own(f"{count} of {len(chunks)} chunks", 0)  # noqa: E731
        student.read_chunks(job.task, task.domain(job.domain), chunks, setup.cache, setup.device, made)
        return None
    except (Exception, SystemExit) as error:  # one unit's fault must not stop the others
        line = " ".join(str(error).split())
        return W2SError(line if isinstance(error, W2SError) else f"{type(error).__name__}: {line}")
    finally:
        if os.getpid() != process:
            os._exit(1)


def units_of(job: Job) -> tuple[Unit, ...]:
    """The units of a job, none of a `Pass`."""
    return job.units if isinstance(job, Joined) else (job,) if isinstance(job, Unit) else ()


def outcomes_of(job: Job, outcome: Outcome) -> list[tuple[Unit, UnitOutcome]]:
    """What came of each unit of a job."""
    units = units_of(job)
    outcomes = outcome if isinstance(outcome, list) else [outcome] * len(units)
    return [(unit, own) for unit, own in zip(units, outcomes, strict=True) if own is not None]


def in_this_process(plan: Sequence[Unit], setup: Setup, tell: TellJob) -> Outcomes:
    """The simplest executor: one job after the other."""
    for job in joined(plan, setup, 1):
        yield job, do(job, setup, partial(tell, job))


def passes(plan: Sequence[Unit], setup: Setup, workers: int) -> list[Pass]:
    """What the cache lacks of the large domains that this plan reads, in shares for so many workers.

    Only for students that read in chunks (`ChunkReader`). What can't be found out here fails in its unit.
    """
    wanted: dict[tuple[str, str], tuple[str, str, list[int], set[str]]] = {}
    for unit in plan:
        try:
            task = setup.task(unit.task)
            student = task.student
            if not (isinstance(student, ChunkReader) and student.streams):
                continue
            for name in pool_domains(task, unit.condition):
                domain = task.domain(name)
                key = domain.fingerprint, student.fingerprint
                if key not in wanted:
                    lacking = student.lacking(domain, setup.cache, setup.device)
                    wanted[key] = unit.task, name, lacking, set()
                wanted[key][3].add(unit.task)
        except (Exception, SystemExit):
            continue
    found = []
    for task_name, name, lacking, readers in wanted.values():
        if len(lacking) > 1:
            shares = min(len(lacking), workers)
            cuts = [round(i * len(lacking) / shares) for i in range(shares + 1)]
            parts = [tuple(lacking[a:b]) for a, b in pairwise(cuts)]
            found += [Pass(task_name, name, part, i, frozenset(readers)) for i, part in enumerate(parts, 1)]
    return found


class Queue:
    """Which job begins next: passes first; a unit once the passes of its task have ended."""

    def __init__(self, plan: Sequence[Unit | Joined], passes: Sequence[Pass] = ()) -> None:
        self._waiting: deque[Job] = deque([*passes, *plan])
        self._open = Counter(name for share in passes for name in share.readers)
        self._deaths: Counter[Job] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Job | None:
        """A job that can begin, or None while there is none."""
        job = next((j for j in self._waiting if not any(self._open[unit.task] for unit in units_of(j))), None)
        if job is not None:
            self._waiting.remove(job)
        return job

    def ended(self, job: Job) -> None:
        if isinstance(job, Pass):
            self._open.subtract(job.readers)

    def died(self, job: Job, how: str, silent: float | None = None) -> W2SError | None:
        """Its worker died: it comes again, after the others, or has failed (the error) when that was too often; or when
        it was stopped as it had been `silent` for longer than the limit. Joined units come again one by one."""
        if isinstance(job, Joined):
            self._waiting.extend(job.units)
            return None
        if silent is not None:
            return W2SError(f"stopped: it said nothing for more than {silent:g} seconds (--limit)")
        self._deaths[job] += 1
        if self._deaths[job] < ATTEMPTS:
            self._waiting.append(job)
            return None
        return W2SError(f"its worker died {ATTEMPTS} times, last with {how} (killed, or out of memory?)")
