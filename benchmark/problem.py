"""Task + condition + seed -> Problem: features, soft labels, and the truth, kept apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.cache import Cache
from benchmark.errors import W2SError
from benchmark.libraries import libraries
from benchmark.protocol import (
    SPLITS,
    VERSION,
    Index,
    Pool,
    draw_pool,
    preferred,
    sample_pairs,
    source_parts,
)
from benchmark.seeding import derive
from benchmark.students.linear import Standardiser
from benchmark.task import Domain, Inputs, Supervisor, Task
from benchmark.training import TrainingData

CONDITIONS = ("ind", "ood")


@dataclass(frozen=True)
class Truth:
    """What only scoring and the canaries may see: split -> (n,) class ids (-1 unknown) and bootstrap groups."""

    labels: dict[str, Index]
    groups: dict[str, Index]


@dataclass(frozen=True)
class Problem:
    """One pool with its supervision.

    Attributes:
        features: encoder output -> split -> (n, D) or (n, 2, D), as encoded.
        soft_labels: split -> (n, M, K).
        truth: never handed to training (see `training_data`).
        fingerprint: hash of the task's source data.
    """

    task: str
    condition: str
    seed: int
    features: dict[str, dict[str, NDArray[np.float32]]]
    soft_labels: dict[str, NDArray[np.float32]]
    truth: Truth
    fingerprint: str
    supervisors: tuple[str, ...]


class ReadyMade(Task):
    """A task whose problems are given, not made from domains, an encoder and supervisors.

    Attributes:
        conditions: those that it has.
        fingerprint: what `data_fingerprint` says of it.
    """

    conditions: tuple[str, ...]
    fingerprint: str

    def problem(self, condition: str, seed: int) -> Problem:
        """The problem of one of `conditions`."""
        raise NotImplementedError


def build_problem(task: Task, condition: str, seed: int, cache: Cache, device: str = "cpu") -> Problem:
    """Deal the pool, get features and soft labels (from the cache, or made now).

    Raises:
        W2SError: an unknown condition, an empty split, or an encoder or supervisor that gives another shape or values
            than it must.
    """
    if condition not in conditions(task):
        raise W2SError(f"task '{task.name}' has no condition '{condition}', only {', '.join(conditions(task))}")
    if isinstance(task, ReadyMade):
        return task.problem(condition, seed)
    return _from_domains(task, condition, seed, cache, device)


def conditions(task: Task) -> tuple[str, ...]:
    """The conditions of a task."""
    return task.conditions if isinstance(task, ReadyMade) else CONDITIONS


def training_data(
    problems: Sequence[Problem], device: str = "cpu"
) -> tuple[TrainingData, list[dict[str, Standardiser]]]:
    """Train split of problems of one size as replicas' tensors, and each problem's feature statistics.

    The soft labels are copied, so that no view leads to another split or to a problem.
    """
    statistics = [
        {name: Standardiser.of(torch.from_numpy(splits["train"])) for name, splits in p.features.items()}
        for p in problems
    ]
    features = {
        name: torch.stack(
            [s[name](torch.from_numpy(p.features[name]["train"])) for p, s in zip(problems, statistics, strict=True)]
        ).to(device)
        for name in problems[0].features
    }
    soft_labels = np.stack([p.soft_labels["train"].transpose(1, 0, 2) for p in problems])
    data = TrainingData(features, torch.from_numpy(soft_labels.copy()).to(device), tuple(p.seed for p in problems))
    return data, statistics


def _from_domains(task: Task, condition: str, seed: int, cache: Cache, device: str) -> Problem:
    domains = _domains(task)
    pool = draw_pool(task, domains, condition, seed)
    return Problem(
        task=task.name,
        condition=condition,
        seed=seed,
        features=_features(task, domains, pool, cache, device),
        soft_labels=_soft_labels(task, domains, pool, seed, cache),
        truth=Truth(pool.labels, pool.groups),
        fingerprint=data_fingerprint(task, domains),
        supervisors=tuple(f"{i} ({'+'.join(s.domains)})" for i, s in enumerate(task.supervisors(seed), 1)),
    )


def data_fingerprint(task: Task, domains: dict[str, Domain] | None = None) -> str:
    """Hash of all that a task's problems are made from: inputs, labels, groups, protocol, encoder and supervisors.

    Supervisors are those of seed 0: how a task deals them to other seeds is its `version`'s business.
    """
    if isinstance(task, ReadyMade):
        return task.fingerprint
    found = domains or _domains(task)
    made_from = {
        "protocol": VERSION,
        "share": task.source_share,
        "gap": task.pair_gap,
        "domains": [(name, _content(domain)) for name, domain in found.items()],
        "encoder": task.encoder.fingerprint,
        "supervisors": [supervisor_recipe(s) for s in task.supervisors(0)],
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _domains(task: Task) -> dict[str, Domain]:
    """Sources and target by name, their arrays checked."""
    found = {name: task.domain(name) for name in (*task.card.sources, task.card.target)}
    for name, domain in found.items():
        what, n = f"domain '{name}' of task '{task.name}'", len(domain.labels)
        if domain.labels.shape != (n,) or domain.groups.shape != (n,):
            raise W2SError(
                f"{what}: labels are {domain.labels.shape}, groups {domain.groups.shape}, expected (n,) both"
            )
        K = len(task.card.classes)
        if domain.labels.dtype.kind != "f" and n and not -1 <= domain.labels.min() <= domain.labels.max() < K:
            found_range = f"{domain.labels.min()}..{domain.labels.max()}"
            raise W2SError(f"{what}: labels are {found_range}, expected 0..{K - 1}, or -1 to leave out")
    return found


def supervisor_recipe(supervisor: Supervisor) -> dict[str, Any]:
    """Everything that is chosen for a supervisor, as JSON values."""
    return {**_recipe(supervisor), "domains": supervisor.domains, "adversarial": supervisor.adversarial}


def _recipe(supervisor: Supervisor) -> dict[str, Any]:
    """What kind of model a supervisor is, apart from whom it learns from."""
    kind = type(supervisor.model)
    return {
        "model": f"{kind.__module__}.{kind.__qualname__}",
        "version": supervisor.model.version,
        "parameters": asdict(supervisor.model),  # type: ignore[call-overload]
        "size": supervisor.size,
    }


def _features(
    task: Task, domains: dict[str, Domain], pool: Pool, cache: Cache, device: str
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Features of whole domains are cached: seeds, conditions and tasks share them."""
    encoded = [
        cache.get(
            "features",
            {
                "domain": domains[name].fingerprint,
                "encoder": task.encoder.fingerprint,
                "device": device,
                "libraries": libraries("torch", "transformers", "pillow"),
            },
            lambda name=name: _encode(task, domains[name], device),  # type: ignore[misc]
        )
        for name in pool.domains
    ]
    whole = {output: np.concatenate([e[output] for e in encoded]) for output in task.encoder.outputs}
    return {output: {split: x[rows] for split, rows in pool.examples.items()} for output, x in whole.items()}


