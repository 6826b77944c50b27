"""Supervisors made worse in known ways, after training: what stress curves are drawn over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError, unknown_name

SoftLabels = NDArray[np.float32]
VERSION = 2  # raise when the same corruption would give other soft labels
TAG = "stress"
KINDS = {
    "random": "random answers",
    "adversarial": "adversarial",
    "overconfident": "overconfident",
    "underconfident": "underconfident",
    "copies": "copies of one another",
}
LEAST = {"copies": 2}  # supervisors; of other kinds one
# An over- or underconfident supervisor says p^(1/T). At 0.1 a two-class answer of 60% becomes 98%, and one of 52%
# becomes 69%: nearly a hard label, so that in a mean it outvotes whoever hesitates, but still in the order of its own
# confidence. At 10 one of 90% becomes 55%, and among ten classes (the others alike) 15%: nearly uniform, however
# accurate it is, so that in a mean it counts for little. A class of probability 0 stays so, and a hard label hard.
# (Neural networks are found to need temperatures of 1 to 3 to be calibrated: Guo et al. 2017, arXiv:1706.04599.)
TEMPERATURES = {"overconfident": 0.1, "underconfident": 10.0}


@dataclass(frozen=True)
class Corruption:
    """`count` of a task's M supervisors are corrupted in one way; the others stay as they are.

    They are neighbours in a cyclic order, `first` and those after it, the same in every seed: with `first` from 0 to
    M - 1 each supervisor is among them equally often, and a level keeps the supervisors of the one before.

    - `random`: a supervisor's answers are dealt to other examples of their split: as confident as before, the same
      shares of classes, and no information.
    - `adversarial`: its class columns are rotated by one, as in the tasks with a broken supervisor.
    - `overconfident`, `underconfident`: p^(1/T), normalised, T of `TEMPERATURES`; its most probable class stays.
    - `copies`: `count` supervisors say what the first of them says.

    Attributes:
        base: the uncorrupted task's name.
        first: position of the first of them, from 0.
    """

    kind: str
    count: int
    base: str
    first: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of corruption", self.kind, KINDS)
        if self.count < (least := LEAST.get(self.kind, 1)):
            raise W2SError(f"corruption '{self.kind}' of {self.count} supervisors: expected at least {least}")

    def apply(self, soft_labels: Mapping[str, SoftLabels], rng: np.random.Generator) -> dict[str, SoftLabels]:
        """Corrupted soft labels, split -> (n, M, K); those given stay as they are.

        Args:
            soft_labels: split -> (n, M, K), rows sum to 1.
            rng: in one state for all levels, since a level's draws are the first of the next one's.

        Raises:
            W2SError: there are fewer than `count` supervisors.
        """
        made = {split: p.copy() for split, p in soft_labels.items()}
        for m in self.among(next(iter(soft_labels.values())).shape[1]):
            for split, p in soft_labels.items():
                made[split][:, m] = self._corrupted(p[:, m], p[:, self.first], rng)
        return made

    def among(self, supervisors: int) -> list[int]:
        """Positions of those of M supervisors that are corrupted.

        Raises:
            W2SError: there are fewer than `count`, or no `first`.
        """
        if supervisors < max(self.count, self.first + 1):
            which = f"{self.count} supervisors from number {self.first + 1} on"
            raise W2SError(f"corruption '{self.kind}' of {which}: there are only {supervisors}")
        return [(self.first + i) % supervisors for i in range(self.count)]

    def _corrupted(self, p: SoftLabels, first: SoftLabels, rng: np.random.Generator) -> SoftLabels:
        """One supervisor's answers (n, K), corrupted; `first` (n, K) is what the first of them says."""
        if self.kind == "random":
            return rng.permutation(p)
        if self.kind == "adversarial":
            return np.roll(p, 1, axis=-1)
        if self.kind == "copies":
            return first
        relative = p.astype(np.float64) / p.max(-1, keepdims=True)
        power = relative ** (1 / TEMPERATURES[self.kind])
        return np.asarray(power / power.sum(-1, keepdims=True), np.float32)

    def fingerprint(self, data: str) -> str:
        """The fingerprint of a problem with these data that is corrupted so: `data` stays readable in it."""
        return f"{data}+{self.base}/{self.kind}/{self.count}/{self.first + 1}/v{VERSION}"

    @property
    def tags(self) -> tuple[str, ...]:
        """What a card says of it, and results after it; `read_tags` reads them."""
        return (*base_tags(self.base), f"kind={self.kind}", f"count={self.count}", f"first={self.first + 1}")


def base_tags(base: str) -> tuple[str, ...]:
    """Tags of a base task's level 0."""
    return TAG, f"base={base}"


@dataclass(frozen=True)
class Tagged:
    """What tags tell of a stress task.

    Attributes:
        kind: empty for level 0.
        first: number of the first corrupted supervisor, from 1; 0 where it was drawn by seed, as version 1 did.
    """

    base: str
    kind: str = ""
    count: int = 0
    first: int = 0


def read_tags(tags: Sequence[str]) -> Tagged | None:
    """What these tags tell of; None if of no stress task."""
    said = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    if TAG not in tags or "base" not in said:
        return None
    if said.keys().isdisjoint({"kind", "count"}):
        return Tagged(said["base"])
    try:
        made = Corruption(said.get("kind", ""), int(said.get("count", "")), said["base"])
        return Tagged(made.base, made.kind, made.count, int(said.get("first", 0)))
    except (ValueError, W2SError):
        return None


def levels(kind: str, supervisors: int) -> range:
    """How many of M supervisors it makes sense to corrupt.

    All of them may be random (whatever is above chance then is a leak), over- or underconfident, or copies. Of
    adversarial ones M - 1 are the most: with all M the classes have but changed their names, and no method could know.
    """
    return range(LEAST.get(kind, 1), supervisors + (kind != "adversarial"))


def firsts(kind: str, count: int, supervisors: int) -> range:
    """With which `first` a level is tried: every one, so that each supervisor is corrupted equally often; any one where
    all are corrupted alike. (Of copies the first still says which one is copied.)"""
    return range(1 if count == supervisors and kind != "copies" else supervisors)
