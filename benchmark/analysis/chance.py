"""Is `random_supervision` at chance, as it must be? If it is not, the truth leaks."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from benchmark.analysis.cells import Analysis
from benchmark.core.metrics import METRICS
from benchmark.results.trials import TOLERANCE


@dataclass(frozen=True)
class Deviation:
    """How far `random_supervision` is from chance: mean difference over runs, and its standard error."""

    mean: float
    standard_error: float
    runs: int

    @property
    def allowed(self) -> float:
        """Three standard errors, or for few runs as many as are exceeded by chance as rarely: 0.27% of the time."""
        return float(stdtrit(self.runs - 1, ndtr(3)))

    @property
    def suspicious(self) -> bool:
        return abs(self.mean) > self.allowed * self.standard_error + TOLERANCE


def chance_deviation(analysis: Analysis) -> Deviation | None:
    """Mean over (task, condition, seed) of `random_supervision`'s score minus chance; None for fewer than two.

    Chance is 1/K: uniform labels and `nn.Linear`'s initial weights treat all classes alike, so each example is
    predicted as each class with probability 1/K over the draws, and expected accuracy, like expected balanced accuracy,
    is 1/K whatever the classes' shares. That is the mean score of the K constant predictions; the majority class alone
    would score higher on unbalanced pools. For a metric without such a value (see `Metric.uniform_chance`), accuracy
    stands in.

    Each seed draws labels anew, so every (task, condition, seed) is one observation and the standard error comes from
    their spread. Tasks with the same test split (a task and its broken variant, which differ in supervisors only) would
    repeat one observation; one of them counts.
    """
    seen: set[bytes] = set()
    observations: list[float] = []
    for cell in analysis.cells.values():
        records = cell.records.get("random_supervision")
        pool = b"|".join(truth.labels.tobytes() for truth in cell.evaluation.seeds.values())
        if not records or pool in seen:
            continue
        seen.add(pool)
        metric, chance = cell.evaluation.metric, 1 / cell.evaluation.num_classes
        if METRICS[metric].uniform_chance:
            observations += list(cell.samples["random_supervision"].values - chance)
        else:
            observations += [record.metrics["accuracy"] - chance for record in records.values()]
    if len(observations) < 2:
        return None
    error = np.std(observations, ddof=1) / np.sqrt(len(observations))
    return Deviation(float(np.mean(observations)), float(error), len(observations))
