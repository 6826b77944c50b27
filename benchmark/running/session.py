"""A run from request to last line: makes the plan, runs it, says what is done and what is not."""

from collections.abc import Callable, Sequence

from benchmark.base.errors import Vanished, W2SError
from benchmark.base.notices import Say, notice
from benchmark.base.paths import using
from benchmark.core.names import GRID_SIZE
from benchmark.core.registry import TASKS
from benchmark.results.untrained import untrained
from benchmark.running.joining import training_runs
from benchmark.running.plan import absent_units, make_plan, other_data, other_sources
from benchmark.running.request import Request, Run, resolve
from benchmark.running.runner import USUAL, Report, Workforce, execute


def start(request: Request, say: Say, workforce: Workforce = USUAL) -> int:
    """Resolve a request, plan it and run it; returns the exit status: 0, 1 when something could not be run, 130 when it
    was stopped.

    Raises:
        W2SError: bad input; nothing was run. Or the run can't go on: then what has failed is said, but for this.
    """
    return _to_its_end(lambda: resolve(request, say), say, workforce)


def carry_out(run: Run, say: Say, workforce: Workforce = USUAL) -> int:
    """Plan what is resolved already, and run it; see `start`."""
    return _to_its_end(lambda: run, say, workforce)


def foresee(request: Request, say: Say) -> int:
    """Say what `start` would run, unit by unit, and what is missing here; nothing is run, fetched or written."""
    run = resolve(request, say)
    if run.outdated and _nothing_outdated(run, say):
        return 1 if run.outdated.left_out else 0
    units, absent = make_plan(run), absent_units(run)
    _say_replaced(run, say)
    tasks = {task.name: task for task in run.tasks}
    disk: dict[str, float] = {}
    for unit in (*units, *absent):
        task = tasks[unit.task]
        say(str(unit))
        if task.disk is not None and task.name not in disk:  # once a task
            disk[task.name] = task.disk
            say(f"  student: {task.student.title}; requires {task.card.requires}")
            missing = "; data or models are missing here" * (task.name in run.lacking)
            say(f"  its data take {task.disk / 1e9:.3g} GB of disk{missing}")
    if len(disk) > 1:
        say(f"in all {sum(disk.values()) / 1e9:.3g} GB of disk")
    each = f", {GRID_SIZE} settings a method" * run.setup.tune
    if (runs := training_runs(units, run.setup)) != len(units):
        say(f"{len(units)} units in {runs} runs of the training loop")
    say(f"{len(units) + len(absent)} units to run{each}, results in {run.store.root}")
    _say_failures(_not_run(run), say)
    return 1 if run.lacking or (run.outdated and run.outdated.left_out) else 0


def _to_its_end(resolved: Callable[[], Run], say: Say, workforce: Workforce) -> int:
    """See `start`. Whatever ends a run early, what is done and what has failed is said."""
    report = Report()
    try:
        run = resolved()
        if run.outdated and _nothing_outdated(run, say):
            return 1 if run.outdated.left_out else 0
        report.failures += _not_run(run)
        with run.store.lock():
            units = make_plan(run)
            _say_replaced(run, say)
            execute(units, run.setup, run.store, report, workforce)
            if run.outdated:
                run.store.drop(run.outdated.superseded(run.store))
        idle = run.available and not units
        say(f"nothing to do: all is in {run.store.root}" if idle else f"{report}, results in {run.store.root}")
        _say_failures(report.failures, say)
        if units:
            _warn_of_untrained(run)
        return 1 if report.failures or (run.outdated and run.outdated.left_out) else 0
    except KeyboardInterrupt:
        left = f"{report.planned - report.units} left, results in {report.results}"
        done = f"{report}, {left}" if report.planned else "no unit was begun"
        status, what = 130, f"{done}; the same command goes on from there"
    except Vanished as error:
        status, what = 1, f"{error}; the same command does again what is lost with them"
    except W2SError as error:
        if report.units:  # it was in the middle: a node of a cluster that can't take part, say
            _say_failures([line for line in report.failures if line not in str(error)], say)
        raise
    _say_failures(report.failures, say)
    say(f"stopped: {what}")
    return status


def _nothing_outdated(run: Run, say: Say) -> bool:
    """Whether there is nothing to redo; what can't be redone is said."""
    assert run.outdated is not None
    for line in run.outdated.left_out:
        say(line)
    if not run.outdated.places:
        say(f"nothing to redo in {run.store.root}")
    return not run.outdated.places


def _say_replaced(run: Run, say: Say) -> None:
    for line in (*other_sources(run), *(f"{line}: replacing them (--force)" for line in other_data(run))):
        say(line)


def _warn_of_untrained(run: Run) -> None:
    """Of the run's own tasks, those whose students were hardly trained."""
    names = {task.name for task in run.tasks}
    found = {cell: fault for cell, fault in untrained(run.store.load()).items() if cell[0] in names}
    for (task, condition), fault in found.items():
        notice(f"{task} ({condition}): {fault}")
    if found:
        notice("methods can't be judged there; train longer (--set min_steps=N, in a folder of its own)")


def _not_run(run: Run) -> list[str]:
    return [f"not run: {name}: {why}" for name, why in run.lacking.items()]


def _say_failures(failures: Sequence[str], say: Say) -> None:
    for line in failures:
        say(" ".join(line.split()))


def download(globs: list[str], mirror: str | None, say: Say) -> int:
    """Get data and models that are never fetched unasked; the exit status is 1 when a task can't be run then."""
    ready = True
    with using(download=True):
        for name in TASKS.select(globs):
            task = TASKS[name]
            try:
                task.download(mirror, say)
                lack = task.missing()
            except W2SError as error:
                lack = str(error)
            say(f"{name}: {' '.join(lack.split()) if lack else 'all is here'}")
            ready = ready and not lack
    return 0 if ready else 1
