"""Where one method does well and badly by results that are there: what `w2s describe METHOD` ends with."""

from collections.abc import Sequence
from itertools import zip_longest

from benchmark.analysis.cells import Analysis, Cell, CellKey, analysis_of, analysis_with_records, keep_errors
from benchmark.analysis.format import percent, without_empty_interval
from benchmark.analysis.ranking import comparable, ranks
from benchmark.analysis.statistics import Estimate, estimate
from benchmark.base.text import listing, plain
from benchmark.core.corruption import KINDS, read_tags
from benchmark.core.names import CONDITION_NAMES
from benchmark.reports.headline import BASELINE, broken_cells, main_condition, rank_text
from benchmark.reports.stress import curves, level_zero
from benchmark.results.store import ResultStore
from benchmark.results.untrained import untrained

_MOST = 3  # tasks that are named for one reason
_LEGEND = "mean ± half-width of the 95% interval; failures: % of seeds below the supervisors' ensemble"
_LUCK = f"(paired differences from {BASELINE}; the extremes of many tasks are partly luck)"


def on_the_board(
    name: str, version: int, source: str | None, store: ResultStore, stress: ResultStore | None = None
) -> str:
    """In at most 100 columns; nothing where the folder has no results of this version.

    Args:
        source: the hash of the method's source, if that is known. stress: results whose supervisors are made worse.

    Raises:
        W2SError: the folder holds no results.
    """
    analysis = level_zero(analysis_with_records(store))
    records = [record for record in analysis.records if (record.method, record.method_version) == (name, version)]
    if not records:
        return ""
    seeds = len({record.seed for record in records})
    parts = [
        f"On the board: {store.root}, {seeds} seed{'s' * (seeds > 1)}"
        + ", of an older protocol" * (store.older is not None)
        + ", made from another source" * any(not record.of_source(source) for record in records),
        _means(analysis, name),
        _extremes(analysis, name),
        "\n".join(_lacks(analysis, name, store)),
        _worse(analysis_of(stress), name) if stress else "",
        _LEGEND,
    ]
    keep_errors(store, *([stress] if stress else []))
    return "\n\n".join(part for part in parts if part)


def _means(analysis: Analysis, name: str) -> str:
    """The method's means by condition, and over tasks with a broken supervisor."""
    main = main_condition(analysis)
    places = {CONDITION_NAMES[condition]: analysis.headline(condition) for condition in dict.fromkeys((main, "ind"))}
    places["broken supervisor"] = broken_cells(analysis)
    headers = ["", "tasks", "score", "rank", "PGR", "failures", f"minus {BASELINE}"]
    return plain(headers, [[place, *_line(analysis, name, cells)] for place, cells in places.items() if cells])


def _line(analysis: Analysis, name: str, cells: Sequence[Cell]) -> list[str]:
    rank, competing = ranks(analysis, cells)[name], len(comparable(analysis, cells))
    with_gap = [cell for cell in cells if cell.has_gap]
    failed = analysis.over(cells, lambda cell: cell.failed(name))
    return [
        str(len(cells)),
        percent(analysis.over(cells, lambda cell: cell.score(name)), of_tasks=len(cells)),
        f"{rank_text(rank)} of {competing}" if rank else "–",
        _shown(analysis.over(with_gap, lambda cell: cell.recovered(name))),
        _shown(failed and without_empty_interval(failed)),
        _shown(analysis.over(cells, lambda cell: cell.gain(name, BASELINE)), sign=True),
    ]


def _shown(found: Estimate | None, sign: bool = False) -> str:
    return percent(found, sign) if found else "–"


def _extremes(analysis: Analysis, name: str) -> str:
    """The tasks where it gains and loses most against the baseline, under the main condition; nothing for itself."""
    cells = analysis.select(main_condition(analysis))
    gains = {cell.evaluation.task: estimate([gain]) for cell in cells if (gain := cell.gain(name, BASELINE))}
    ordered = sorted(gains, key=lambda task: (-gains[task].mean, task))
    most = [task for task in ordered if gains[task].mean > 0], [task for task in ordered[::-1] if gains[task].mean < 0]
    texts = [[f"{percent(gains[task], sign=True)}  {task}" for task in tasks[:_MOST]] or ["nowhere"] for tasks in most]
    table = plain(["gains most on", "loses most on"], list(zip_longest(*texts, fillvalue="")))
    return f"{table}\n{_LUCK}" if gains else ""


def _lacks(analysis: Analysis, name: str, store: ResultStore) -> list[str]:
    """Where it was not run, or on fewer seeds; and where students were hardly trained."""
    lacking = [key for key, cell in analysis.cells.items() if not cell.full(name)]
    faults = [key for key in untrained(store.load()) if key in analysis.cells]
    found = {"not run, or on fewer seeds": lacking, "students were hardly trained": faults}
    return [f"{about}: {_some(keys)}" for about, keys in found.items() if keys]


def _some(keys: Sequence[CellKey]) -> str:
    names, more = [f"{task} {CONDITION_NAMES[where]}" for task, where in keys[:_MOST]], len(keys) - _MOST
    return listing([*names, *([f"{more} more"] if more > 0 else [])])


def _worse(analysis: Analysis, name: str) -> str:
    """How it does where supervisors are made worse, by how; nothing where it was not run there."""
    own = [curve for curve in curves(analysis) if curve.method == name]
    lines = []
    for kind in [kind for kind in KINDS if any(curve.kind == kind for curve in own)]:
        breaks, fails = zip(*((curve.breaks, curve.fails) for curve in own if curve.kind == kind), strict=True)
        cells = [c for c in analysis.cells.values() if (at := read_tags(c.evaluation.tags)) and at.kind == kind]
        gain = _shown(analysis.over(cells, lambda cell: cell.gain(name, BASELINE)), sign=True)
        lines.append([kind, gain, *(f"{len(of) - of.count(None)} of {len(of)}" for of in (breaks, fails))])
    headers = ["supervisors made worse", f"minus {BASELINE}", "falls below its own start", "below their ensemble"]
    return plain(headers, lines) if lines else ""
