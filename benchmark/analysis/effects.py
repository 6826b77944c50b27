"""A difference over many tasks: its mean, what it is in each family, and how far families and tasks differ.

A mean's interval is of these tasks: it says what other seeds and other test examples would change. What other tasks
would change is larger where the effect is heterogeneous, so both stand beside every mean difference over all tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from benchmark.analysis.cells import Analysis, Cell
from benchmark.analysis.statistics import LEVEL, Estimate, Sample, holm

Quantity = Callable[[Cell], Sample | None]


@dataclass(frozen=True)
class Effect:
    """A quantity over the cells where it is known.

    Attributes:
        mean: over families. families: over the tasks of each, by name.
        adjusted: p-values of the families, corrected by Holm for their number.
        spread: standard deviation between tasks of what it is on each, which holds their own errors, too; NaN for one.
        random_half: half-width of the 95% interval whose families are random draws; NaN for one.
    """

    mean: Estimate
    families: Mapping[str, Estimate]
    adjusted: Mapping[str, float]
    spread: float
    random_half: float

    @property
    def sign(self) -> int:
        """Of the mean; 0 where its interval holds 0."""
        return sign_of(self.mean, self.mean.p)

    @property
    def signs(self) -> dict[str, int]:
        """Of each family; 0 where it isn't significant after Holm's correction."""
        return {name: sign_of(found, self.adjusted[name]) for name, found in self.families.items()}

    @property
    def opposite(self) -> bool:
        """Whether families differ significantly in sign, so that the mean hides two effects."""
        return {1, -1} <= {*self.signs.values()}


def sign_of(found: Estimate, p: float) -> int:
    """1 or -1 for what is significant at 5%, else 0."""
    return int(np.sign(found.mean)) if p < 1 - LEVEL else 0


def effect(cells: Sequence[Cell], quantity: Quantity, plain: bool = False) -> Effect | None:
    """Of a quantity that is 0 where nothing differs; None where it is nowhere known.

    Args:
        plain: the mean is over tasks, which then stand in the place of families as random draws.
    """
    mean = Analysis.over(cells, quantity, plain)
    if mean is None:
        return None
    families = _by_family(cells, quantity)
    tasks = _means(cells, quantity)
    adjusted = holm([found.p for found in families.values()])
    drawn = tasks if plain else [found.mean for found in families.values()]
    return Effect(
        mean,
        families,
        dict(zip(families, adjusted.tolist(), strict=True)),
        float(np.std(tasks, ddof=1)) if len(tasks) > 1 else np.nan,
        random_half(drawn),
    )


def family_names(cells: Sequence[Cell]) -> list[str]:
    """Of these tasks, each once, in order."""
    return sorted({cell.evaluation.family for cell in cells})


def random_half(means: Sequence[float]) -> float:
    """Half-width of the 95% interval of the mean of F effects that are random draws: t(.975, F - 1) sd / sqrt(F).

    It is what other families would change, seeds and examples included. NaN for one.
    """
    F = len(means)
    return float(-stdtrit(F - 1, (1 - LEVEL) / 2) * np.std(means, ddof=1) / np.sqrt(F)) if F > 1 else np.nan


def _by_family(cells: Sequence[Cell], quantity: Quantity) -> dict[str, Estimate]:
    found = {
        name: Analysis.over([cell for cell in cells if cell.evaluation.family == name], quantity)
        for name in family_names(cells)
    }
    return {name: result for name, result in found.items() if result}


def _means(cells: Sequence[Cell], quantity: Quantity) -> list[float]:
    """Of each task; of those that break one supervisor each of the same base, as of one."""
    means: dict[tuple[str, bool], list[float]] = {}
    for cell in cells:
        if sample := quantity(cell):
            means.setdefault((cell.base, cell.broken), []).append(sample.mean)
    return [float(np.mean(own)) for own in means.values()]
