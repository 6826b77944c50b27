"""Stress curves from results in which each method's true accuracy at each level is known."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.analysis.cells import Analysis, analyse, analysis_of
from benchmark.analysis.statistics import difference, estimate
from benchmark.page.data import page_payload
from benchmark.reports.leaderboard import render, summary
from benchmark.reports.stress import Curve, curves, without_stress
from benchmark.results.store import ResultStore
from support.synthetic import STEADY, default_tasks, fill, stressed


@pytest.fixture(scope="module")
def analysis(made: Path) -> Analysis:
    return analysis_of(ResultStore(made / "stress"))


@pytest.fixture(scope="module")
def by_name(analysis: Analysis) -> dict[tuple[str, str], Curve]:
    return {(curve.kind, curve.method): curve for curve in curves(analysis)}


def test_a_curve_holds_the_scores_of_its_levels(analysis: Analysis, by_name: dict[tuple[str, str], Curve]) -> None:
    for (kind, method), curve in by_name.items():
        assert (curve.base, curve.condition, curve.supervisors) == ("pens", "ood", 3)
        assert [point.level for point in curve.points] == ([0, 1, 2, 3] if kind == "random" else [0, 2])
        for level, score, _, _ in curve.points:
            name = f"stress-pens-{kind}-{level}" if level else "stress-pens"
            assert score == estimate([analysis.cells[name, "ood"].samples[method]])
    assert {kind for kind, _ in by_name} == {"random", "copies"}
    assert {method for _, method in by_name} >= {*STEADY, "ground_truth", "mean_supervisor"}
    means = [point.score.mean for point in by_name["random", "naive"].points]
    assert np.allclose(means, STEADY["naive"], atol=0.03)


def test_where_methods_break_and_fail(by_name: dict[tuple[str, str], Curve]) -> None:
    found = {method: (by_name["random", method].breaks, by_name["random", method].fails) for method in STEADY}
    assert found == {"raven": (None, None), "naive": (2, 2), "ensemble": (1, 1)}, "the first level, though it recovers"
    assert (by_name["copies", "ensemble"].breaks, by_name["copies", "raven"].breaks) == (2, None)
    assert by_name["random", "supervisor_ensemble"].fails is None


def test_levels_are_compared_by_seed_and_on_the_same_resamples(
    analysis: Analysis, by_name: dict[tuple[str, str], Curve]
) -> None:
    start, later = (analysis.cells[name, "ood"] for name in ("stress-pens", "stress-pens-random-1"))
    for row in ("raven", "majority_class"):
        paired = difference(later.samples[row], start.samples[row])
        assert paired is not None
        assert by_name["random", row].points[1].drop == estimate([paired])
    # its predictions are the same at all levels: on the same resamples, so is its score
    assert start.samples["majority_class"].replicates.std() > 0
    for point in by_name["random", "majority_class"].points:
        assert point.drop is not None
        assert (point.drop.mean, point.drop.half) == (0, 0)


def test_a_levels_score_is_for_each_seed_the_mean_over_who_is_corrupted_first(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "turns")
    stressed(store, "random", 0)
    for first, as_if in enumerate((1, 2, 3)):
        stressed(store, "random", 1, as_if, first=first)
    stressed(store, "random", 2, as_if=1, first=0)
    stressed(store, "random", 2, as_if=1, methods=("raven",), first=1)
    analysis = analysis_of(store)
    start, *turns = (
        analysis.cells[name, "ood"] for name in ("stress-pens", *(f"stress-pens-random-1-{i}" for i in "123"))
    )
    found = {curve.method: curve for curve in curves(analysis)}
    for row in (*STEADY, "supervisor_ensemble"):
        _, level, *_ = found[row].points
        values = np.mean([turn.samples[row].values for turn in turns], 0)
        drops, floors = (
            values - start.samples[row].values,
            [turn.samples["supervisor_ensemble"].values for turn in turns],
        )
        assert (level.level, level.score.mean) == (1, pytest.approx(values.mean()))
        assert level.score.seed_error == pytest.approx(values.std(ddof=1) / np.sqrt(5)), "the turns are one block"
        resampled = np.mean([turn.samples[row].mean_replicates for turn in turns], 0)
        assert level.score.example_error == pytest.approx(resampled.std(), rel=1e-4)
        assert level.drop is not None
        assert level.drop.mean == pytest.approx(drops.mean())
        assert level.drop.seed_error == pytest.approx(drops.std(ddof=1) / np.sqrt(5))
        if row != "supervisor_ensemble":
            assert level.gain is not None
            assert level.gain.mean == pytest.approx((values - np.mean(floors, 0)).mean())
    assert [point.level for point in found["raven"].points] == [0, 1, 2]
    assert [point.level for point in found["naive"].points] == [0, 1], "of level 2 one turn lacks"
    assert "each one and those that follow it, in turn" in render(store)


def test_levels_drawn_by_seed_give_way_to_those_in_turn(tmp_path: Path) -> None:
    """Both may lie in one folder, after a run with the code of now; they are never mixed."""
    store, alone = ResultStore(tmp_path / "both"), ResultStore(tmp_path / "new")
    for folder in (store, alone):
        for count in (0, 1):
            stressed(folder, "random", count, first=0 if count else None)
    stressed(store, "random", 1, as_if=3)
    stressed(store, "random", 2)
    analysis = analysis_of(store)
    found, new = ({curve.method: curve for curve in curves(a)} for a in (analysis, analysis_of(alone)))
    assert {row: curve.points for row, curve in found.items()} == {row: curve.points for row, curve in new.items()}
    assert [point.level for point in found["naive"].points] == [0, 1]
    assert not without_stress(analysis).cells, "what gave way is in no other table"
    assert [task["name"] for task in page_payload([store])["suites"][0]["tasks"]] == ["stress-pens"]


def test_other_tasks_in_the_folder_keep_their_tables(tmp_path: Path) -> None:
    plain, mixed = ResultStore(tmp_path / "plain"), ResultStore(tmp_path / "mixed")
    for store in (plain, mixed):
        fill(store, default_tasks()[:2], (*STEADY, "ground_truth"))
    stressed(mixed, "random", 0)
    stressed(mixed, "random", 1)
    alone, both = render(plain), render(mixed)
    assert both.startswith(alone[: alone.index("## Learned weights")])
    assert "## Stress" in both
    assert "stress" not in alone.lower()
    assert without_stress(analysis_of(plain)) is analysis_of(plain)


def test_level_0_alone_is_a_task_like_others(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "one")
    stressed(store, "random", 0)
    assert curves(analysis_of(store)) == []
    assert "## Methods" in render(store)
    assert "all OOD" in summary(store)


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "part")
    stressed(store, "random", 2)
    stressed(store, "random", 3, methods=("raven",))
    store.drop([key for key in store.load().records if key.task.endswith("3") and key.seed > 1])
    found = {curve.method: curve for curve in curves(analyse(store.load()))}
    assert [[point.level for point in found[row].points] for row in ("naive", "raven")] == [[2], [2, 3]]
    assert found["naive"].breaks is None, "without level 0 nothing is known of a break"
    assert found["naive"].fails == 2
    assert [point.drop for point in found["raven"].points] == [None, None]
    lines = {line.split("`")[1]: line for line in render(store).splitlines() if line.startswith("| `") and "±" in line}
    assert lines["naive"].split("|")[3].strip() == "not run"
    assert lines["raven"].split("|")[3].strip().endswith("†")


def test_the_html_page_has_curves_and_tables_of_the_tasks_as_they_are(
    made: Path, by_name: dict[tuple[str, str], Curve]
) -> None:
    (suite,) = page_payload([ResultStore(made / "stress")])["suites"]
    assert [task["name"] for task in suite["tasks"]] == ["stress-pens"]
    assert suite["views"]["ood||sound|own"]["tasks"] == 1
    drawn = {(curve["kind"], curve["method"]): curve for curve in suite["stress"]}
    assert drawn.keys() == by_name.keys()
    for key, curve in drawn.items():
        scores = [point.score for point in by_name[key].points]
        assert curve["levels"] == [point.level for point in by_name[key].points]
        assert curve["means"] == pytest.approx([100 * score.mean for score in scores], abs=1e-3)
        assert curve["halves"] == pytest.approx([100 * score.half for score in scores], abs=1e-3)
