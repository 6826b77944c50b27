"""Supervisors made worse in known ways, after training: what stress curves are drawn over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.base.errors import W2SError, unknown_name

SoftLabels = NDArray[np.float32]
VERSION = 1  # raise when the same corruption would give other soft labels
TAG = "stress"
KINDS = {
    "random": "random answers",
    "adversarial": "adversarial",
    "overconfident": "overconfident",
    "copies": "copies of one another",
}
LEAST = {"copies": 2}  # supervisors; of other kinds one
# An overconfident supervisor says p^(1/T). At 0.1 a two-class answer of 60% becomes 98%, and one of 52% becomes 69%:
# nearly a hard label, so that in a mean it outvotes whoever hesitates, but still in the order of its own confidence.
# (Neural networks are found to need temperatures of 1 to 3 to be calibrated: Guo et al. 2017, arXiv:1706.04599.)
TEMPERATURE = 0.1


@dataclass(frozen=True)
class Corruption:
    """`count` of a task's M supervisors are corrupted in one way; the others stay as they are.

    - `random`: a supervisor's answers are dealt to other examples of their split: as confident as before, the same
      shares of classes, and no information.
    - `adversarial`: its class columns are rotated by one, as in the tasks with a broken supervisor.
    - `overconfident`: p^(1/T), normalised, T = `TEMPERATURE`; its most probable class stays.
    - `copies`: `count` supervisors say what the first of them says.

    Which ones depends on `base`, the uncorrupted task's name, and on the seed: a random order, of which each level of
    each kind takes the first `count`.
    """

    kind: str
    count: int
    base: str

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
        M = next(iter(soft_labels.values())).shape[1]
        if self.count > M:
            raise W2SError(f"corruption '{self.kind}' of {self.count} supervisors: there are only {M}")
        chosen = rng.permutation(M)[: self.count]
        made = {split: p.copy() for split, p in soft_labels.items()}
        for m in chosen:
            for split, p in soft_labels.items():
                made[split][:, m] = self._corrupted(p[:, m], p[:, chosen[0]], rng)
        return made

    def _corrupted(self, p: SoftLabels, first: SoftLabels, rng: np.random.Generator) -> SoftLabels:
        """One supervisor's answers (n, K), corrupted; `first` (n, K) is what the first one chosen says."""
        if self.kind == "random":
            return rng.permutation(p)
        if self.kind == "adversarial":
            return np.roll(p, 1, axis=-1)
        if self.kind == "copies":
            return first
        relative = p.astype(np.float64) / p.max(-1, keepdims=True)
        sharp = relative ** (1 / TEMPERATURE)
        return np.asarray(sharp / sharp.sum(-1, keepdims=True), np.float32)

    def fingerprint(self, data: str) -> str:
        """The fingerprint of a problem with these data that is corrupted so: `data` stays readable in it."""
        return f"{data}+{self.base}/{self.kind}/{self.count}/v{VERSION}"

    @property
    def tags(self) -> tuple[str, ...]:
        """What a card says of it, and results after it; `read_tags` reads them."""
        return (*base_tags(self.base), f"kind={self.kind}", f"count={self.count}")


def base_tags(base: str) -> tuple[str, ...]:
    """Tags of a base task's level 0."""
    return TAG, f"base={base}"


def read_tags(tags: Sequence[str]) -> tuple[str, Corruption | None] | None:
    """The base task's name and the corruption (None: level 0) that these tags tell of; None if they tell of nothing."""
    said = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    if TAG not in tags or "base" not in said:
        return None
    if said.keys().isdisjoint({"kind", "count"}):
        return said["base"], None
    try:
        return said["base"], Corruption(said.get("kind", ""), int(said.get("count", "")), said["base"])
    except (ValueError, W2SError):
        return None


def levels(kind: str, supervisors: int) -> range:
    """How many of M supervisors it makes sense to corrupt.

    All of them may be random (whatever is above chance then is a leak), overconfident or copies. Of adversarial ones
    M - 1 are the most: with all M the classes have but changed their names, and no method could know.
    """
    return range(LEAST.get(kind, 1), supervisors + (kind != "adversarial"))
