"""Raw inputs of tasks: picked by position, joined over domains, without reading what is not needed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Inputs = Any  # list[str], list[Prompted], an array whose first axis is the examples, or `Lazy`


class Prompted(NamedTuple):
    """A reply (or any text) and the conversation that it answers, as a language model reads them: prompt + reply."""

    prompt: str
    reply: str


@dataclass(frozen=True)
class Lazy:
    """Inputs that are read one by one when they are asked for: images on disk."""

    parts: tuple[Sequence[Any], ...]  # data sets, each with a length and items by position
    index: NDArray[np.int64]  # (n,) positions in the concatenation of `parts`

    @classmethod
    def of(cls, items: Sequence[Any]) -> Self:
        """All of a data set."""
        return cls((items,), np.arange(len(items)))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Any:
        at = int(self.index[i])
        for part in self.parts:
            if at < len(part):
                return part[at]
            at -= len(part)
        raise IndexError(i)

    def select(self, index: NDArray[np.int64]) -> Self:
        """Those at the given positions."""
        return replace(self, index=self.index[index])


def take(inputs: Inputs, index: NDArray[np.int64]) -> Inputs:
    """The inputs at (n,), or for pairs (n, 2) the first and the second responses."""
    if index.ndim == 2:
        return take(inputs, index[:, 0]), take(inputs, index[:, 1])
    if isinstance(inputs, Lazy):
        return inputs.select(index)
    return inputs[index] if isinstance(inputs, np.ndarray) else [inputs[i] for i in index]


def concatenate(parts: Sequence[Inputs]) -> Inputs:
    """One sequence of inputs of one kind."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Lazy):
        sizes = [sum(map(len, part.parts)) for part in parts]
        starts = np.cumsum([0, *sizes[:-1]])
        index = np.concatenate([part.index + start for part, start in zip(parts, starts, strict=True)])
        return Lazy(tuple(data for part in parts for data in part.parts), index)
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [item for part in parts for item in part]
