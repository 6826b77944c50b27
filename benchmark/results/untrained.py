"""Where students were hardly trained: what a run says at its end, and the tables after it.

The ceiling tells: a student trained on the truth has what all others have, features, steps and learning rate.
"""

from collections import defaultdict

import numpy as np

from benchmark.core.names import CANARIES
from benchmark.core.records import Evaluation, Record
from benchmark.core.scoring import score
from benchmark.results.contents import Contents

CEILING = next(iter(CANARIES))
MOST_LATE_FALL = 0.3  # see `benchmark.core.canaries.Taught`; students trained enough had up to .27 in a study of steps


def untrained(contents: Contents) -> dict[tuple[str, str], str]:
    """(task, condition) -> what is wrong there, in a line; those without a ceiling are left out."""
    by_cell: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in contents.records.values():
        if record.method == CEILING and contents.misfit(record) is None:
            by_cell[record.task, record.condition].append(record)
    found = {cell: _fault(contents.evaluations[cell], records) for cell, records in sorted(by_cell.items())}
    return {cell: fault for cell, fault in found.items() if fault}


def _fault(evaluation: Evaluation, records: list[Record]) -> str | None:
    """What is wrong with the ceiling's records, of one task and condition."""
    metric = evaluation.metric
    ceiling = np.mean([record.metrics.get(f"test_{metric}", record.metrics[metric]) for record in records])
    floor = np.mean([_floor(evaluation, record.seed) for record in records])
    falls = [float(found) for r in records if isinstance(found := r.diagnostics.get("late_fall"), (int, float))]
    if ceiling < floor:
        return f"the ceiling ({100 * ceiling:.1f}) is below the supervisors' mean ({100 * floor:.1f})"
    if falls and (fall := float(np.mean(falls))) > MOST_LATE_FALL:
        return f"the ceiling's loss still fell when training ended ({100 * fall:.0f}% of its fall in the second half)"
    return None


def _floor(evaluation: Evaluation, seed: int) -> float:
    """The supervisors' mean score on the test split."""
    truth = evaluation.seeds[seed]
    on = truth.test
    given = evaluation.metric, truth.supervisors[:, on], truth.labels[on], truth.groups[on], evaluation.num_classes
    return float(score(*given).mean())
