"""How large data are and what models take: what estimates are made from (`benchmark/running/needs.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable


@dataclass(frozen=True)
class Scale:
    """How large a task's data are, as published.

    Attributes:
        source: examples that a supervisor may train on. pools: condition -> examples of its pool.
        disk: bytes, unpacked.
        length: tokens of an input, or pixels of an image's side.
    """

    source: int
    pools: Mapping[str, int]
    disk: float
    length: int


class Work(NamedTuple):
    """Of one student kind or weak model.

    Attributes:
        weights: bytes of the model on the GPU. head: bytes of one replica with its optimizer's state.
        activations: bytes in training, for one example in memory. stored: bytes on disk an example.
        read: operations an example, once. train, predict: operations an example and replica (and epoch).
    """

    weights: float = 0.0
    head: float = 0.0
    activations: float = 0.0
    stored: float = 0.0
    read: float = 0.0
    train: float = 0.0
    predict: float = 0.0


@runtime_checkable
class Estimable(Protocol):
    """Student kinds, encoders and weak models that say what they take."""

    def work(self, length: int) -> Work:
        """For inputs of this length."""
