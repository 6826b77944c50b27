"""What tasks are worth, as text: the numbers are those of the analysis, by another way."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.analysis.cells import CEILING, analysis_of
from benchmark.analysis.families import separable, task_reliability
from benchmark.reports.worth import worth
from benchmark.results.store import ResultStore
from support.markdown import mean, section, tables
from support.synthetic import METHODS, Task, default_tasks, fill, put

MORE = ("one", "two")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    """Five methods on the default tasks; on another one the student hardly gains from the truth."""
    store = ResultStore(tmp_path_factory.mktemp("worth") / "demo")
    fill(store, default_tasks(), (*METHODS, *MORE))
    fill(store, [flat := Task("flat", family="level")], ("naive", *MORE), conditions=("ood",))
    put(store, flat, "ground_truth", conditions=("ood",), accuracy=0.6)
    return store


def test_tables_say_what_the_analysis_does(store: ResultStore) -> None:
    text, analysis = worth(store), analysis_of(store)
    for condition, heading in (("ood", "## Out of distribution (OOD)"), ("ind", "## In distribution (InD)")):
        rows = tables(section(text, heading), by="task")[0]
        assert set(rows) == {cell.evaluation.task for cell in analysis.select(condition)}
        for cell in analysis.select(condition):
            row, own = rows[cell.evaluation.task], cell.samples
            floor, ceiling = own["supervisor_ensemble"].mean, own[CEILING].mean
            expected = {"floor": floor, "ceiling": ceiling, "gap": ceiling - floor}
            expected |= {
                "mean supervisor": own["mean_supervisor"].mean,
                "most frequent class": own["majority_class"].mean,
            }
            for name, value in expected.items():
                assert mean(row[name]) == pytest.approx(100 * value, abs=0.0501)
            known = task_reliability(analysis, cell)
            assert row["reliability"] == ("–" if np.isnan(known) else f"{known:.2f}")
            share = separable(analysis, cell)
            assert row["pairs told apart"] == ("–" if np.isnan(share) else f"{100 * share:.1f}")
            assert row["train / test"] == "400 / 150"


def test_families_are_compared_by_pgr(store: ResultStore) -> None:
    text, analysis = section(worth(store), "## How alike the families are"), analysis_of(store)
    names = ("digits", "posts", "solar")
    vectors = []
    for name in names:
        cells = [cell for cell in analysis.select("ood", broken=False) if cell.evaluation.family == name]
        pgr = [[cell.recovered(row).mean for row in ("ensemble", "naive", *MORE, "raven")] for cell in cells]  # type: ignore[union-attr]
        vectors.append(np.mean(pgr, axis=0))
    expected = np.corrcoef(vectors)
    (rows,) = tables(text, by="")
    np.testing.assert_allclose([[float(rows[a][b]) for b in names] for a in names], expected, atol=0.0051)
    assert f"families: {9 / (expected**2).sum():.2f} of 3**" in text
    assert "the vector of 5 methods'" in text
    assert "without level, of which no task is known to have one" in text


def test_without_methods_and_a_ceiling_little_is_said(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "few")
    fill(store, [Task("t")], ("naive",), seeds=range(1), conditions=("ood",))
    text = worth(store)
    row = tables(text, by="task")[0]["t"]
    assert (row["ceiling"], row["gap"], row["reliability"]) == ("not run", "–", "–")
    assert "families: – of 0**" in text
