"""Supervisors in, soft labels out: each supervisor is trained on its source domains and labels the pool."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError, named_errors
from benchmark.base.seeding import derive
from benchmark.base.versions import libraries
from benchmark.core.data import SPLITS, Domain, Index, Pool
from benchmark.core.inputs import Inputs, concatenate, take
from benchmark.core.pools import VERSION, draw_pool, inputs_of, preferred, rated, sample_pairs, source_parts, used
from benchmark.core.task import Supervisor, Task
from benchmark.store.cache import Cache, locked
from benchmark.store.checkpoints import Checkpoints


def content(domain: Domain) -> str:
    """Hash of a domain: inputs, labels, groups."""
    whole = f"{domain.fingerprint}|".encode() + domain.labels.tobytes() + domain.groups.tobytes()
    return hashlib.sha256(whole).hexdigest()


def recipe(supervisor: Supervisor) -> dict[str, Any]:
    """What kind of model a supervisor is, apart from whom it learns from."""
    model, kind = supervisor.model, type(supervisor.model)
    name = vars(kind).get("name")  # an inherited one would take its parent's cached soft labels
    if not isinstance(name, str) or not name:
        raise W2SError(f"weak model {kind.__qualname__}: declare a class attribute `name` of its own (a string)")
    parameters = asdict(model)  # type: ignore[call-overload]
    found = {"model": name, "version": model.version, "parameters": parameters, "size": supervisor.size}
    fingerprint = getattr(model, "fingerprint", None)
    return found if fingerprint is None else {**found, "fingerprint": fingerprint}


def supervisor_recipe(supervisor: Supervisor) -> dict[str, Any]:
    """Everything that is chosen for a supervisor, as JSON values."""
    return {**recipe(supervisor), "domains": supervisor.domains, "adversarial": supervisor.adversarial}


def soft_labels(
    task: Task,
    domains: Mapping[str, Domain],
    pool: Pool,
    seed: int,
    cache: Cache,
    device: str,
    also: Sequence[str] = (),
) -> dict[str, NDArray[np.float32]]:
    """Split -> (n, M, K). One cache entry a supervisor and pool; tasks that share both share it.

    Args:
        also: conditions whose pools a supervisor that is trained now labels as well, for the cache.
    """
    labelling = _Labelling(task, domains, seed, cache, device, tuple(also))
    columns = []
    for position, supervisor in enumerate(task.supervisors(seed)):
        column = labelling.column(position, supervisor, pool)
        columns.append({split: np.roll(p, 1, axis=-1) if supervisor.adversarial else p for split, p in column.items()})
    return {split: np.stack([column[split] for column in columns], axis=1) for split in SPLITS}


@dataclass(frozen=True)
class _Labelling:
    """What the supervisors of one task and seed say of its pools."""

    task: Task
    domains: Mapping[str, Domain]
    seed: int
    cache: Cache
    device: str
    also: tuple[str, ...]

    def column(self, position: int, supervisor: Supervisor, pool: Pool) -> dict[str, NDArray[np.float32]]:
        """Split -> (n, K), of one supervisor.

        One that is trained for it labels the pools of other conditions as well, whose units wait for it. Not
        a resumable one: its checkpoints keep it.
        """
        task, cache = self.task, self.cache
        sources = [(name, content(self.domains[name])) for name in supervisor.domains]
        place = {"share": task.source_share, "position": position, "seed": self.seed}
        spec: dict[str, Any] = {**recipe(supervisor), "sources": sources, **place}
        if supervisor.validation:
            spec["validation"] = [(name, content(self.domains[name])) for name in supervisor.validation]
        made_with: dict[str, Any] = {
            **spec,
            "protocol": VERSION,
            "libraries": libraries("torch", "scikit-learn", *getattr(supervisor.model, "libraries", ())),
            "gap": task.pair_gap if task.card.modality == "preference" else None,
            "classes": len(task.card.classes),
        }
        if getattr(supervisor.model, "on_device", False):
            made_with["device"] = self.device
        key = {**made_with, **self._place(pool)}
        training = Checkpoints.of(cache.root, made_with, cache.mirror)
        kept = getattr(supervisor.model, "resumable", False)

        def build() -> dict[str, NDArray[np.float32]]:
            label = self._train(supervisor, derive(str(spec)), training)
            own = label(pool)
            for other in () if kept else self._pools:
                other_key = {**made_with, **self._place(other)}
                if other_key != key and not cache.path("soft_labels", other_key).exists():
                    with suppress(Exception):  # it fails again, and is told, where it is asked for
                        cache.write("soft_labels", other_key, label(other))
            return own

        with nullcontext() if kept else locked(cache.path("soft_labels", made_with)):
            return cache.get("soft_labels", key, build)

    def _place(self, pool: Pool) -> dict[str, Any]:
        """The part of a key that says what is labelled."""
        examples = hashlib.sha256(b"".join(pool.examples[s].tobytes() for s in SPLITS)).hexdigest()
        return {"pool": [content(self.domains[name]) for name in pool.domains], "examples": examples}

    @cached_property
    def _pools(self) -> list[Pool]:
        """Those of the conditions that are wanted also, less those that can't be dealt."""
        found = []
        for condition in self.task.conditions:
            with suppress(W2SError):
                if condition in self.also:
                    found.append(draw_pool(self.task, dict(self.domains), condition, self.seed))
        return found

    def _read(self, supervisor: Supervisor, domain: Domain) -> Inputs:
        """A domain's inputs as the model wants them; what it prepares is cached."""
        prepare = getattr(supervisor.model, "prepare", None)
        if prepare is None:
            return domain.load()
        made_with = {**recipe(replace(supervisor, size=None)), "libraries": libraries("torch", "numpy")}
        key = {**made_with, "domain": domain.fingerprint}
        return self.cache.get("features", key, lambda: {"inputs": prepare(domain.load())})["inputs"]

    def _train(
        self, supervisor: Supervisor, model_seed: int, checkpoints: Checkpoints
    ) -> Callable[[Pool], dict[str, NDArray[np.float32]]]:
        """Train one supervisor on its source domains' first parts; gives what asks it for probabilities of a pool."""
        task, domains = self.task, self.domains
        rng = np.random.default_rng(model_seed)
        parts = [(domains[n], source_parts(domains[n], task.source_share, self.seed)[0]) for n in supervisor.domains]
        read = partial(self._read, supervisor)
        inputs, examples, y = _training_examples(parts, read, task.pair_gap, rng)
        kept = rng.permutation(len(y))[: supervisor.size]
        wanted: dict[str, Any] = {}
        if supervisor.validation:
            whole = [(domains[name], used(domains[name])) for name in supervisor.validation]
            held_out, rows, labels = _training_examples(whole, read, task.pair_gap, rng)
            wanted["validation"] = take(held_out, rows), labels
        resumable = getattr(supervisor.model, "resumable", False)
        if getattr(supervisor.model, "on_device", False):
            wanted["device"] = self.device
        K = len(task.card.classes)
        what = f"supervisor on {'+'.join(supervisor.domains)} of task '{task.name}'"
        with checkpoints.locked() if resumable else nullcontext() as usable, named_errors(what):
            if resumable:
                wanted["checkpoints"] = usable
            model = supervisor.model.fit(take(inputs, examples[kept]), y[kept], K, model_seed % 2**31, **wanted)

        def label(pool: Pool) -> dict[str, NDArray[np.float32]]:
            pool_inputs = concatenate([read(domains[name]) for name in pool.domains])
            labelled = {}
            for split, index in pool.examples.items():
                with named_errors(what):
                    p = np.asarray(model.predict_proba(take(pool_inputs, index)))
                if p.dtype.kind not in "fiub":
                    raise W2SError(f"{what}: soft labels are {p.dtype}, expected real numbers")
                labelled[split] = p.astype(np.float32)
                check_probabilities(labelled[split], (len(index), K), what)
            return labelled

        return label