def _encode(task: Task, domain: Domain, device: str) -> dict[str, NDArray[np.float32]]:
    encoded = task.encoder.encode(domain.load(), device)
    what = f"encoder '{task.encoder.name}' of task '{task.name}'"
    if tuple(encoded) != tuple(task.encoder.outputs):
        raise W2SError(f"{what}: gave {list(encoded)}, expected {list(task.encoder.outputs)}")
    for output, x in encoded.items():
        if x.ndim != 2 or len(x) != len(domain.labels) or x.dtype != np.float32:
            raise W2SError(f"{what}: '{output}' is {x.dtype} {x.shape}, expected float32 ({len(domain.labels)}, D)")
        if not np.isfinite(x).all():
            raise W2SError(f"{what}: '{output}' holds NaN or infinity")
    return encoded


def _soft_labels(
    task: Task, domains: dict[str, Domain], pool: Pool, seed: int, cache: Cache
) -> dict[str, NDArray[np.float32]]:
    """Soft labels of the pool, one cache entry a supervisor; tasks that share supervisors and pool share them."""
    columns = []
    for position, supervisor in enumerate(task.supervisors(seed)):
        spec: dict[str, Any] = {
            **_recipe(supervisor),
            "sources": [(name, _content(domains[name])) for name in supervisor.domains],
            "share": task.source_share,
            "position": position,
            "seed": seed,
        }
        key = {
            **spec,
            "protocol": VERSION,
            "libraries": libraries("torch", "scikit-learn"),
            "gap": task.pair_gap if task.card.modality == "preference" else None,
            "classes": len(task.card.classes),
            "pool": [_content(domains[name]) for name in pool.domains],
            "examples": hashlib.sha256(b"".join(pool.examples[s].tobytes() for s in SPLITS)).hexdigest(),
        }
        column = cache.get(
            "soft_labels",
            key,
            lambda s=supervisor, k=spec: _supervise(task, domains, pool, s, seed, derive(str(k))),  # type: ignore[misc]
        )
        columns.append({split: np.roll(p, 1, axis=-1) if supervisor.adversarial else p for split, p in column.items()})
    return {split: np.stack([column[split] for column in columns], axis=1) for split in SPLITS}


