"""Which methods saw more than soft labels, or trained for more steps: said once under the ranked table, if at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.analysis.cells import analysis_of
from benchmark.page.data import suite_payload
from benchmark.reports.extras import extras
from benchmark.reports.headline import both_conditions
from benchmark.reports.latex import headline_latex
from benchmark.reports.leaderboard import render, summary
from benchmark.reports.method_families import section, standings
from benchmark.results.store import ResultStore
from support.markdown import section as section_of
from support.synthetic import default_tasks, fill, put, tuned

SAID = (
    "More than soft labels: `sees` (the student's features and source scores on 2 of 5 tasks). "
    "More steps than `ensemble`: `d_s` (×3) and `naive` (×1.5)."
)
USES: dict[str, Any] = {"uses": ("features", "source_scores")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    """The made-up suite; 100 steps a head are usual."""
    store = ResultStore(tmp_path_factory.mktemp("extras") / "default")
    fill(store, default_tasks(), ("ground_truth", "random_supervision"))
    for place, task in enumerate(default_tasks()):
        for method, family in (("ensemble", "averaging"), ("raven", "learned weights"), ("short", "averaging")):
            put(store, task, method, family=family, cost=100 if method != "short" else 30)
        put(store, task, "d_s", family="label model", cost=300)
        put(store, task, "naive", family="label model", cost=150 * task.members)
        own = USES if place in (0, 3) else {"uses": ("features",)}  # solar, and a task with a broken supervisor
        put(store, task, "sees", family="label model", accuracy=0.85, **own)
    return store


def test_they_are_named_with_what_they_saw_and_how_many_steps(store: ResultStore) -> None:
    """A method of single supervisors has a head for each; fewer steps are no news, nor what canaries know."""
    analysis = analysis_of(store)
    assert extras(analysis, [*analysis.cells.values()]) == SAID
    few = [cell for cell in analysis.cells.values() if cell.evaluation.task == "digits"]
    assert "`sees` (the student's features)." in extras(analysis, few)
    for cells in ([], [analysis.cells["solar", "ood"]]):
        assert ("source scores." in extras(analysis, cells)) is False
        assert extras(analysis, cells).startswith("More than soft labels: ") is bool(cells)


def test_it_stands_under_the_ranked_table_in_every_form(store: ResultStore) -> None:
    analysis = analysis_of(store)
    said = extras(analysis, both_conditions(analysis))
    assert said == SAID.replace("2 of 5", "1 of 4"), "tasks with a broken supervisor are in no column"
    page = render(store)
    assert page.count(said) == 1
    methods = section_of(page, "## Methods")
    assert methods.index("Told apart") < methods.index(said) < methods.index("###")
    assert said.replace("`", "") in summary(store)
    notes = [line[2:] for line in headline_latex(analysis, "x").splitlines() if line.startswith("% ")]
    assert said.replace("`", "") in " ".join(notes)
    view = suite_payload(store)["views"]["ood||sound|own"]
    assert view["extras"] == said


def test_older_results_and_those_of_equals_have_no_trace(default: ResultStore, page: str, tmp_path: Path) -> None:
    """The made-up world names no families, as results from before there were any; there, some have more steps."""
    older = ResultStore(tmp_path / "older")
    equal = ResultStore(tmp_path / "equal")
    for task in default_tasks():
        put(older, task, "ensemble")
        put(older, task, "dear", cost=200)
        put(equal, task, "ensemble", family="averaging")
        put(equal, task, "naive", family="averaging", cost=100 * task.members)
    for store in (older, equal, default):
        analysis = analysis_of(store)
        assert extras(analysis, [*analysis.cells.values()]) == ""
        assert "More steps" not in render(store) + headline_latex(analysis, "x") + summary(store)
        assert "\n\n\n" not in render(store) + summary(store)
    assert "More than" not in page


def test_grids_are_not_compared_by_their_steps(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "default")
    for task in default_tasks():
        put(store, task, "ensemble", family="averaging", cost=50)
    tuned(store)
    analysis = analysis_of(store)
    assert "steps" not in extras(analysis, [*analysis.cells.values()])


def test_who_saw_more_stands_for_no_family(store: ResultStore) -> None:
    """It is the best of all; its scores in one condition, or on one task, with scores are enough."""
    analysis = analysis_of(store)
    means = {row: np.mean([cell.samples[row].mean for cell in analysis.cells.values()]) for row in analysis.methods}
    assert max(means, key=lambda row: means[row]) == "sees"
    found = {one.family: [*one.methods] for one in standings(analysis)}
    assert sorted(found["label model"]) == ["d_s", "naive"]
    assert "saw nothing but soft labels" in section(analysis)
