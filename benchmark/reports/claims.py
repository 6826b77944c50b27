"""What the RAVEN paper (Jeon et al. 2025, arXiv:2510.21332) claims, and what a suite's results say of each claim.

Every sentence is made from the numbers. Intervals are of 95%; a family is called ahead or behind where it is at 5%
after Holm's correction over the families of its sentence. Where families differ significantly in sign, a sentence says
so before it gives their mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from benchmark.analysis import weights
from benchmark.analysis.cells import FLOOR, MEAN_SUPERVISOR, Analysis, Cell
from benchmark.analysis.effects import Effect, effect
from benchmark.analysis.format import half_text, number, percent, without_empty_interval
from benchmark.analysis.statistics import Estimate, Sample, difference
from benchmark.base.text import escape, listing
from benchmark.core.names import CONDITION_NAMES
from benchmark.reports.headline import BASELINE, FOCUS, NAIVE, broken_cells, main_condition

_HEADING = "## The claims of the RAVEN paper, by these results"
_ABOUT = (
    "Made from the numbers below. Differences are in points, paired, with 95% intervals; means are over families. A "
    "family is ahead or behind where it is at 5% after Holm's correction over a sentence's families; the others can't "
    "be told apart. *If families were random draws*: the half-width by a t interval on the families' means."
)


def _half(half: float) -> str:
    return f"± {round(half, 9):.2f}"


class Words(NamedTuple):
    """How an effect is said: a mean with its interval, a half-width, and families by their sign."""

    show: Callable[[Estimate], str]
    half: Callable[[float], str]
    above: str
    below: str
    neither: str


POINTS = Words(lambda found: percent(found, sign=True), half_text, "ahead on", "behind on", "not told apart on")
CORRELATION = Words(
    lambda found: " ".join([f"{round(found.mean, 9):+.2f}", *([_half(found.half)] if isfinite(found.half) else [])]),
    _half,
    "positive on",
    "negative on",
    "not told from 0 on",
)


@dataclass(frozen=True)
class Claim:
    """One claim, and one sentence or a few on what is found; plain text."""

    claim: str
    found: str


def claims(analysis: Analysis) -> list[Claim]:
    """Those of which the results say something; stress tasks have been left out."""
    condition = main_condition(analysis)
    cells = analysis.headline(condition)
    made = [_naive(cells), _focus(analysis, cells), _shift(analysis), _weights(cells)]
    return [claim for claim in made if claim]


def section(analysis: Analysis) -> str:
    """The claims as a Markdown section; nothing where there are none."""
    found = claims(analysis)
    lines = "\n".join(f"- **{escape(claim.claim)}** {escape(claim.found)}" for claim in found)
    return f"{_HEADING}\n\n{_ABOUT}\n\n{lines}" if found else ""


def _naive(cells: Sequence[Cell]) -> Claim | None:
    over = {"their mean": MEAN_SUPERVISOR, "their ensemble": FLOOR}
    effects = {name: effect(cells, lambda cell, row=row: cell.gain(NAIVE, row)) for name, row in over.items()}  # type: ignore[misc]
    found = [f"Against {name}: {_sentence(one, -1)}" for name, one in effects.items() if one]
    return Claim("Naive training ends below its supervisors.", " ".join(found)) if found else None


def _focus(analysis: Analysis, cells: Sequence[Cell]) -> Claim | None:
    if not (gain := effect(cells, _gain)):
        return None
    found = _opened(_sentence(gain, 1))
    if broken := effect(broken_cells(analysis), _gain):
        found += f" With a broken supervisor: {_sentence(broken, 1)}"
    return Claim(f"RAVEN ends above training on the ensemble, {CONDITION_NAMES[main_condition(analysis)]}.", found)


def _shift(analysis: Analysis) -> Claim | None:
    ind = {cell.evaluation.task: cell for cell in analysis.headline("ind")}
    cells = [cell for cell in analysis.headline("ood") if cell.evaluation.task in ind]

    def at_home(cell: Cell) -> Sample | None:
        return _gain(ind[cell.evaluation.task])

    def more(cell: Cell) -> Sample | None:
        there, here = _gain(cell), at_home(cell)
        return difference(there, here) if there and here else None

    change, here = effect(cells, more), effect(cells, at_home)
    if not (change and here):
        return None
    claim = "What RAVEN gains over the ensemble is more out of distribution than in distribution."
    return Claim(claim, f"OOD minus InD: {_sentence(change, 1)} In distribution it gains: {_sentence(here, 1)}")


def _weights(cells: Sequence[Cell]) -> Claim | None:
    rank = effect(cells, lambda cell: weights.correlation(cell, FOCUS))
    first = effect(cells, lambda cell: weights.best_is_first(cell, FOCUS))
    chance = effect(cells, lambda cell: weights.best_by_chance(cell, FOCUS))
    if not (rank and first and chance):
        return None

    def share(name: str, of: Estimate, at_random: Estimate) -> str:
        return f"{name} {percent(without_empty_interval(of))} (by chance {number(at_random.mean)})"

    found = f"By Spearman's correlation over the supervisors of a task and seed: {_sentence(rank, 1, CORRELATION)}"
    found += " The best supervisor has the largest weight in so many percent of tasks and seeds: "
    families = [share(name, of, chance.families[name]) for name, of in first.families.items()]
    found += listing([share("overall", first.mean, chance.mean), *(families if len(families) > 1 else [])])
    return Claim("RAVEN's weights follow its supervisors' accuracy.", f"{found}.")


def _gain(cell: Cell) -> Sample | None:
    return cell.gain(FOCUS, BASELINE)


def _opened(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(found: Effect, claimed: int, words: Words = POINTS) -> str:
    """Whether an effect has the claimed sign, with its interval and those of its families."""
    F, mean = len(found.families), words.show(found.mean)
    if F > 1:
        random = words.half(found.random_half)
        mean += f" over {F} families ({random} if families were random draws)"
    each = _by_family(found, words)
    if found.opposite:
        return f"it depends on the family: {each}; their mean, {mean}, is over opposite effects."
    verdict = {claimed: "yes", -claimed: "no, the opposite", 0: "undecided"}[found.sign]
    return f"{verdict}, {mean}{': ' * bool(each)}{each}."


def _by_family(found: Effect, words: Words) -> str:
    """'ahead on a (+1.0 ± 0.2), behind on ...'; nothing for one family."""
    if len(found.families) < 2:
        return ""
    signs, parts = found.signs, []
    for sign, word in ((1, words.above), (-1, words.below), (0, words.neither)):
        if names := [name for name in found.families if signs[name] == sign]:
            parts.append(f"{word} {listing([f'{name} ({words.show(found.families[name])})' for name in names])}")
    return ", ".join(parts)
