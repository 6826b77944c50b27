"""Which families of methods work where: sentences for the top of a board, made from the numbers, and a table.

The best of a family's n methods on some numbers is partly luck on these numbers. So a family stands, on each family of
tasks, by the method that is best on the *others* (`analysis/transfer.py`): no task chooses who stands for it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.analysis.cells import Analysis, Cell
from benchmark.analysis.effects import Effect, effect, family_names
from benchmark.analysis.format import half_text, percent
from benchmark.analysis.ranking import comparable
from benchmark.analysis.statistics import LEVEL, Estimate, holm
from benchmark.analysis.transfer import best_elsewhere
from benchmark.base.text import escape, listing, markdown
from benchmark.core.names import CONDITION_NAMES
from benchmark.reports.headline import BASELINE, broken_cells, in_order, main_condition

_HEADING = "## Which families of methods work where"
_ABOUT = (
    "Made from the numbers below, of methods that are no ablations, ran everything and saw nothing but soft labels. On "
    "each family of tasks a family of methods stands by the one of its methods that has the best mean PGR on the other "
    "families of tasks: no task chooses who stands for it. (Where there is one family of tasks it is the best by these "
    "very numbers, which flatters.) Intervals are given the choices. Differences are in points, paired, with 95% "
    "intervals; ahead or behind is what is so at 5%, after Holm's correction where families are counted; others can't "
    "be told apart."
)
_TABLE = (
    "By mean PGR; the median of an even number is the lower of the two in the middle. The best of several is partly "
    "luck. *Leads on*: families of tasks where it has the highest mean of all, standing by the method that is best on "
    "the others; the top of the page says where that is within the noise."
)


@dataclass(frozen=True, eq=False)
class Standing:
    """A family of methods.

    Attributes:
        methods: those that compete, saw soft labels only, and have all tasks and seeds, with their mean PGR, the best
            first.
        chosen: by family of tasks, the method that is best on the others.
    """

    family: str
    methods: Mapping[str, Estimate]
    chosen: Mapping[str, str]

    def row(self, cell: Cell) -> str:
        """The method that stands for it there."""
        return self.chosen[cell.evaluation.family]

    def score(self, cells: Sequence[Cell]) -> Estimate | None:
        """Its mean score; None where it lacks a task or seed."""
        return Analysis.over(cells, lambda cell: cell.score(self.row(cell))) if self.full(cells) else None

    def recovered(self, cells: Sequence[Cell]) -> Estimate | None:
        """Its mean PGR over those that have a gap; None where it lacks a task or seed, or none has."""
        with_gap = [cell for cell in cells if cell.has_gap]
        return Analysis.over(with_gap, lambda cell: cell.recovered(self.row(cell))) if self.full(with_gap) else None

    def full(self, cells: Sequence[Cell]) -> bool:
        """Whether it has every task and seed there."""
        return all(cell.full(self.row(cell)) for cell in cells)


def standings(analysis: Analysis) -> list[Standing]:
    """The families of methods, the one with the best mean PGR first; none where a ceiling, or all families, lack."""
    cells = analysis.headline(main_condition(analysis))
    with_gap = [cell for cell in cells if cell.has_gap]
    saw_more = {record.method for record in analysis.records if record.uses}
    members: dict[str, list[str]] = {}
    for row in comparable(analysis, cells):
        if (family := analysis.method_families.get(row)) and row not in saw_more:
            members.setdefault(family, []).append(row)
    found = [_standing(analysis, family, rows, with_gap) for family, rows in members.items() if with_gap]
    means = {one.family: recovered.mean for one in found if (recovered := one.recovered(cells))}
    return sorted((one for one in found if one.family in means), key=lambda one: (-means[one.family], one.family))


def _standing(analysis: Analysis, family: str, rows: Sequence[str], with_gap: Sequence[Cell]) -> Standing:
    def mean(row: str) -> Estimate | None:
        return Analysis.over(with_gap, lambda cell: cell.recovered(row))

    known = {row: found for row in rows if (found := mean(row))}
    ordered = dict(sorted(known.items(), key=lambda item: (-round(item[1].mean, 9), item[0])))
    samples = [[cell.recovered(row) for row in ordered] for cell in with_gap]
    scores = np.array([[sample.mean for sample in own if sample] for own in samples])
    of = [cell.evaluation.family for cell in with_gap], [cell.base for cell in with_gap]
    names = list(ordered)
    chosen = {name: names[best_elsewhere(name, scores, *of) or 0] for name in family_names([*analysis.cells.values()])}
    return Standing(family, ordered, chosen)


def sentences(analysis: Analysis) -> dict[str, str]:
    """What there is to say, in plain text: of each family of methods, then who leads where; {} for fewer than two."""
    found = standings(analysis)
    if len(found) < 2:
        return {}
    return {_opened(one.family): _of_one(analysis, one) for one in found} | _leaders(analysis, found)


def section(analysis: Analysis) -> str:
    """The sentences as a Markdown section; nothing where there are none."""
    found = sentences(analysis)
    lines = "\n".join(f"- **{escape(about)}:** {escape(text)}" for about, text in found.items())
    return f"{_HEADING}\n\n{_ABOUT}\n\n{lines}" if found else ""


def table(analysis: Analysis) -> str:
    """Best, median and worst method of each family, as Markdown under a heading; nothing without families."""
    found = standings(analysis)
    cells = analysis.headline(main_condition(analysis))
    if not found:
        return ""
    F = len(family_names(cells))
    by_place = [_leader(found, own) for own in _by_family(cells).values()]
    leaders = Counter(leader[0].family for leader in by_place if leader)

    def method(one: Standing, at: int) -> str:
        name = list(one.methods)[at]
        return f"`{name}` {percent(one.methods[name])}"

    def line(one: Standing) -> list[str]:
        n = len(one.methods)
        return [one.family, str(n), *(method(one, at) for at in (0, n // 2, n - 1)), f"{leaders[one.family]} of {F}"]

    shown = CONDITION_NAMES[main_condition(analysis)]
    headers = ["family", "methods", *(f"{which}, PGR {shown}" for which in ("best", "median", "worst")), "leads on"]
    return f"### Families of methods\n\n{markdown(headers, [line(one) for one in found])}\n\n{_TABLE}"


def _of_one(analysis: Analysis, one: Standing) -> str:
    """How a family does: PGR, and its difference from the baseline by family of tasks, in distribution and so on."""
    main = main_condition(analysis)
    conditions = {CONDITION_NAMES[name]: analysis.headline(name) for name in dict.fromkeys((main, "ind"))}
    cells = conditions[CONDITION_NAMES[main]]
    pgr = [f"{percent(mean)} {name}" for name, own in conditions.items() if own and (mean := one.recovered(own))]
    counts = Counter(one.chosen[name] for name in family_names(cells)).most_common()
    on = [f"{row} on {count}" for row, count in counts]
    who = f"{listing(on)} families of tasks" if len(on) > 1 else counts[0][0]
    who += f" (of {n} methods)" if (n := len(one.methods)) > 1 else ", its only method"
    text = f"PGR {' and '.join(pgr)}, by {who}."
    text += _against(one, cells, f" Against {BASELINE}: ")
    if main != "ind":
        text += _against(one, conditions["InD"], " In distribution: ", apart=False)
    return text + _against(one, broken_cells(analysis), " With a broken supervisor: ", apart=False)


def _against(one: Standing, cells: Sequence[Cell], about: str, apart: bool = True) -> str:
    """The difference from the baseline, and (`apart`) the families of tasks by its sign; nothing where not known."""
    same = [name for name in family_names(cells) if one.chosen[name] == BASELINE]
    if same and len(same) == len(family_names(cells)):
        return f"{about}it is {BASELINE} itself."
    found = effect(cells, lambda cell: cell.gain(one.row(cell), BASELINE))
    if found is None or not one.full(cells):
        return ""
    text = f"{about}{_verdict(found.sign)}, {percent(found.mean, sign=True)}"
    if apart and len(found.families) > 1:
        text += f" over {len(found.families)} families ({half_text(found.random_half)} if families were random draws)"
        text += f": {_by_sign(found)}{', over which a mean hides opposite effects' * found.opposite}"
    return text + f"; on {listing(same)} it is {BASELINE} itself" * bool(same) + "."


def _by_sign(found: Effect) -> str:
    """'ahead on 2 (a and b), behind on 1 (c), not told apart on 5'."""
    parts = []
    for sign in (1, -1, 0):
        if names := [name for name, own in found.signs.items() if own == sign]:
            parts.append(f"{_verdict(sign)} on {len(names)}{f' ({listing(names)})' * bool(sign)}")
    return ", ".join(parts)


def _verdict(sign: int) -> str:
    return {1: "ahead", -1: "behind", 0: "not told apart"}[sign]


def _leaders(analysis: Analysis, found: Sequence[Standing]) -> dict[str, str]:
    """Who has the highest mean on each family of tasks, modality and so on, and who is not told apart from it."""
    main = main_condition(analysis)
    cells, shown = analysis.headline(main), CONDITION_NAMES[main]
    modalities = in_order(cell.evaluation.modality for cell in cells)
    whole = {f"all {shown}": cells, "all InD": analysis.headline("ind"), "a broken supervisor": broken_cells(analysis)}
    asked = {
        "Highest mean": whole,
        f"By family of tasks, {shown}": _by_family(cells),
        f"By modality, {shown}": {n: [cell for cell in cells if cell.evaluation.modality == n] for n in modalities},
    }
    return {about: _who_leads(found, places) for about, places in asked.items() if places is whole or len(places) > 1}


def _who_leads(found: Sequence[Standing], places: Mapping[str, Sequence[Cell]]) -> str:
    """'a and b: averaging (ahead of all others); c: label model (not told apart from ...)', places by their answer."""
    answers: dict[str, list[str]] = {}
    for name, cells in places.items():
        if leader := _leader(found, cells):
            first, tied, others = leader
            among = f"not told apart from {listing([one.family for one in tied])}" if tied else "ahead of all others"
            among = "not told apart from any other" if 1 < others == len(tied) else among
            answers.setdefault(f"{first.family} ({among})", []).append(name)
    return "; ".join(f"{listing(names)}: {answer}" for answer, names in answers.items()) + "."


def _leader(found: Sequence[Standing], cells: Sequence[Cell]) -> tuple[Standing, list[Standing], int] | None:
    """The family of methods with the highest mean score, those that don't differ significantly from it after Holm's
    correction over its comparisons, and how many these are; None where fewer than two have results."""
    scores = {one: mean.mean for one in found if (mean := one.score(cells))}
    if len(scores) < 2:
        return None
    first, *others = sorted(scores, key=lambda one: (-round(scores[one], 9), one.family))

    def p(other: Standing) -> float:
        gain = Analysis.over(cells, lambda cell: cell.gain(first.row(cell), other.row(cell)))
        return gain.p if gain else np.nan

    adjusted = holm([p(other) for other in others])
    return first, [one for one, p in zip(others, adjusted, strict=True) if p >= 1 - LEVEL], len(others)


def _by_family(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {name: [cell for cell in cells if cell.evaluation.family == name] for name in family_names(cells)}


def _opened(text: str) -> str:
    return text[:1].upper() + text[1:]
