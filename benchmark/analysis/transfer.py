"""Transfer tuning: which setting of a method's grid is best on all task families but one, whose truth is not used.

Shapes: T tasks, K settings of the grid, the default first.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from benchmark.analysis.statistics import ROUNDING, family_weights
from benchmark.core.metrics import Floats


def best_elsewhere(
    left_out: str, scores: Floats, families: Sequence[str], units: Sequence[Hashable] | None = None
) -> int | None:
    """The setting with the best mean score over the other families of means over their tasks; of several the first, so
    that the default wins a tie. None where there is no other family.

    Args:
        left_out: the family that the setting is for. scores: (T, K). families, units: see `family_weights`.
    """
    at = [i for i, family in enumerate(families) if family != left_out]
    if not at:
        return None
    weights = family_weights([families[i] for i in at], None if units is None else [units[i] for i in at])
    means = weights @ scores[at]
    return int(np.argmax(means >= means.max() - ROUNDING))
