"""The harness: knows no single task or method by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load_results(results: str | Path) -> pd.DataFrame:
    """The results of a suite, such as `results/default`, as a tidy table: one row for each (task, condition, method,
    seed), sorted by these.

    Columns and their types are those of `benchmark.analysis.frame.COLUMNS`, which says what each one is. Scores are
    recomputed from the stored predictions. Reference rows (the mean supervisor and the like) are columns, not rows, as
    are the floor and the ceiling. What can't be read or used is left out, with a warning for each line.

    Raises:
        W2SError: there are no results.
    """
    from benchmark.analysis.frame import load_results  # pandas and scipy, only when they are needed

    return load_results(Path(results))
