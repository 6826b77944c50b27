"""Worlds in which the truth is known: many at a time, with the bootstrap written as one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from benchmark.analysis.statistics import Sample
from benchmark.core.metrics import Floats

EASE = 1.5  # spread of the examples' ease, in logits
RESAMPLES = 200


@dataclass
class World:
    """What differs from seed to seed, in logits, and how many examples there are.

    Attributes:
        skills: of each row. own: of a row and seed (its student); shared: of a seed, all rows and conditions alike (its
            supervisors).
        tested: of `pool` examples, how many a seed tests.
    """

    skills: Sequence[float]
    own: float = 0.3
    shared: float = 0.2
    pool: int = 300
    tested: int = 100
    seeds: int = 5

    def truth(self, skill: float) -> float:
        """Expected accuracy of a row."""
        nodes, weights = hermegauss(60)
        spread = np.sqrt(EASE**2 + self.own**2 + self.shared**2)
        return float((weights / (1 + np.exp(-skill - spread * nodes))).sum() / weights.sum())

    def seed_effects(self, worlds: int, tasks: int, rng: np.random.Generator) -> Floats:
        """(worlds, tasks, S) what rows share, in logits."""
        return rng.normal(0, 1, (worlds, tasks, self.seeds)) * self.shared

    def tasks(self, effects: Floats, rng: np.random.Generator, shift: float = 0.0) -> list[list[list[Sample]]]:
        """A sample for each world, task and row; `effects` are those of seeds, and `shift` moves all rows alike."""
        some = rng.multinomial(self.pool, np.full(self.pool, 1 / self.pool), (20, RESAMPLES)).astype(np.float32)
        return [
            [self._task(effect + shift, some[rng.integers(len(some))], rng) for effect in world] for world in effects
        ]

    def _task(self, effect: Floats, counts: Floats, rng: np.random.Generator) -> list[Sample]:
        rows = len(self.skills)
        ease = rng.normal(0, EASE, self.pool)
        chosen = np.argsort(rng.random((self.seeds, self.pool)), axis=1)[:, : self.tested]
        skill = np.asarray(self.skills)[:, None] + effect + rng.normal(0, 1, (rows, self.seeds)) * self.own
        luck = rng.random(self.pool)  # what decides is half the example's own in all seeds, half new
        threshold = np.where(rng.random(chosen.shape) < 0.5, luck[chosen], rng.random(chosen.shape))
        hits = threshold < 1 / (1 + np.exp(-(ease[chosen] + skill[..., None])))  # (rows, S, tested)
        masks = np.zeros((rows + 1, self.seeds, self.pool), np.float32)
        np.put_along_axis(masks[-1], chosen, 1.0, axis=1)
        for row in range(rows):
            np.put_along_axis(masks[row], chosen, hits[row].astype(np.float32), axis=1)
        sums = masks @ counts.T
        replicates = sums[:-1] / sums[-1]
        order = tuple(range(self.seeds))
        return [Sample(order, hits[row].mean(1), replicates[row]) for row in range(rows)]
