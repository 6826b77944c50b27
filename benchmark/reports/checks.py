"""Is what is published right (`w2s leaderboard --check`), and does a run agree with it?"""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from benchmark.analysis.cells import analysis_of, keep_errors
from benchmark.analysis.chance import chance_deviation
from benchmark.analysis.format import number
from benchmark.analysis.statistics import Estimate, estimate
from benchmark.base.errors import W2SError
from benchmark.core.names import REFERENCES
from benchmark.judging.judgements import read_judged
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore

_SHOWN = 20
Findings = Callable[[ResultStore], list[str]]


def check(suites: Sequence[Path], markdown_path: Path, stale: Findings = lambda store: []) -> list[str]:
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
        findings += [*stale(store), *canary_findings(store)]
    try:
        expected = render(*stores)
    except W2SError as error:
        return [*findings, str(error)]
    keep_errors(*stores)
    return findings + _page_findings(suites[0], markdown_path, expected)


def canary_findings(store: ResultStore) -> list[str]:
    """A finding if `random_supervision` is too far from chance: see `chance_deviation`."""
    deviation = chance_deviation(analysis_of(store))
    if deviation is None or not deviation.suspicious:
        return []
    return [
        f"canary: random_supervision is {number(deviation.mean, sign=True)} points from chance over {deviation.runs} "
        f"runs, allowed are {deviation.allowed:.1f} standard errors of {number(deviation.standard_error)}: "
        "the truth leaks, or the harness is at fault"
    ]


def _page_findings(results: Path, path: Path, expected: str) -> list[str]:
    mend = f"run `w2s leaderboard --results {results}`"
    if not path.is_file():
        return [f"{path}: missing; {mend}"]
    found = path.read_bytes().decode(errors="replace")
    if found == expected:
        return []
    pairs = zip_longest(found.splitlines(), expected.splitlines())
    line = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)
    return [f"{path}: stale: line {line} is not what {results} gives; {mend}"]


def agreement(first: ResultStore, second: ResultStore) -> list[str]:
    """In which cells, of a task, condition and method, the mean scores of both agree within their intervals, in lines.

    That is |a - b| <= sqrt(h_a^2 + h_b^2), h the half-widths. Tasks of which one has another version are left out.
    """
    a, b = _estimates(first), _estimates(second)
    versions = [{(c.task, c.condition): c.task_version for c in s.load().evaluations.values()} for s in (first, second)]
    other = {cell for cell in versions[0].keys() & versions[1].keys() if versions[0][cell] != versions[1][cell]}
    a, b = ({key: value for key, value in cells.items() if key[:2] not in other} for cells in (a, b))
    shared = sorted(a.keys() & b.keys())
    differing = []
    for key in shared:
        task, condition, method = key
        allowed = float(np.hypot(_half(a[key]), _half(b[key])))
        if abs(a[key].mean - b[key].mean) > allowed + 1e-9:
            found = f"{number(a[key].mean)} and {number(b[key].mean)}"
            differing.append(f"  {method} on {task}/{condition}: {found}, allowed difference {number(allowed)}")
    agree = f"{len(shared) - len(differing)} of {len(shared)} cells agree within their intervals"
    lines = [f"compared with {second.root}: {agree}", *differing[:_SHOWN]]
    tasks = len({task for task, _ in other})
    lines += [f"  {tasks} tasks are of another version there, and were not compared"] * bool(tasks)
    lines += [f"  and {len(differing) - _SHOWN} more"] * (len(differing) > _SHOWN)
    for cells, store in ((a, first), (b, second)):
        lines += [f"  {len(cells) - len(shared)} cells are only in {store.root}"] * (len(cells) > len(shared))
    return lines


def _estimates(store: ResultStore) -> dict[tuple[str, str, str], Estimate]:
    """Of a tuned method by the choice that its records hold: the other one hangs on which families were run."""
    return {
        (*key, row): estimate([cell.score(row, "agreement") or sample])
        for key, cell in analysis_of(store).cells.items()
        for row, sample in cell.samples.items()
        if row not in REFERENCES
    }


def _half(result: Estimate) -> float:
    """Half-width; with one seed, of the examples' part alone."""
    return result.example_half if np.isnan(result.seed_error) else float(np.nan_to_num(result.half))
