"""The usual student: a linear head on the features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.base.errors import W2SError, blamed
from benchmark.base.fingerprint import canonical
from benchmark.base.versions import libraries
from benchmark.core.data import TEST, Domain, Pool, Problem, Recipe
from benchmark.core.student import Answer, StudentKind
from benchmark.core.task import Encoder, Streaming, Task
from benchmark.store.cache import Cache
from benchmark.store.stored_rows import Part
from benchmark.students.linear import LinearStudent, Standardiser
from benchmark.students.rows import Rows, select, standardised
from benchmark.students.streamed import Streamed, placed

Features = NDArray[np.float32]
# output -> the train splits of all seeds; held-out split -> those of each seed
Prepared = tuple[dict[str, Tensor | Streamed], dict[str, list[Tensor | Streamed]]]


@dataclass(frozen=True)
class LinearHead:
    """A linear head on standardised features, by class or (for pairs) Bradley-Terry.

    Args:
        encoder: what gives the features; None when they are given (`ArrayTask`).
    """

    encoder: Encoder | None

    @property
    def title(self) -> str:
        """It and its encoder."""
        return f"linear head on {self.encoder.name} ({', '.join(self.outputs)})" if self.encoder else "linear head"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The encoder's."""
        return tuple(self.encoder.outputs) if self.encoder else ("features",)

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self.encoder.fingerprint if self.encoder else ""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Nothing beyond the recipe."""
        return {}

    @property
    def writes(self) -> bool:
        """It can only choose."""
        return False

    @property
    def costly(self) -> bool:
        """No: thousands of steps a second."""
        return False

    @property
    def margin_beta(self) -> float | None:
        """It is no policy."""
        return None

    def read(
        self,
        task: str,
        domains: Mapping[str, Domain],
        pool: Pool,
        cache: Cache,
        device: str,
        held_out: tuple[str, ...] = TEST,
    ) -> dict[str, dict[str, Features | Rows]]:
        """Features (n, D), or (n, 2, D) of pairs, of all splits; of a large pool not read yet. Those of whole domains
        are cached: seeds, conditions and tasks share them."""
        assert self.encoder is not None
        keys = [_key(self.encoder, domains[name], device) for name in pool.domains]
        encoded = [
            _encoded(self.encoder, task, domains[name], key, cache, device)
            for name, key in zip(pool.domains, keys, strict=True)
        ]
        parts = {output: [part for e in encoded for part in e[output]] for output in self.outputs}
        return {o: select(p, pool.examples, canonical([o, keys]), cache) for o, p in parts.items()}

    @property
    def streams(self) -> bool:
        """Whether its encoder does."""
        return isinstance(self.encoder, Streaming)

    def lacking(self, domain: Domain, cache: Cache, device: str) -> list[int]:
        """See `benchmark.core.student.ChunkReader`."""
        assert self.encoder is not None
        return cache.lacking_chunks("features", _key(self.encoder, domain, device), domain.num_inputs)

    def read_chunks(
        self,
        task: str,
        domain: Domain,
        chunks: Sequence[int],
        cache: Cache,
        device: str,
        made: Callable[[int], None],
    ) -> None:
        """See `benchmark.core.student.ChunkReader`."""
        assert self.encoder is not None
        key, build = _key(self.encoder, domain, device), _stream(self.encoder, task, domain, device)
        cache.build_chunks("features", key, domain.num_inputs, chunks, build, made)

    def prepare(self, problems: Sequence[Problem], device: str, held_out: tuple[str, ...] = TEST) -> Prepared:
        """Standardised with each problem's own train split: output -> (S, N, D), and held-out splits (1, n, D)."""
        if isinstance(next(iter(problems[0].features.values()))["train"], Rows):
            return _prepare_large(problems, device, held_out)
        scaled = [
            {name: Standardiser.of(torch.from_numpy(splits["train"])) for name, splits in p.features.items()}
            for p in problems
        ]

        def scale(s: int, output: str, split: str) -> Tensor:
            return scaled[s][output](torch.from_numpy(problems[s].features[output][split]))

        outputs, seeds = list(problems[0].features), range(len(problems))
        train: dict[str, Tensor | Streamed] = {
            o: torch.stack([scale(s, o, "train") for s in seeds]).to(device) for o in outputs
        }
        return train, {split: [scale(s, outputs[-1], split).to(device)[None] for s in seeds] for split in held_out}

    def start(self, inputs: Tensor | Streamed, num_classes: int, seeds: tuple[int, ...], heads: int) -> LinearStudent:
        """See `benchmark.core.student.StudentKind.start`."""
        return LinearStudent(inputs, num_classes, seeds, heads)

    def diagnostics(self, problem: Problem) -> dict[str, float]:
        """Nothing: features are as the encoder gave them."""
        return {}

    def replies(self, student: Any, inputs: Any, count: int) -> Iterator[Answer]:
        """None."""
        return iter(())

    def release(self) -> None:
        """It holds nothing."""

    def relief(self, recipe: Recipe) -> str:
        """See `benchmark.core.student.StudentKind.relief`."""
        return "run fewer methods or seeds at once (--methods, --seeds), or --device cpu"


