"""Stress curves from results in which each method's true accuracy at each level is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import synthetic
from support.synthetic import Ints, Task, default_tasks, entry, evaluation, fill

from benchmark.analysis.cells import Analysis, analyse
from benchmark.analysis.statistics import difference, estimate
from benchmark.core.corruption import Corruption, base_tags
from benchmark.page.data import page_payload
from benchmark.reports.comparison import compare_rows
from benchmark.reports.leaderboard import render, summary
from benchmark.reports.stress import Curve, curves, without_stress
from benchmark.results.store import ResultStore

SEEDS = range(5)
# method -> its accuracy at levels 0, 1, 2, 3; the mean supervisor's is .65 at all
STEADY = {"raven": (0.8, 0.8, 0.8, 0.8), "naive": (0.75, 0.75, 0.5, 0.35), "ensemble": (0.8, 0.55, 0.85, 0.7)}


@dataclass
class Level(Task):
    """A made-up task on the examples of another one, with its own supervisors."""

    base: str = ""

    def __post_init__(self) -> None:
        own, self.name = self.name, self.base
        super().__post_init__()
        self.name = own

    def chosen(self, condition: str, seed: int) -> Ints:
        return Task(self.base, pool=self.pool, test=self.test).chosen(condition, seed)


def level(base: str, corruption: Corruption | None, modality: str = "text") -> Level:
    name = f"stress-{base}" + ("" if corruption is None else f"-{corruption.kind}-{corruption.count}")
    tags = base_tags(base) if corruption is None else corruption.tags
    fingerprint = "e5" if corruption is None else corruption.fingerprint("e5")
    return Level(name, modality, "accuracy", tags=tags, base=base, fingerprint=fingerprint, pool=3000, test=1000)


def write(store: ResultStore, task: Level, count: int, patch: pytest.MonkeyPatch) -> None:
    for method, accuracies in STEADY.items():
        patch.setitem(synthetic.METHODS, method, (accuracies[count], *synthetic.METHODS[method][1:]))
    evaluated = evaluation(task, "ood", SEEDS)
    methods = (*STEADY, "ground_truth")
    store.write_unit(evaluated, [entry(task, evaluated, method, seed) for method in methods for seed in SEEDS])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    store = ResultStore(tmp_path_factory.mktemp("made") / "stress")
    with pytest.MonkeyPatch.context() as patch, store.lock():
        write(store, level("pens", None), 0, patch)
        for count in (1, 2, 3):
            write(store, level("pens", Corruption("random", count, "pens")), count, patch)
        write(store, level("pens", Corruption("copies", 2, "pens")), 1, patch)
    return store


@pytest.fixture(scope="module")
def analysis(store: ResultStore) -> Analysis:
    return analyse(store.load())


@pytest.fixture(scope="module")
def by_name(analysis: Analysis) -> dict[tuple[str, str], Curve]:
    return {(curve.kind, curve.method): curve for curve in curves(analysis)}


def test_a_curve_holds_the_scores_of_its_levels(analysis: Analysis, by_name: dict[tuple[str, str], Curve]) -> None:
    for (kind, method), curve in by_name.items():
        assert (curve.base, curve.condition, curve.supervisors) == ("pens", "ood", 3)
        assert curve.levels == ((0, 1, 2, 3) if kind == "random" else (0, 2))
        for count, mean, half in zip(curve.levels, curve.means, curve.halves, strict=True):
            name = f"stress-pens-{kind}-{count}" if count else "stress-pens"
            expected = estimate([analysis.cells[name, "ood"].samples[method]])
            assert (mean, half) == (expected.mean, expected.half)
    assert {kind for kind, _ in by_name} == {"random", "copies"}
    assert {method for _, method in by_name} >= {*STEADY, "ground_truth", "mean_supervisor"}
    assert np.allclose(by_name["random", "naive"].means, STEADY["naive"], atol=0.03)


def test_where_methods_break_and_fail(by_name: dict[tuple[str, str], Curve]) -> None:
    found = {method: (by_name["random", method].breaks, by_name["random", method].fails) for method in STEADY}
    assert found == {"raven": (None, None), "naive": (2, 2), "ensemble": (1, 1)}, "the first level, though it recovers"
    assert (by_name["copies", "ensemble"].breaks, by_name["copies", "raven"].breaks) == (2, None)
    assert by_name["random", "mean_supervisor"].fails is None


def test_levels_are_compared_by_seed_and_on_the_same_resamples(
    analysis: Analysis, by_name: dict[tuple[str, str], Curve]
) -> None:
    start, later = (analysis.cells[name, "ood"] for name in ("stress-pens", "stress-pens-random-1"))
    for row in ("raven", "majority_class"):
        paired = difference(later.samples[row], start.samples[row])
        assert paired is not None
        assert by_name["random", row].drops[1] == estimate([paired])
    # its predictions are the same at all levels: on the same resamples, so is its score
    assert start.samples["majority_class"].replicates.std() > 0
    for drop in by_name["random", "majority_class"].drops:
        assert drop is not None
        assert (drop.mean, drop.half) == (0, 0)


def test_a_comparison_has_no_mean_over_levels(store: ResultStore) -> None:
    shown = compare_rows(store, "raven", "naive")
    assert "stress-pens-random-1" in shown
    assert "mean over tasks" not in shown
    assert "all (" not in shown


def test_the_page_shows_curves_and_no_mean_over_levels(store: ResultStore) -> None:
    page = render(store)
    assert render(ResultStore(store.root)) == page
    headings = re.findall(r"^##+ .*$", page, re.M)
    assert headings[:3] == [
        "## Stress: supervisors made worse",
        "### Which methods break, and when",
        "### pens, OOD",
    ]
    assert "all OOD" not in page
    assert "## Who is best where" not in page
    breaking = page.partition("### Which methods break")[2].partition("###")[0]
    cells = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in breaking.splitlines()
        if line.startswith("| `")
    }
    assert list(cells) == ["`ensemble`", "`naive`", "`raven`"]
    assert cells["`naive`"] == ["2 / 2", "– / –"]
    assert cells["`ensemble`"] == ["1 / 1", "2 / 2"]
    assert "| `mean_supervisor` (floor) " in page
    random = page.partition("**random**, ")[2].partition("**copies**")[0]
    line = next(line for line in random.splitlines() if line.startswith("| `naive`"))
    assert ["↓" in cell for cell in line.split("|")[2:-1]] == [False, False, True, True]
    assert "Level 0 is the task as it is" in page
    assert "adversarial" not in page.partition("## Learned weights")[0], "only what was run is explained"


def test_the_terminal_shows_which_methods_break(store: ResultStore) -> None:
    shown = summary(store)
    assert re.search(r"^naive +2 / 2 +– / –$", shown, re.M)
    assert "all OOD" not in shown


def test_other_tasks_in_the_folder_keep_their_tables(store: ResultStore, tmp_path: Path) -> None:
    plain, mixed = ResultStore(tmp_path / "plain"), ResultStore(tmp_path / "mixed")
    methods = ("naive", "ensemble", "raven", "ground_truth")
    fill(plain, default_tasks(), methods)
    fill(mixed, default_tasks(), methods)
    with pytest.MonkeyPatch.context() as patch, mixed.lock():
        write(mixed, level("pens", None), 0, patch)
        write(mixed, level("pens", Corruption("random", 1, "pens")), 1, patch)
    alone, both = render(plain), render(mixed)
    tables = alone[: alone.index("## Learned weights")]
    assert both.startswith(tables)
    assert "## Stress" in both
    assert "stress" not in alone.lower()
    analysis = analyse(plain.load(), resamples=2)
    assert without_stress(analysis) is analysis


def test_level_0_alone_is_a_task_like_others(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch, store.lock():
        write(store, level("pens", None), 0, patch)
    assert curves(analyse(store.load(), resamples=2)) == []
    assert "## Methods" in render(store)
    assert "all OOD" in summary(store)


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "part")
    with pytest.MonkeyPatch.context() as patch, store.lock():
        write(store, level("pens", Corruption("random", 2, "pens")), 2, patch)
        third = level("pens", Corruption("random", 3, "pens"))
        evaluated = evaluation(third, "ood", SEEDS)
        store.write_unit(evaluated, [entry(third, evaluated, "raven", seed) for seed in (0, 1)])
    found = {curve.method: curve for curve in curves(analyse(store.load(), resamples=50))}
    assert (found["naive"].levels, found["raven"].levels) == ((2,), (2, 3))
    assert found["naive"].breaks is None, "without level 0 nothing is known of a break"
    assert found["naive"].fails == 2
    assert found["raven"].drops == (None, None)
    page = render(store)
    line = next(line for line in page.splitlines() if line.startswith("| `naive`") and "±" in line)
    assert line.split("|")[3].strip() == "not run"
    assert "†" in next(line for line in page.splitlines() if line.startswith("| `raven`") and "±" in line)


def test_the_page_has_curves_and_tables_of_the_uncorrupted_tasks_alone(
    store: ResultStore, by_name: dict[tuple[str, str], Curve]
) -> None:
    (suite,) = page_payload([store])["suites"]
    assert [task["name"] for task in suite["tasks"]] == ["stress-pens"]
    assert suite["views"]["ood||all|own"]["tasks"] == 1
    drawn = {(curve["kind"], curve["method"]): curve for curve in suite["stress"]}
    assert drawn.keys() == by_name.keys()
    for key, curve in drawn.items():
        assert curve["levels"] == list(by_name[key].levels)
        assert curve["means"] == pytest.approx([100 * mean for mean in by_name[key].means], abs=1e-3)
        assert curve["halves"] == pytest.approx([100 * half for half in by_name[key].halves], abs=1e-3)
