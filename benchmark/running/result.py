"""What a unit of work gives: records, predictions, replies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.base.versions import libraries
from benchmark.core.abilities import as_policy
from benchmark.core.canaries import CANARY_METHODS
from benchmark.core.data import Problem
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import Evaluation, Record, compact, digest
from benchmark.core.registry import METHODS
from benchmark.core.scoring import compute_metrics
from benchmark.core.task import Task
from benchmark.core.training import Trained
from benchmark.results.replies import Reply
from benchmark.results.trials import AGREEMENT, CHOSEN, trial_metrics
from benchmark.running.evaluation import whole
from benchmark.running.method_settings import MethodSetting
from benchmark.running.plan import Unit
from benchmark.running.setup import Setup
from benchmark.store.checkpoints import Checkpoints

LIBRARIES = ("torch", "numpy", "scikit-learn", "transformers", "peft", "wilds", "torchvision")
Entry = tuple[Record, NDArray[Any]]


@dataclass
class UnitResult:
    """What one unit produced: truth and supervisors' predictions per seed, and the methods' records and predictions."""

    unit: Unit
    evaluation: Evaluation
    entries: list[Entry] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    writes: int = 0  # failures of methods that wrote into what all are given: of all units that train together
    replies: list[Reply] = field(default_factory=list)
    checkpoints: list[Checkpoints] = field(default_factory=list)  # not needed any more when all is written


def add_entry(
    result: UnitResult,
    task: Task,
    problem: Problem,
    setting: MethodSetting,
    tried: Sequence[Trained],
    place: tuple[int, int],
    inputs: dict[str, Any],
    setup: Setup,
) -> None:
    """Add what a method gives for a problem: its record, predictions (replicas, n) of the whole pool and replies.

    Args:
        tried: of each of its settings, the students of all seeds that were trained together.
        place: the problem's seed among these, and how many they are.
        inputs: what the student reads of each of the problem's splits.
    """
    (s, seeds), evaluation = place, result.evaluation
    seed, tests = problem.seed, inputs["test"]
    predicted = [{split: _predicted(trained, s, x) for split, x in inputs.items()} for trained in tried]
    predictions = compact(np.concatenate([whole(by_split, axis=1) for by_split in predicted]))
    choice: dict[str, Any] = {}
    if setup.tune:  # by how often replicas say what the ensemble says; training that diverged agrees with nobody
        ensemble, val = problem.soft_labels["val"].mean(1).argmax(-1), [by_split["val"] for by_split in predicted]
        finite = [trained.student.seed(s).finite() for trained in tried]
        agrees = [(said == ensemble).mean() if fine else 0 for said, fine in zip(val, finite, strict=True)]
        # of several that agree most the first is chosen, so that the default wins a tie
        choice = {AGREEMENT: list(map(float, agrees)), CHOSEN: int(np.argmax(agrees))}
        metrics = trial_metrics(evaluation, seed, predictions, choice[CHOSEN], setting.method)
    else:
        metrics = compute_metrics(evaluation, seed, predictions, setting.method)
    outcome = tried[choice.get(CHOSEN, 0)]
    # plain numbers and lists; a value of a single replica loses the replica axis
    values = {name: v.unflatten(0, (seeds, -1))[s] for name, v in outcome.diagnostics.items()}
    rounded = {name: value.double().numpy().round(6) for name, value in values.items()}
    diagnostics: dict[str, Any] = {name: (v if len(v) > 1 else v[0]).tolist() for name, v in rounded.items()}
    if setting.canary:
        diagnostics |= CANARY_METHODS[setting.method].remarks(problem, task.card.metric)
    method = METHODS[setting.method]
    record = Record(
        task=task.name,
        condition=problem.condition,  # type: ignore[arg-type]
        method=setting.method,
        setting=setting.hash,
        seed=seed,
        metrics=metrics,
        diagnostics={**diagnostics, **task.student.diagnostics(problem), **choice},
        hyperparameters=dict(setting.hyperparameters),
        cost=sum(trained.steps for trained in tried) * (len(predictions) // len(tried)),
        n_train=len(problem.truth.labels["train"]),
        n_test=len(problem.truth.labels["test"]),
        predictions_sha256=digest(predictions),
        evaluation_sha256=evaluation.seeds[seed].sha256,
        device=torch.cuda.get_device_name() if setup.device == "cuda" else setup.device,
        libraries=libraries(*LIBRARIES),
        commit=setup.commit,
        data_fingerprint=problem.fingerprint,
        engine_version=ENGINE_VERSION,
        task_version=task.version,
        method_version=setting.version,
        kind="canary" if setting.canary else method.kind,
        ablation_of=method.ablation_of,
        family=method.family,
        title=method.title,
        uses=outcome.uses,
        source_sha256=setting.source,
    )
    result.entries.append((record, predictions))
    if setup.replies and (policy := as_policy(task.student)):
        truth = dict(zip(tests[0].examples.tolist(), problem.truth.labels["test"].tolist(), strict=True))
        for answer in policy.replies(outcome.student.seed(s), tests, setup.replies):
            said = answer._asdict()
            first, second = said.pop("first"), said.pop("second")
            reference = second if truth[answer.example] else first
            result.replies.append(Reply(**record.key._asdict(), **said, reference=reference))


def _predicted(trained: Trained, position: int, inputs: Any) -> NDArray[Any]:
    """Class ids (h, n) that the heads of one seed predict."""
    return compact(trained.student.seed(position).classes(inputs)[0].cpu().numpy())