def _prepare_large(problems: Sequence[Problem], device: str, held_out: tuple[str, ...]) -> Prepared:
    """As `LinearHead.prepare`, for pools that stay on disk."""
    tables = {o: [standardised(p.features[o]) for p in problems] for o in problems[0].features}
    train = {o: placed([own["train"] for own in by_seed], device) for o, by_seed in tables.items()}
    read = list(tables.values())[-1]
    return train, {split: [placed([own[split]], device) for own in read] for split in held_out}


def _key(encoder: Encoder, domain: Domain, device: str) -> dict[str, Any]:
    return {
        "domain": domain.fingerprint,
        "encoder": encoder.fingerprint,
        "device": device,
        "libraries": libraries("torch", "transformers", "pillow"),
    }


def _encoded(
    encoder: Encoder, task: str, domain: Domain, key: Mapping[str, Any], cache: Cache, device: str
) -> dict[str, list[Part]]:
    """Output -> the features of a whole domain, in parts: those that the encoder streams, or a single one."""
    n = domain.num_inputs
    if isinstance(encoder, Streaming):
        return cache.get_chunks("features", key, n, _stream(encoder, task, domain, device))

    def build() -> dict[str, Features]:
        inputs = domain.load()
        with blamed(_named(encoder, task)):
            return _checked(encoder.encode(inputs, device), n, encoder, task)

    return cache.get_rows("features", key, build)


def _stream(
    encoder: Encoder, task: str, domain: Domain, device: str
) -> Callable[[list[slice]], Iterator[dict[str, Features]]]:
    """What gives the features of each range of a domain in turn."""
    assert isinstance(encoder, Streaming)

    def build(ranges: list[slice]) -> Iterator[dict[str, Features]]:
        inputs = domain.load()
        with blamed(_named(encoder, task)):
            for r, encoded in zip(ranges, encoder.stream(inputs, ranges, device), strict=True):
                yield _checked(encoded, r.stop - r.start, encoder, task)

    return build


def _checked(encoded: dict[str, Features], n: int, encoder: Encoder, task: str) -> dict[str, Features]:
    what = _named(encoder, task)
    if tuple(encoded) != tuple(encoder.outputs):
        raise W2SError(f"{what}: gave {list(encoded)}, expected {list(encoder.outputs)}")
    for output, x in encoded.items():
        if x.ndim != 2 or len(x) != n or x.dtype != np.float32:
            raise W2SError(f"{what}: '{output}' is {x.dtype} {x.shape}, expected float32 ({n}, D)")
        if not np.isfinite(x).all():
            raise W2SError(f"{what}: '{output}' holds NaN or infinity")
    return encoded


def _named(encoder: Encoder, task: str) -> str:
    return f"encoder '{encoder.name}' of task '{task}'"


class EncodedTask(Task):
    """The usual task (`benchmark.api.Task`): its student is a linear head on the features of a frozen `encoder`."""

    encoder: Encoder

    @property
    def student(self) -> StudentKind:
        """A linear head; subclasses may have another student, and then need no encoder."""
        return LinearHead(self.encoder)

    def declared(self) -> tuple[str, ...]:
        """Also the encoder, if its student is the usual one."""
        usual = type(self).student is EncodedTask.student
        return (*super().declared(), "encoder") if usual else super().declared()