def _content(domain: Domain) -> str:
    return hashlib.sha256(
        f"{domain.fingerprint}|".encode() + domain.labels.tobytes() + domain.groups.tobytes()
    ).hexdigest()


def _supervise(
    task: Task, domains: dict[str, Domain], pool: Pool, supervisor: Supervisor, seed: int, model_seed: int
) -> dict[str, NDArray[np.float32]]:
    """Train one supervisor on its source domains' first parts; its probabilities on the pool."""
    rng = np.random.default_rng(model_seed)
    inputs, labels, chosen, start = [], [], [], 0
    for name in supervisor.domains:
        domain = domains[name]
        rows = source_parts(domain, task.source_share, seed)[0]
        if task.card.modality == "preference":
            rows = rows[sample_pairs(domain.labels[rows], len(rows), task.pair_gap, rng)]
            labels.append(preferred(domain.labels, rows))
        else:
            labels.append(domain.labels[rows].astype(np.int64))
        inputs.append(domain.load())
        chosen.append(rows + start)
        start += len(domain.labels)
    kept = rng.permutation(sum(map(len, chosen)))[: supervisor.size]
    examples, y = np.concatenate(chosen)[kept], np.concatenate(labels)[kept]
    K = len(task.card.classes)
    model = supervisor.model.fit(_take(_concatenate(inputs), examples), y, K, model_seed % 2**31)
    pool_inputs = _concatenate([domains[name].load() for name in pool.domains])
    soft_labels = {}
    for split, index in pool.examples.items():
        p = np.asarray(model.predict_proba(_take(pool_inputs, index)), dtype=np.float32)
        check_probabilities(p, (len(index), K), f"supervisor on {'+'.join(supervisor.domains)} of task '{task.name}'")
        soft_labels[split] = p
    return soft_labels


def check_probabilities(p: NDArray[np.float32], shape: tuple[int, ...], what: str) -> None:
    """Refuse soft labels (..., K) of another shape than expected, or that are no probabilities."""
    if p.shape != shape:
        raise W2SError(f"{what}: soft labels have shape {p.shape}, expected {shape}")
    if not np.isfinite(p).all() or (p < 0).any():
        raise W2SError(f"{what}: soft labels hold NaN, infinity or negative values")
    if (np.abs(p.sum(-1) - 1) > 1e-3).any():
        raise W2SError(f"{what}: rows of soft labels don't sum to 1")


def _concatenate(parts: Sequence[Inputs]) -> Inputs:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [item for part in parts for item in part]


def _take(inputs: Inputs, index: Index) -> Inputs:
    """The inputs at (n,), or for pairs (n, 2) the first and the second responses."""
    if index.ndim == 2:
        return _take(inputs, index[:, 0]), _take(inputs, index[:, 1])
    return inputs[index] if isinstance(inputs, np.ndarray) else [inputs[i] for i in index]
