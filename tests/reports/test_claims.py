"""What is said of the paper's claims where they are known to be true, false, undecided, or true in some families."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.analysis.cells import Analysis, Cell
from benchmark.analysis.statistics import Sample, rank_correlation
from benchmark.core.metrics import Floats
from benchmark.reports.claims import claims, section
from support.synthetic import Task, analysis_with, evaluation

SEEDS, NOISE = 5, 0.002
ROWS = {"naive": 0.6, "mean_supervisor": 0.6, "supervisor_ensemble": 0.6, "ensemble": 0.6, "raven": 0.6}
Scores = dict[str, dict[str, float]]  # by family, what rows score that isn't .6


def noisy(means: dict[str, float], rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Scores of every seed, around these means; the noise of two rows differs by no more than 1% of chance."""
    return {row: mean + NOISE * rng.normal(size=SEEDS) for row, mean in {**ROWS, **means}.items()}


def made(ood: Scores, ind: Scores | None = None, broken: Scores | None = None) -> Analysis:
    """Two tasks a family under each condition; of the broken ones two variants of one base."""
    rng = np.random.default_rng(2)
    analysis = analysis_with({(f, f"{f}-{i}"): noisy(own, rng) for f, own in ood.items() for i in range(2)})
    for condition, scores, tags in (("ind", ind or {}, ()), ("ood", broken or {}, ("broken",))):
        for family, own in scores.items():
            for i in range(2):
                name = f"{family}-{i}" + f"-broken-{i}" * bool(tags)
                marks = (*tags, f"base={family}-0") if tags else ()
                made_up = evaluation(Task(name, family=family, tags=marks), condition, range(SEEDS))
                samples = {
                    row: Sample((*range(SEEDS),), values, values[:, None]) for row, values in noisy(own, rng).items()
                }
                analysis.cells[name, condition] = Cell(made_up, {}, samples, samples, {}, {made_up.metric: samples})
    return analysis


def found(analysis: Analysis, about: str) -> str:
    """What is said of the one claim that begins so."""
    (said,) = [claim.found for claim in claims(analysis) if claim.claim.startswith(about)]
    return said


UP, DOWN, SAME = {"raven": 0.65}, {"raven": 0.55}, {"raven": 0.6}


@pytest.mark.parametrize(
    ("naive", "of_mean", "of_ensemble"),
    [
        (0.5, "yes, -", "yes, -"),
        (0.7, "no, the opposite, +", "no, the opposite, +"),
        (0.6, "undecided, ", "undecided, "),
    ],
)
def test_naive_against_its_supervisors(naive: float, of_mean: str, of_ensemble: str) -> None:
    said = found(made({"a": {"naive": naive}, "b": {"naive": naive}}), "Naive training ends below its supervisors")
    mean, ensemble = said.removeprefix("Against their mean: ").split(" Against their ensemble: ")
    assert mean.startswith(of_mean)
    assert ensemble.startswith(of_ensemble)
    assert re.search(r"over 2 families \(± \d+\.\d if families were random draws\)", mean)


def test_the_mean_supervisor_and_the_ensemble_are_two_floors() -> None:
    said = found(made({"a": {"mean_supervisor": 0.5, "supervisor_ensemble": 0.7}}), "Naive")
    assert re.fullmatch(
        r"Against their mean: no, the opposite, \+[\d.]+ ± 0\.\d\. Against their ensemble: yes, -[\d.]+ ± 0\.\d\.", said
    )


@pytest.mark.parametrize(
    ("families", "begins", "each"),
    [
        ([UP, UP, UP], "Yes, +", "ahead on a (+"),
        ([DOWN, DOWN, DOWN], "No, the opposite, -", "behind on a (-"),
        ([SAME, SAME, SAME], "Undecided, ", "not told apart on a ("),
        ([UP, SAME, SAME], "Yes, +", "not told apart on b ("),
        ([UP, DOWN, SAME], "It depends on the family: ", "behind on b (-"),
    ],
)
def test_raven_against_the_ensemble(families: list[dict[str, float]], begins: str, each: str) -> None:
    """With the interval of each family; of opposite effects the mean is given last, and called what it is."""
    analysis = made(dict(zip("abc", families, strict=True)))
    said = found(analysis, "RAVEN ends above")
    assert said.startswith(begins)
    assert each in said
    shown = dict(re.findall(r"\b([abc]) \(([+-]?\d\.\d) ± \d\.\d\)", said))
    for name in "abc":
        own = [cell.samples for cell in analysis.select("ood") if cell.evaluation.family == name]
        gain = np.mean([samples["raven"].mean - samples["ensemble"].mean for samples in own])
        assert float(shown[name]) == pytest.approx(100 * gain, abs=0.0501)
    assert ("is over opposite effects" in said) == begins.startswith("It depends")
    assert "broken" not in said


