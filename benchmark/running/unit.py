"""One unit of work: build its problems, train its methods, score them. Runs in a worker; writes no results."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from benchmark.base.errors import MethodFailed, W2SError
from benchmark.base.notices import Tell
from benchmark.base.versions import libraries
from benchmark.core.canaries import CANARY_METHODS, Taught, canary_data
from benchmark.core.data import SPLITS, Problem
from benchmark.core.guard import Wrote
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.problems import build_problem, training_data
from benchmark.core.registry import METHODS
from benchmark.core.task import Task
from benchmark.core.training import NOWHERE, OnStep, train
from benchmark.running.evaluation import evaluate
from benchmark.running.memory import room, training_bytes
from benchmark.running.method_settings import MethodSetting, Trial
from benchmark.running.plan import Unit
from benchmark.running.result import UnitResult, add_entry
from benchmark.running.setup import Setup
from benchmark.running.tuning import expected_epochs, runs_of, train_trials
from benchmark.store.checkpoints import Checkpoints


def execute(unit: Unit, setup: Setup, tell: Tell = lambda text, share: None) -> UnitResult:
    """Do one unit; `tell` hears how it goes on.

    Raises:
        W2SError: the unit can't be done; out of the GPU's memory, it says what to change.
    """
    task = setup.task(unit.task)
    with suppress(torch.OutOfMemoryError):
        try:
            (result,) = _execute([unit], setup, tell)
            return result
        finally:
            task.student.release()  # the last weights may be a canary's, which knew the truth
    # the error is gone, and with it what its frames held in memory: the next unit needs the room
    raise W2SError(f"out of GPU memory; {task.student.relief(setup.student.of(task.name))}")


def execute_together(units: Sequence[Unit], setup: Setup, tell: Tell) -> list[UnitResult] | None:
    """Do units of one shape (`benchmark.running.joining`) in common training runs: what each gives alone, to rounding.

    None if anything else fails than a method that writes into what it is given; each alone then fails, or doesn't.
    """
    with suppress(Exception, SystemExit):
        results = _execute(units, setup, tell)
        return None if any(len(result.failures) > result.writes for result in results) else results
    return None


def _execute(units: Sequence[Unit], setup: Setup, tell: Tell) -> list[UnitResult]:
    groups: dict[tuple[tuple[MethodSetting, ...], int, bool], list[_Seed]] = {}
    results = []
    for unit in units:
        task, problems = setup.task(unit.task), dict[int, Problem]()
        scored = any(_uses_scores(training.settings) for training in unit.trainings)
        for seed in sorted({seed for training in unit.trainings for seed in training.seeds}):
            tell(f"problem of seed {seed}", 0)
            asked = setup.cache, setup.device, SPLITS, setup.conditions
            problems[seed] = build_problem(task, unit.condition, seed, *asked, scored=scored)
        results.append(UnitResult(unit, evaluate(task, list(problems.values()))))
        for training in unit.trainings:
            # replicas of one run share the number of examples, and whether there are source scores, so that no seed's
            # record depends on which others are trained; the order of seeds stays
            uses_scores = _uses_scores(training.settings)
            for problem in sorted((problems[seed] for seed in training.seeds), key=lambda p: (_size(p), p.seed)):
                lacks = uses_scores and problem.source_scores is None
                group = groups.setdefault((training.settings, _size(problem), lacks), [])
                group.append(_Seed(task, problem, results[-1]))
    runs = [(settings, part) for (settings, *_), group in groups.items() for part in _parts(group, setup.device)]
    epochs = 0
    for settings, part in runs:
        task, N = part[0].task, _size(part[0].problem)
        epochs += expected_epochs(_runs(task, settings), N)
        epochs += any(s.canary for s in settings) * setup.student.of(task.name).epochs_of(N)
    on_step = _Epochs(tell, epochs)
    for settings, part in runs:
        _train_and_score(part, settings, setup, on_step)
    return results


@dataclass(frozen=True)
class _Seed:
    """One seed of a unit, and the result to which it adds."""

    task: Task
    problem: Problem
    result: UnitResult


def _parts(group: Sequence[_Seed], device: str) -> Iterator[list[_Seed]]:
    """Whole units, as many together as a share of the memory holds."""
    most, part = room(device), list[_Seed]()
    for _, own in groupby(group, lambda seed: id(seed.result)):
        unit = list(own)
        if part and sum(training_bytes(seed.problem) for seed in (*part, *unit)) > most:
            yield part
            part = []
        part += unit
    yield part


def _runs(task: Task, settings: Sequence[MethodSetting]) -> list[list[Trial]]:
    """The trials of the methods, less canaries, as they train together."""
    trials = [trial for setting in settings if not setting.canary for trial in setting.trials]
    return runs_of(trials, apart=task.student.costly)


def _uses_scores(settings: Sequence[MethodSetting]) -> bool:
    return any("source_scores" in METHODS[setting.method].uses for setting in settings)


def _size(problem: Problem) -> int:
    return len(problem.truth.labels["train"])


class _Epochs:
    """Tells the progress bar how epochs go on. No closure: methods can reach it, and must not reach the problems."""

    def __init__(self, tell: Tell, expected: int) -> None:
        self._tell, self._expected, self._done = tell, expected, 0

    def __call__(self, share: float) -> None:
        self._tell(f"epoch {self._done + 1}", min(1.0, (self._done + share) / self._expected))
        self._done += share == 1


def _train_and_score(seeds: list[_Seed], settings: Sequence[MethodSetting], setup: Setup, on_step: OnStep) -> None:
    """Train methods and canaries on problems of one size, of one unit or several, and add their entries."""
    task, problems = seeds[0].task, [seed.problem for seed in seeds]
    label = seeds[0].result.unit.label
    failures, failed = list[str](), list[MethodFailed]()
    data, held_out = training_data(task.student, problems, setup.device, SPLITS)
    canaries = {setting.method: setting for setting in settings if setting.canary}
    checkpoints = _checkpoints(seeds, [setting for setting in settings if not setting.canary], setup)
    outcomes = train_trials(_runs(task, settings), data, on_step, checkpoints, failed.append)
    for error in failed:
        wrote = isinstance(error, Wrote)
        for result in {id(seed.result): seed.result for seed in (seeds if wrote else seeds[:1])}.values():
            result.failures.append(f"{result.unit.label}: {error}")
            result.writes += wrote
    if canaries and not all((p.truth.labels["train"] >= 0).any() for p in problems):
        failures.append(f"{label}: canaries need known labels in the train split, found none")
    elif canaries:
        wanted = [name for name in CANARY_METHODS if name in canaries]
        supervision = canary_data(data, [(seed.problem, seed.task.card.metric) for seed in seeds], wanted)
        checkpoints = _checkpoints(seeds, list(canaries.values()), setup)
        recipe = setup.student.of(task.name)
        (trained,) = train([Taught()], supervision, recipe, on_step, checkpoints)
        for position, name in enumerate(wanted):
            own = {key: v.unflatten(0, (-1, len(wanted)))[:, position] for key, v in trained.diagnostics.items()}
            student = trained.student.heads(slice(position, position + 1))
            outcomes[name] = [replace(trained, student=student, diagnostics=own)]
    by_name = {setting.method: setting for setting in settings}
    for name, tried in outcomes.items():
        if not tried[0].student.finite():  # another trial that isn't is not chosen
            failures.append(f"method '{name}' on {label}: training gave NaN or infinity; nothing recorded")
            continue
        for s, seed in enumerate(seeds):
            inputs = {split: own[s] for split, own in held_out.items()}
            add_entry(seed.result, seed.task, seed.problem, by_name[name], tried, (s, len(seeds)), inputs, setup)
    seeds[0].result.failures += failures


def _checkpoints(seeds: Sequence[_Seed], settings: Sequence[MethodSetting], setup: Setup) -> Checkpoints:
    """Where a costly training of these methods keeps its state; nowhere for others."""
    task, cache, problem = seeds[0].task, setup.cache, seeds[0].problem
    if not task.student.costly:
        return NOWHERE
    key = {
        "task": [task.name, task.version, problem.condition, problem.fingerprint],
        "seeds": [seed.problem.seed for seed in seeds],
        "methods": {setting.method: [setting.version, setting.hyperparameters] for setting in settings},
        "engine": ENGINE_VERSION,
        "device": setup.device,
        "libraries": libraries("torch", "transformers", "peft"),
    }
    found = Checkpoints.of(cache.root, key, cache.mirror)
    seeds[0].result.checkpoints.append(found)
    return found
