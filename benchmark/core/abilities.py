"""What a kind of student can do besides learning and predicting: write replies, read a large domain in parts."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from benchmark.core.data import Domain
from benchmark.core.student import StudentKind
from benchmark.store.cache import Cache


class Answer(NamedTuple):
    """What one replica says to the prompt of one example, and the two responses that the data set has."""

    replica: int
    example: int
    prompt: str
    reply: str
    first: str
    second: str


@runtime_checkable
class Policy(Protocol):
    """What a kind has as well that can be a policy, which writes replies and learns from pairs of them.

    Attributes:
        writes: whether it is one.
        margin_beta: beta of one whose method may use the margin form (RAVEN), else None.
    """

    @property
    def writes(self) -> bool: ...
    @property
    def margin_beta(self) -> float | None: ...

    def replies(self, student: Any, inputs: Any, count: int) -> Iterator[Answer]:
        """Answers of every replica of one seed to `count` prompts of its test split, the same ones for all methods."""


def as_policy(kind: StudentKind) -> Policy | None:
    """The kind, if it is a policy (`w2s run --replies`)."""
    return kind if isinstance(kind, Policy) and kind.writes else None


@runtime_checkable
class ChunkReader(Protocol):
    """What a kind has as well whose reading of a large domain goes chunk by chunk, so that workers can share it.

    Attributes:
        streams: whether it does so with its encoder.
    """

    @property
    def streams(self) -> bool: ...

    def lacking(self, domain: Domain, cache: Cache, device: str) -> list[int]:
        """Positions of the domain's chunks that the cache lacks."""

    def read_chunks(
        self, task: str, domain: Domain, chunks: Sequence[int], cache: Cache, device: str, made: Callable[[int], None]
    ) -> None:
        """Make some of them; `made` is told how many are done."""
