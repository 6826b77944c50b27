"""One unit of work: build its problems, train its methods, score them. Runs in a worker; writes no results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.base.errors import W2SError
from benchmark.base.notices import Tell
from benchmark.base.versions import libraries
from benchmark.core.canaries import CANARY_METHODS, canary_data
from benchmark.core.data import Problem
from benchmark.core.method import CrossEntropy
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.problems import build_problem, training_data
from benchmark.core.records import Evaluation, Record, SeedEvaluation, digest
from benchmark.core.registry import METHODS
from benchmark.core.scoring import compute_metrics
from benchmark.core.student import Fitted, Policy, as_policy
from benchmark.core.task import Task
from benchmark.core.training import NOWHERE, Trained, train
from benchmark.results.replies import Reply
from benchmark.results.trials import AGREEMENT, CHOSEN, trial_metrics
from benchmark.running.method_settings import MethodSetting, Trial
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup
from benchmark.running.tuning import agreement, chosen, expected_epochs, runs_of, train_trials
from benchmark.store.checkpoints import Checkpoints

LIBRARIES = ("torch", "numpy", "scikit-learn", "transformers", "crowd-kit", "peft", "wilds", "torchvision")
Entry = tuple[Record, NDArray[Any]]


@dataclass
class UnitResult:
    """What one unit produced: truth and supervisors' predictions per seed, and the methods' records and predictions.

    Attributes:
        replies: what policies answered.
        checkpoints: of trainings that are no more needed when this is written.
    """

    unit: Unit
    evaluation: Evaluation
    entries: list[Entry] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    checkpoints: list[Checkpoints] = field(default_factory=list)


def execute(unit: Unit, setup: Setup, tell: Tell = lambda text, share: None) -> UnitResult:
    """Do one unit.

    Args:
        unit: task, condition, and what is missing.
        setup: of the run.
        tell: hears how the unit goes on, for progress bars.

    Raises:
        W2SError: the unit can't be done; out of the GPU's memory, it says what to change.
    """
    task = setup.task(unit.task)
    with suppress(torch.OutOfMemoryError):
        try:
            return _execute(task, unit, setup, tell)
        finally:
            task.student.release()  # the last weights may be a canary's, which knew the truth
    # the error is gone, and with it what its frames held in memory: the next unit needs the room
    raise W2SError(f"out of GPU memory; {task.student.relief(setup.student.of(task.name))}")


def _execute(task: Task, unit: Unit, setup: Setup, tell: Tell) -> UnitResult:
    cache = setup.cache
    seeds = sorted({seed for training in unit.trainings for seed in training.seeds})
    problems: dict[int, Problem] = {}
    for seed in seeds:
        tell(f"problem of seed {seed}", 0)
        problems[seed] = build_problem(task, unit.condition, seed, cache, setup.device, setup.held_out)
    result = UnitResult(unit, evaluate(task, list(problems.values())))
    runs = []
    for training in unit.trainings:
        # replicas of one run share the number of examples; the order of seeds stays
        by_size = sorted(training.seeds, key=lambda s: (_size(problems[s]), s))
        sizes = groupby(by_size, lambda s: _size(problems[s]))
        runs += [(training.settings, [problems[s] for s in group]) for _, group in sizes]
    epochs = sum(expected_epochs(_runs(task, settings)) for settings, _ in runs)
    epochs += sum(any(s.canary for s in settings) for settings, _ in runs) * setup.student.of(task.name).epochs
    on_step = _Epochs(tell, epochs)
    for settings, group in runs:
        _train_and_score(task, group, settings, setup, on_step, result)
    return result


def evaluate(task: Task, problems: Sequence[Problem]) -> Evaluation:
    """Everything that any score of these problems needs besides the students' predictions."""
    return Evaluation(
        task=task.name,
        condition=problems[0].condition,  # type: ignore[arg-type]
        modality=task.card.modality,
        metric=task.card.metric,
        num_classes=problems[0].soft_labels["test"].shape[-1],
        target=task.card.target,
        tags=tuple(task.card.tags),
        supervisors=problems[0].supervisors,
        task_version=task.version,
        data_fingerprint=problems[0].fingerprint,
        seeds={
            p.seed: SeedEvaluation(
                labels=p.truth.labels["test"],
                groups=p.truth.groups["test"],
                supervisors=p.soft_labels["test"].argmax(-1).T,
                ensemble=p.soft_labels["test"].mean(1).argmax(-1),
                majority=_majority(p),
            )
            for p in problems
        },
    )


