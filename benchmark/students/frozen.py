"""The usual student: a linear head on the features of a frozen encoder."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.base.errors import W2SError, named_errors
from benchmark.base.fingerprint import canonical
from benchmark.base.versions import libraries
from benchmark.core.data import TEST, Domain, Pool, Problem
from benchmark.core.student import StudentKind
from benchmark.core.task import Encoder, Streaming, Task
from benchmark.store.cache import Cache
from benchmark.store.stored_rows import Part
from benchmark.students.linear import LinearStudent
from benchmark.students.rows import DiskFeatures, Floats, select, standardised
from benchmark.students.standardiser import Standardiser
from benchmark.students.streamed import Streamed, placed


@dataclass(frozen=True)
class LinearHead(StudentKind):
    """A linear head on standardised features, by class or (for pairs) Bradley-Terry. `encoder` gives the features; None
    when they are given (`ArrayTask`)."""

    encoder: Encoder | None

    @property
    def title(self) -> str:
        return f"linear head on {self.encoder.name} ({', '.join(self.outputs)})" if self.encoder else "linear head"

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self.encoder.outputs) if self.encoder else ("features",)

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint if self.encoder else ""

    def read(
        self,
        task: str,
        domains: Mapping[str, Domain],
        pool: Pool,
        cache: Cache,
        device: str,
        held_out: tuple[str, ...] = TEST,
    ) -> dict[str, dict[str, Floats | DiskFeatures]]:
        """Features (n, D), or (n, 2, D) of pairs, of all splits; of a large pool not read yet. Those of whole domains
        are cached: seeds, conditions and tasks share them."""
        encoded = [self._encoded(domains[name], device, task) for name in pool.domains]
        keys, stored = [own.key for own in encoded], [own.parts(cache) for own in encoded]
        parts = {output: [part for own in stored for part in own[output]] for output in self.outputs}
        return {o: select(p, pool.examples, canonical([o, keys]), cache) for o, p in parts.items()}

    @property
    def streams(self) -> bool:
        return isinstance(self.encoder, Streaming)

    def lacking(self, domain: Domain, cache: Cache, device: str) -> list[int]:
        return cache.lacking_chunks("features", self._encoded(domain, device).key, domain.num_inputs)

    def read_chunks(
        self, task: str, domain: Domain, chunks: Sequence[int], cache: Cache, device: str, made: Callable[[int], None]
    ) -> None:
        encoded = self._encoded(domain, device, task)
        cache.build_chunks("features", encoded.key, domain.num_inputs, chunks, encoded.stream, made)

    def width(self, domains: Sequence[Domain], cache: Cache, device: str) -> int | None:
        widths = set()
        for domain in domains:
            chunks_of = domain.num_inputs if self.streams else None
            widths.add(cache.width("features", self._encoded(domain, device).key, self.outputs[-1], chunks_of))
        return widths.pop() if len(widths) == 1 else None

    def _encoded(self, domain: Domain, device: str, task: str = "") -> "_Encoded":
        assert self.encoder is not None
        return _Encoded(self.encoder, domain, device, f"encoder '{self.encoder.name}' of task '{task}'")

    def prepare(
        self, problems: Sequence[Problem], device: str, held_out: tuple[str, ...] = TEST
    ) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """Standardised with each problem's own train split: output -> (S, N, D), and splits (1, n, D); train splits are
        in memory once."""
        features = [p.features for p in problems]
        outputs = list(features[0])
        seeds = range(len(problems))
        if isinstance(features[0][outputs[0]]["train"], DiskFeatures):
            tables = {o: [standardised(own[o]) for own in features] for o in outputs}
            large = {o: placed([own["train"] for own in by_seed], device) for o, by_seed in tables.items()}

            def own(s: int, split: str) -> Tensor | Streamed:
                trained_on = large[outputs[-1]]
                if split == "train" and isinstance(trained_on, Tensor):
                    return trained_on[s : s + 1]
                return placed([tables[outputs[-1]][s][split]], device)

            return large, {split: [own(s, split) for s in seeds] for split in held_out}
        scaled = [{o: Standardiser.of(torch.from_numpy(own[o]["train"])) for o in outputs} for own in features]

        def scale(s: int, output: str, split: str) -> Tensor:
            return scaled[s][output](torch.from_numpy(features[s][output][split]))

        train = {o: torch.stack([scale(s, o, "train") for s in seeds]).to(device) for o in outputs}

        def own_in_memory(s: int, split: str) -> Tensor:
            return train[outputs[-1]][s : s + 1] if split == "train" else scale(s, outputs[-1], split).to(device)[None]

        return train, {split: [own_in_memory(s, split) for s in seeds] for split in held_out}

    def start(self, inputs: Tensor | Streamed, num_classes: int, seeds: tuple[int, ...], heads: int) -> LinearStudent:
        return LinearStudent(inputs, num_classes, seeds, heads)


@dataclass(frozen=True)
class _Encoded:
    """The features of a whole domain; `name` is the encoder's, for messages."""

    encoder: Encoder
    domain: Domain
    device: str
    name: str

    @property
    def key(self) -> dict[str, Any]:
        return {
            "domain": self.domain.fingerprint,
            "encoder": self.encoder.fingerprint,
            "device": self.device,
            "libraries": libraries("torch", "transformers", "pillow"),
        }

    def parts(self, cache: Cache) -> dict[str, list[Part]]:
        """Output -> the features, in parts: those that the encoder streams, or a single one."""
        n = self.domain.num_inputs
        if isinstance(self.encoder, Streaming):
            return cache.get_chunks("features", self.key, n, self.stream)
        return cache.get_rows("features", self.key, lambda: next(self.stream([slice(0, n)])))

    def stream(self, ranges: list[slice]) -> Iterator[dict[str, Floats]]:
        """Those of each range of the domain in turn; a single one, the whole, of an encoder that does not stream."""
        encoder, inputs, outputs = self.encoder, self.domain.load(), tuple(self.encoder.outputs)
        with named_errors(self.name):
            made: Iterable[dict[str, Floats]]
            if isinstance(encoder, Streaming):
                made = encoder.stream(inputs, ranges, self.device)
            else:
                made = [encoder.encode(inputs, self.device)]
            for r, encoded in zip(ranges, made, strict=True):
                if tuple(encoded) != outputs:
                    raise W2SError(f"{self.name}: gave {list(encoded)}, expected {list(outputs)}")
                n = r.stop - r.start
                for output, x in encoded.items():
                    if x.ndim != 2 or len(x) != n or x.dtype != np.float32:
                        raise W2SError(f"{self.name}: '{output}' is {x.dtype} {x.shape}, expected float32 ({n}, D)")
                    if not np.isfinite(x).all():
                        raise W2SError(f"{self.name}: '{output}' holds NaN or infinity")
                yield encoded


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
