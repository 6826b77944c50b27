"""Is what is published right (`w2s leaderboard --check`), and does a run agree with it (`make benchmark`)?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from benchmark.analysis.cells import Analysis, Cell, analysis_of
from benchmark.analysis.chance import chance_deviation
from benchmark.analysis.format import number
from benchmark.analysis.statistics import Estimate, Sample, estimate
from benchmark.base.errors import W2SError
from benchmark.core.names import REFERENCES
from benchmark.judging.judgements import read_judged
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore


def check(
    suites: Sequence[Path], markdown_path: Path, stale: Callable[[ResultStore], list[str]] = lambda store: []
) -> list[str]:
    """Findings about folders `results/<suite>` and the page made from them; none if all is well.

    Found are lines and files that can't be read, records without predictions or evaluation, metrics that differ from
    their recomputation, judgements of replies that are not there or have changed, records older than the code, canaries
    that are not where they must be, and a stale leaderboard.

    Args:
        stale: gives findings about records older than the code, which only those who know the code's versions can see.
    """
    stores = [ResultStore(folder) for folder in suites]
    findings = []
    for store in stores:
        problems = [*analysis_of(store).problems, *read_judged(store.root).problems]
        findings += [f"{store.root}/{problem}" for problem in problems]
        findings += stale(store)
        findings += canary_findings(store)
    try:
        expected = render(*stores)
    except W2SError as error:
        return [*findings, str(error)]
    return findings + _stale(suites[0], markdown_path, expected)


def canary_findings(store: ResultStore) -> list[str]:
    """A finding if `random_supervision` is too far from chance: see `analysis.chance_deviation`."""
    deviation = chance_deviation(analysis_of(store))
    if deviation is None or not deviation.suspicious:
        return []
    return [
        f"canary: random_supervision is {number(deviation.mean, sign=True)} points from chance over {deviation.runs} "
        f"runs, allowed are {deviation.allowed:.1f} standard errors of {number(deviation.standard_error)}: "
        "the truth leaks, or the harness is at fault"
    ]


def _stale(results_dir: Path, path: Path, expected: str) -> list[str]:
    mend = f"run `w2s leaderboard --results {results_dir}`"
    if not path.is_file():
        return [f"{path}: missing; {mend}"]
    found = path.read_bytes().decode(errors="replace")
    if found == expected:
        return []
    pairs = zip_longest(found.splitlines(), expected.splitlines())
    line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)
    return [f"{path}: stale: line {line} is not what {results_dir} gives; {mend}"]


@dataclass(frozen=True)
class Comparison:
    """Of the (task, condition, method) cells that both have, how many agree within their intervals.

    Attributes:
        differing: one line for each that doesn't. only_first, only_second: cells that the other lacks.
    """

    agree: int
    total: int
    differing: list[str]
    only_first: int
    only_second: int


def compare(first: ResultStore, second: ResultStore) -> Comparison:
    """Whether two results' mean scores agree, cell by cell: |a - b| <= sqrt(h_a^2 + h_b^2), h the half-widths."""
    a, b = _cells(analysis_of(first)), _cells(analysis_of(second))
    differing = []
    shared = sorted(a.keys() & b.keys())
    for key in shared:
        one, two = estimate([a[key]]), estimate([b[key]])
        allowed = float(np.hypot(_half(one), _half(two)))
        if abs(one.mean - two.mean) > allowed + 1e-9:
            task, condition, method = key
            found = f"{number(one.mean)} and {number(two.mean)}"
            differing.append(f"{method} on {task}/{condition}: {found}, allowed difference {number(allowed)}")
    agree = len(shared) - len(differing)
    return Comparison(agree, len(shared), differing, len(a) - len(shared), len(b) - len(shared))


def _cells(analysis: Analysis) -> dict[tuple[str, str, str], Sample]:
    def rows(cell: Cell) -> list[str]:
        return [row for row in cell.samples if row not in REFERENCES]

    return {(*unit, row): cell.samples[row] for unit, cell in analysis.cells.items() for row in rows(cell)}


def _half(result: Estimate) -> float:
    """Half-width; with one seed, of the examples' part alone."""
    return float(np.nan_to_num(result.example_half if np.isnan(result.seed_error) else result.half))