def _training_examples(
    parts: Sequence[tuple[Domain, Index]], read: Callable[[Domain], Inputs], gap: float, rng: np.random.Generator
) -> tuple[Inputs, Index, Index]:
    """Inputs of the domains, positions (n,) or (n, 2) in them of the examples at these rows, and class ids (n,)."""
    inputs, labels, chosen, start = [], [], [], 0
    for domain, rows in parts:
        if rated(domain):
            rows = rows[sample_pairs(domain.labels[rows], len(rows), gap, rng)]
            labels.append(preferred(domain.labels, rows))
        else:
            labels.append(domain.labels[rows].astype(np.int64))
        inputs.append(read(domain))
        chosen.append(inputs_of(domain, rows) + start)
        start += domain.num_inputs
    return concatenate(inputs), np.concatenate(chosen), np.concatenate(labels)


def check_probabilities(p: NDArray[np.float32], shape: tuple[int, ...], what: str) -> None:
    """Refuse soft labels (..., K) of another shape than expected, or that are no probabilities."""
    if p.shape != shape:
        raise W2SError(f"{what}: soft labels have shape {p.shape}, expected {shape}")
    if not np.isfinite(p).all() or (p < 0).any():
        raise W2SError(f"{what}: soft labels hold NaN, infinity or negative values")
    if (np.abs(p.sum(-1) - 1) > 1e-3).any():
        raise W2SError(f"{what}: rows of soft labels don't sum to 1")
