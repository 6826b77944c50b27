"""Task + condition + seed -> Problem: features, soft labels, and the truth, kept apart."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.base.errors import W2SError
from benchmark.base.fingerprint import fingerprint
from benchmark.base.seeding import numpy_rng
from benchmark.core.abilities import as_policy
from benchmark.core.data import TEST, Domain, Problem, Splits, Truth
from benchmark.core.pools import VERSION, draw_pool, rated
from benchmark.core.soft_labels import content, soft_labels, supervisor_recipe
from benchmark.core.source_scores import source_scores
from benchmark.core.student import StudentKind
from benchmark.core.task import ReadyMade, Task
from benchmark.core.training import TrainingData
from benchmark.store.cache import Cache


def build_problem(
    task: Task,
    condition: str,
    seed: int,
    cache: Cache,
    device: str = "cpu",
    held_out: Splits = TEST,
    also: Sequence[str] = (),
    scored: bool = False,
) -> Problem:
    """Deal the pool, get features and soft labels (from the cache, or made now).

    Args:
        held_out: splits that the student reads beside the train split; a linear head's features are of all splits.
        also: conditions that this run has beside this one: supervisors that are trained now label their pools, too.
        scored: whether the supervisors' `source_scores` are wanted. There are none without an in-distribution pool, or
            where it can't be dealt in this seed; given problems have theirs, if any.

    Raises:
        W2SError: an unknown condition, an empty split, or an encoder or supervisor that gives another shape or values
            than it must.
    """
    if condition not in task.conditions:
        raise W2SError(f"task '{task.name}' has no condition '{condition}', only {', '.join(task.conditions)}")
    if isinstance(task, ReadyMade):
        problem = task.problem(condition, seed, cache)
    else:
        domains = _domains(task)
        pool = draw_pool(task, domains, condition, seed)
        if scored and "ind" in task.conditions:
            also = (*also, "ind")
        problem = Problem(
            task=task.name,
            condition=condition,
            seed=seed,
            features=task.student.read(task.name, domains, pool, cache, device, held_out),
            soft_labels=soft_labels(task, domains, pool, seed, cache, device, also),
            truth=Truth(pool.labels, pool.groups),
            fingerprint=_fingerprint(task, domains),
            supervisors=tuple(f"{i} ({'+'.join(s.domains)})" for i, s in enumerate(task.supervisors(seed), 1)),
        )
        if scored:
            problem = replace(problem, source_scores=_source_scores(task, domains, seed, cache, device))
    if task.corruption is None:
        return problem
    spoilt = _corrupted(task, problem.soft_labels, seed)
    return replace(problem, soft_labels=spoilt, fingerprint=task.corruption.fingerprint(problem.fingerprint))


def _source_scores(
    task: Task, domains: dict[str, Domain], seed: int, cache: Cache, device: str
) -> NDArray[np.float32] | None:
    try:
        pool = draw_pool(task, domains, "ind", seed) if "ind" in task.conditions else None
    except W2SError:
        return None
    if pool is None:
        return None
    said = _corrupted(task, soft_labels(task, domains, pool, seed, cache, device), seed)
    return source_scores(task, domains, pool, said["val"], seed)


def _corrupted(task: Task, given: dict[str, NDArray[np.float32]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Soft labels as the supervisors of a stress task answer."""
    made = task.corruption
    return given if made is None else made.apply(given, numpy_rng("corruption", made.base, seed))


def training_data(
    student: StudentKind, problems: Sequence[Problem], device: str = "cpu", held_out: Splits = TEST
) -> tuple[TrainingData, dict[str, list[Any]]]:
    """What may be learned from, of problems of one size; and of each split that is asked for what the student reads in
    each.

    Soft labels and scores are copied, so that no view leads to another split or to a problem. Scores are there
    if all problems have them; those with and without train apart (`running/unit`).
    """
    inputs, others = student.prepare(problems, device, held_out)
    N, M, K = problems[0].soft_labels["train"].shape
    labels = np.empty((len(problems), M, N, K), np.float32)
    for own, p in zip(labels, problems, strict=True):
        own[:] = p.soft_labels["train"].transpose(1, 0, 2)
    policy, seeds = as_policy(student), tuple(p.seed for p in problems)
    beta = policy.margin_beta if policy else None
    known = [p.source_scores for p in problems if p.source_scores is not None]
    scores = torch.from_numpy(np.stack(known)).to(device) if len(known) == len(problems) else None
    return TrainingData(inputs, torch.from_numpy(labels).to(device), seeds, student.start, beta, scores), others


def train_sizes(task: Task, condition: str, seeds: Sequence[int]) -> list[int]:
    """How many examples the train split has in each of these seeds, of a task that is not `ReadyMade`."""
    domains = _domains(task)
    return [len(draw_pool(task, domains, condition, seed).labels["train"]) for seed in seeds]


def data_fingerprint(task: Task) -> str:
    """Hash of all that a task's problems are made from: inputs, labels, groups, protocol, encoder and supervisors.

    Supervisors are those of seed 0: how a task deals them to other seeds is its `version`'s business. What was done to
    them after training is added to the hash.
    """
    found = task.fingerprint if isinstance(task, ReadyMade) else _fingerprint(task, _domains(task))
    return found if task.corruption is None else task.corruption.fingerprint(found)


def _fingerprint(task: Task, found: dict[str, Domain]) -> str:
    made_from: dict[str, Any] = {
        "protocol": VERSION,
        "share": task.source_share,
        "gap": task.pair_gap,
        "domains": [(name, content(domain)) for name, domain in found.items()],
        "encoder": task.student.fingerprint,
        "supervisors": [supervisor_recipe(s) for s in task.supervisors(0)],
    }
    if task.ind_domains or task.max_train is not None or task.max_pool != Task.max_pool:
        made_from["pools"] = [task.ind_domains, task.max_pool, task.max_train]
    if task.train_sizes:
        made_from["train sizes"] = task.train_sizes
    return fingerprint(made_from)


def _domains(task: Task) -> dict[str, Domain]:
    """Sources, target and what else the task names, their arrays checked."""
    validation = [name for supervisor in task.supervisors(0) for name in supervisor.validation]
    names = dict.fromkeys((*task.card.sources, task.card.target, *task.ind_domains, *validation))
    found = {name: task.domain(name) for name in names}
    for name, domain in found.items():
        what, n = f"domain '{name}' of task '{task.name}'", len(domain.labels)
        if domain.labels.shape != (n,) or domain.groups.shape != (n,):
            shapes = f"labels are {domain.labels.shape}, groups {domain.groups.shape}"
            raise W2SError(f"{what}: {shapes}, expected (n,) both")
        K = len(task.card.classes)
        if not rated(domain) and n and not -1 <= domain.labels.min() <= domain.labels.max() < K:
            found_range = f"{domain.labels.min()}..{domain.labels.max()}"
            raise W2SError(f"{what}: labels are {found_range}, expected 0..{K - 1}, or -1 to leave out")
    return found