def _runs(task: Task, settings: Sequence[MethodSetting]) -> list[list[Trial]]:
    """The trials of the methods, less canaries, as they train together."""
    trials = [trial for setting in settings if not setting.canary for trial in setting.trials]
    return runs_of(trials, apart=task.student.costly)


def _size(problem: Problem) -> int:
    return len(problem.truth.labels["train"])


def _majority(problem: Problem) -> int:
    known = problem.truth.labels["train"]
    known = known[known >= 0]
    return int(np.bincount(known).argmax()) if len(known) else 0


def _train_and_score(
    task: Task,
    problems: list[Problem],
    settings: Sequence[MethodSetting],
    setup: Setup,
    on_step: Callable[[float], None],
    result: UnitResult,
) -> None:
    """Train methods and canaries on problems of one size, and add their entries to `result`."""
    data, held_out = training_data(task.student, problems, setup.device, setup.held_out)
    canaries = [setting for setting in settings if setting.canary]
    methods = [setting for setting in settings if not setting.canary]
    checkpoints = _checkpoints(task, problems, methods, setup)
    result.checkpoints.append(checkpoints)
    outcomes = train_trials(
        _runs(task, methods),
        data,
        on_step,
        checkpoints,
        report=lambda line: result.failures.append(f"{result.unit.label}: {line}"),
    )
    if canaries and not all((p.truth.labels["train"] >= 0).any() for p in problems):
        result.failures.append(f"{result.unit.label}: canaries need known labels in the train split, found none")
    elif canaries:
        wanted = [name for name in CANARY_METHODS if name in {setting.method for setting in canaries}]
        supervision = canary_data(data, problems, task.card.metric, wanted)
        checkpoints = _checkpoints(task, problems, canaries, setup)
        result.checkpoints.append(checkpoints)
        recipe = setup.student.of(task.name)
        (trained_canaries,) = train([CrossEntropy()], supervision, recipe, on_step, checkpoints)
        for position, name in enumerate(wanted):
            heads = trained_canaries.student.heads(slice(position, position + 1))
            outcomes[name] = [replace(trained_canaries, student=heads)]
    by_name = {setting.method: setting for setting in settings}
    for name, tried in outcomes.items():
        if not tried[0].student.finite():  # another trial that isn't is not chosen
            result.failures.append(
                f"method '{name}' on {result.unit.label}: training gave NaN or infinity; nothing recorded"
            )
            continue
        for s, problem in enumerate(problems):
            tests = held_out["test"][s]
            predictions = np.concatenate([_predicted(trained, s, tests) for trained in tried])
            choice = _choice(tried, s, held_out["val"][s], problem) if setup.tune else {}
            outcome = tried[choice.get(CHOSEN, 0)]
            diagnostics = _diagnostics(name, outcome, s, len(problems), problem, task.card.metric)
            diagnostics |= task.student.diagnostics(problem) | choice
            if setup.tune:
                metrics = trial_metrics(result.evaluation, problem.seed, predictions, choice[CHOSEN])
            else:
                metrics = compute_metrics(result.evaluation, problem.seed, predictions)
            evaluation_sha256 = result.evaluation.seeds[problem.seed].sha256
            cost = sum(trained.steps for trained in tried) * (len(predictions) // len(tried))
            record = _record(
                task, problem, by_name[name], cost, predictions, evaluation_sha256, metrics, diagnostics, setup
            )
            result.entries.append((record, predictions))
            if setup.replies and (policy := as_policy(task.student)):
                result.replies += _replies(policy, record, outcome.student.seed(s), tests, problem, setup.replies)


def _predicted(trained: Trained, position: int, inputs: Any) -> NDArray[np.int64]:
    """Class ids (h, n) that the heads of one seed predict."""
    classes: NDArray[np.int64] = trained.student.seed(position).predict(inputs)[0].argmax(-1).cpu().numpy()
    return classes


def _choice(tried: Sequence[Trained], position: int, inputs: Any, problem: Problem) -> dict[str, Any]:
    """Which trial of one seed is chosen on the validation split, by what. Training that diverged agrees with nobody."""
    ensemble = problem.soft_labels["val"].mean(1).argmax(-1)
    agreements = [
        agreement(_predicted(trained, position, inputs), ensemble) if trained.student.seed(position).finite() else 0.0
        for trained in tried
    ]
    return {AGREEMENT: agreements, CHOSEN: chosen(agreements)}


def _replies(
    policy: Policy, record: Record, student: Fitted, inputs: Any, problem: Problem, count: int
) -> Iterator[Reply]:
    """What the policies of one record answer, beside the responses that the data set prefers."""
    chosen = dict(zip(inputs[0].examples.tolist(), problem.truth.labels["test"].tolist(), strict=True))
    for answer in policy.replies(student, inputs, count):
        yield Reply(
            **record.key._asdict(),
            replica=answer.replica,
            example=answer.example,
            prompt=answer.prompt,
            reply=answer.reply,
            reference=answer.second if chosen[answer.example] else answer.first,
        )


def _checkpoints(
    task: Task, problems: Sequence[Problem], settings: Sequence[MethodSetting], setup: Setup
) -> Checkpoints:
    """Where a costly training of these methods keeps its state; nowhere for others."""
    if not task.student.costly:
        return NOWHERE
    cache = setup.cache
    return Checkpoints.of(
        cache.root,
        {
            "task": [task.name, task.version, problems[0].condition, problems[0].fingerprint],
            "seeds": [p.seed for p in problems],
            "methods": {setting.method: [setting.version, setting.hyperparameters] for setting in settings},
            "engine": ENGINE_VERSION,
            "device": setup.device,
            "libraries": libraries("torch", "transformers", "peft"),
        },
        cache.mirror,
    )


class _Epochs:
    """Tells the progress bar how epochs go on. No closure: methods can reach it, and must not reach the problems."""

    def __init__(self, tell: Tell, expected: int) -> None:
        self._tell, self._expected, self._done = tell, expected, 0

    def __call__(self, share: float) -> None:
        self._tell(f"epoch {self._done + 1}", min(1.0, (self._done + share) / self._expected))
        self._done += share == 1


def _diagnostics(
    name: str, outcome: Trained, position: int, seeds: int, problem: Problem, metric: str
) -> dict[str, Any]:
    """One seed's diagnostics as plain numbers and lists; a value of a single replica loses the replica axis."""
    if name in CANARY_METHODS:
        return CANARY_METHODS[name].remarks(problem, metric)
    plain = {}
    for key, value in outcome.diagnostics.items():
        own = value.unflatten(0, (seeds, -1))[position].double().numpy().round(6)
        plain[key] = (own if len(own) > 1 else own[0]).tolist()
    return plain


def _record(
    task: Task,
    problem: Problem,
    setting: MethodSetting,
    cost: int,
    predictions: NDArray[Any],
    evaluation_sha256: str,
    metrics: dict[str, float],
    diagnostics: dict[str, Any],
    setup: Setup,
) -> Record:
    """The record of one (task, condition, method, seed) with test predictions (replicas, n)."""
    method = METHODS[setting.method]
    return Record(
        task=task.name,
        condition=problem.condition,  # type: ignore[arg-type]
        method=setting.method,
        setting=setting.hash,
        seed=problem.seed,
        metrics=metrics,
        diagnostics=diagnostics,
        hyperparameters=dict(setting.hyperparameters),
        cost=cost,
        n_train=_size(problem),
        n_test=predictions.shape[1],
        predictions_sha256=digest(predictions),
        evaluation_sha256=evaluation_sha256,
        device=torch.cuda.get_device_name() if setup.device == "cuda" else setup.device,
        libraries=libraries(*LIBRARIES),
        commit=setup.commit,
        data_fingerprint=problem.fingerprint,
        engine_version=ENGINE_VERSION,
        task_version=task.version,
        method_version=setting.version,
        kind="canary" if setting.canary else method.kind,
        ablation_of=method.ablation_of,
        title=method.title,
    )
