"""Trials: what settings of a method are trained, how they train together, and which one is chosen without the truth.

An ordinary run has one trial a method, its default; with `--tune` there is one for each setting of the method's grid.
"""

from collections.abc import Callable, Iterable, Sequence

import torch

from benchmark.base.errors import MethodFailed, W2SError
from benchmark.core.data import Recipe
from benchmark.core.guard import SomeoneWrote
from benchmark.core.training import OnStep, Trained, TrainingData, train
from benchmark.running.method_settings import Trial
from benchmark.store.checkpoints import Checkpoints


def runs_of(trials: Iterable[Trial], apart: bool) -> list[list[Trial]]:
    """Which trials train in one run: those of one recipe; of a costly student, each of a method's `apart`, as nothing
    is gained by having several in memory at once."""
    runs: dict[tuple[Recipe, int], list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        runs.setdefault((trial.recipe, trial.number if apart else 0), []).append(trial)
    return list(runs.values())


def expected_epochs(runs: Sequence[Sequence[Trial]], num_examples: int) -> int:
    """A guess for the time left, on a train split of so many examples: how many stages a staged method has shows only
    as it runs; two is usual."""
    stages = ((2 * sum(t.staged for t in run) + any(not t.staged for t in run), run[0].recipe) for run in runs)
    return sum(count * recipe.epochs_of(num_examples) for count, recipe in stages)


def train_trials(
    runs: Sequence[Sequence[Trial]],
    data: TrainingData,
    on_step: OnStep,
    checkpoints: Checkpoints,
    report: Callable[[MethodFailed], None],
) -> dict[str, list[Trained]]:
    """Train all trials, each method's results in the order of its grid; one that fails in any of its trials is
    reported, and the others train without it."""
    trained: dict[tuple[str, int], Trained] = {}
    failed: dict[str, MethodFailed] = {}
    for number, run in enumerate(runs):
        own = checkpoints if len(runs) == 1 else checkpoints.part(f"run-{number}")
        trained |= _train(run, data, on_step, own, failed)
    for error in failed.values():
        report(error)
    results: dict[str, list[Trained]] = {}
    for method, number in sorted(trained):
        if method not in failed:
            results.setdefault(method, []).append(trained[method, number])
    return results


def _train(
    trials: Sequence[Trial],
    data: TrainingData,
    on_step: OnStep,
    checkpoints: Checkpoints,
    failed: dict[str, MethodFailed],
    closely: bool = False,
) -> dict[tuple[str, int], Trained]:
    """One run, less the methods that have `failed`, and again without each that fails in it; `closely` finds out which
    one spoils what all are given."""
    trials = [trial for trial in trials if trial.method not in failed]
    if not trials:
        return {}
    try:
        trained = train([t.instance() for t in trials], data, trials[0].recipe, on_step, checkpoints, closely=closely)
        return {(t.method, t.number): own for t, own in zip(trials, trained, strict=True)}
    except MethodFailed as error:
        failed[error.method] = error
        if not next(t for t in trials if t.method == error.method).staged:  # which has checkpoints of its own
            checkpoints = checkpoints.part(f"without-{error.method}")
        return _train(trials, data, on_step, checkpoints, failed)
    except (torch.OutOfMemoryError, W2SError):  # no method's fault: trying them one by one would not help
        raise
    except Exception as error:  # not blamed on a method: in its backward pass, say
        if isinstance(error, SomeoneWrote) and not closely:
            return _train(trials, data, on_step, checkpoints.part("closely"), failed, closely=True)
        names = list(dict.fromkeys(trial.method for trial in trials))
        if len(names) == 1:
            failed[names[0]] = MethodFailed(names[0], f"{type(error).__name__}: {error}")
            return {}
        alone: dict[tuple[str, int], Trained] = {}
        for name in names:
            own = [trial for trial in trials if trial.method == name]
            alone |= _train(own, data, on_step, checkpoints.part(name), failed)
        return alone