@pytest.mark.parametrize(("scores", "begins"), [(UP, "yes, +5"), (DOWN, "no, the opposite, -"), (SAME, "undecided, ")])
def test_broken_supervisors_are_said_apart(scores: dict[str, float], begins: str) -> None:
    said = found(made({"a": UP, "b": UP}, broken={"a": scores}), "RAVEN ends above")
    whole, broken = said.split(" With a broken supervisor: ")
    assert broken.startswith(begins)
    assert whole == found(made({"a": UP, "b": UP}), "RAVEN ends above"), "which are in no other number"


@pytest.mark.parametrize(
    ("ood", "ind", "begins", "at_home"),
    [(UP, SAME, "yes, +", "undecided"), (SAME, UP, "no, the opposite, -", "yes"), (UP, UP, "undecided, ", "yes")],
)
def test_out_of_distribution_against_in_distribution(
    ood: dict[str, float], ind: dict[str, float], begins: str, at_home: str
) -> None:
    said = found(made({"a": ood, "b": ood}, ind={"a": ind, "b": ind}), "What RAVEN gains")
    change, here = said.removeprefix("OOD minus InD: ").split(" In distribution it gains: ")
    assert change.startswith(begins)
    assert here.startswith(at_home)


@pytest.mark.parametrize(("way", "begins"), [(1, "yes, +"), (-1, "no, the opposite, -"), (0, "undecided, ")])
def test_weights_against_accuracy(way: int, begins: str) -> None:
    """Of weights that follow the scores of supervisors, that follow them upside down, and of any."""
    analysis, rng = made({"a": {}, "b": {}}), np.random.default_rng(0)
    ranks, firsts, chances = [], [], []
    for cell in analysis.cells.values():
        cell.records["raven"] = {}
        for seed, scores in cell.supervisor_scores.items():
            own: Floats = rng.permutation(3) + 0.1 if way == 0 else np.exp(9.0 * way * scores)
            record = SimpleNamespace(diagnostics={"weights": (own / own.sum()).tolist()}, hyperparameters={})
            cell.records["raven"][seed] = record  # type: ignore[assignment]
            ranks.append(rank_correlation(own, scores))
            firsts.append(own.argmax() in np.flatnonzero(scores == scores.max()))
            chances.append((scores == scores.max()).mean())
    said = found(analysis, "RAVEN's weights")
    assert said.partition(": ")[2].startswith(begins)
    shown = re.search(r": (?:yes|undecided|no, the opposite), ([+-]\d\.\d\d)", said)
    assert shown
    assert float(shown[1]) == pytest.approx(np.mean(ranks), abs=0.0051)
    share = re.search(r"overall (\d+\.\d)(?: ± \d+\.\d)? \(by chance (\d+\.\d)\)", said)
    assert share
    assert [float(share[1]), float(share[2])] == pytest.approx(
        [100 * np.mean(firsts), 100 * np.mean(chances)], abs=0.051
    )


def test_nothing_is_said_without_the_methods() -> None:
    analysis = analysis_with({("a", "t"): {"one": np.zeros(3), "other": np.ones(3)}})
    assert claims(analysis) == []
    assert section(analysis) == ""


def test_one_seed_decides_nothing() -> None:
    one = {row: np.array([score]) for row, score in {**ROWS, "raven": 0.9, "naive": 0.1}.items()}
    for claim in claims(analysis_with({("a", "t"): one, ("b", "u"): one})):
        assert "yes" not in claim.found.lower()
        assert "undecided" in claim.found.lower()


def test_names_of_families_are_text() -> None:
    said = section(made({"a_b": UP, "c_d": DOWN}))
    assert r"a\_b (+" in said
    assert said.startswith("## The claims of the RAVEN paper, by these results\n")
    assert said.count("\n- **") == 2
