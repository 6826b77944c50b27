"""Of which examples the scores of a cell are: of the whole pool, or of its test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.analysis.cells import Cell, analyse, analysis_of
from benchmark.analysis.frame import tidy
from benchmark.core.names import TRAIN_TRUTH
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from support.synthetic import Task, fill, put

ROWS = ("naive", "ground_truth", "best_supervisor", "random_supervision", "supervisor_ensemble", "majority_class")


def cell_of(folder: Path, whole: bool, metric: str = "balanced_accuracy") -> Cell:
    store = ResultStore(folder)
    fill(store, [Task("a", metric=metric, whole=whole, test=400)], conditions=("ood",))
    return analysis_of(store).cells["a", "ood"]


def of(sample: object) -> np.ndarray:
    return sample.values  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_scores_are_of_the_whole_pool_but_for_rows_that_have_seen_the_truth(tmp_path: Path, metric: str) -> None:
    cell = cell_of(tmp_path, True, metric)
    for row, by_seed in cell.records.items():
        assert of(cell.score(row)).tolist() == [record.metrics[metric] for record in by_seed.values()]
        assert of(cell.on_test(row)).tolist() == [record.metrics[f"test_{metric}"] for record in by_seed.values()]
    for row in ROWS:
        same = (of(cell.score(row)) == of(cell.on_test(row))).all()
        assert same == (row in TRAIN_TRUTH), row
        for sample in (cell.score(row), cell.on_test(row), cell.accuracy(row)):
            assert sample is not None
            error = sample.replicates.std(1)
            assert (np.abs(sample.replicates.mean(1) - sample.values) < 0.2 * error + 1e-6).all()


def test_whatever_is_compared_with_such_a_row_is_scored_where_it_is(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, True)
    """And so is what is compared with the supervisors; methods are compared on the whole pool."""
    whole, test = ({row: of(get(row)) for row in ROWS} for get in (cell.score, cell.on_test))
    assert of(cell.gain("naive", "random_supervision")) == pytest.approx(whole["naive"] - whole["random_supervision"])
    gap = (test["ground_truth"] - test["supervisor_ensemble"]).mean()
    assert of(cell.gap()).mean() == pytest.approx(gap)
    for row in ROWS:
        gain = test[row] - test["supervisor_ensemble"]
        assert of(cell.gain(row, "naive" if row == "supervisor_ensemble" else "supervisor_ensemble")) == pytest.approx(
            test[row] - test["naive"] if row == "supervisor_ensemble" else gain
        )
        assert of(cell.recovered(row)).mean() == pytest.approx(gain.mean() / gap)
        assert of(cell.failed(row)).tolist() == (gain < 0).tolist()
    assert of(cell.recovered("ground_truth")).mean() == pytest.approx(1)
    compared = cell.gain("naive", "ground_truth")
    assert compared is not None
    assert compared.values == pytest.approx(test["naive"] - test["ground_truth"])
    both = [cell.on_test(row).replicates for row in ("naive", "ground_truth")]  # type: ignore[union-attr]
    np.testing.assert_array_equal(compared.replicates, both[0] - both[1])


def test_fewer_examples_tell_less(tmp_path: Path) -> None:
    """A fifth of the pool is tested: errors are about the root of 5 times as large."""
    cell = cell_of(tmp_path, True)
    whole, test = (get("naive").mean_replicates.std() for get in (cell.score, cell.on_test))  # type: ignore[union-attr]
    assert 1.6 < test / whole < 3


def test_older_results_have_the_test_split_alone(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, False)
    assert not cell.evaluation.whole
    assert cell.test == {"accuracy": cell.accuracies, "balanced_accuracy": cell.samples}
    assert all(
        "test_accuracy" not in record.metrics for by_seed in cell.records.values() for record in by_seed.values()
    )


def test_tables_say_what_is_scored(tmp_path: Path) -> None:
    for whole in (True, False):
        store = ResultStore(tmp_path / str(whole))
        fill(store, [Task("a", whole=whole)], conditions=("ood",))
        page, frame = render(store), tidy(analysis_of(store)).set_index(["method", "seed"])
        assert ("The whole pool is scored" in page) == ("test split alone, all OOD" in page) == whole
        assert (frame.score["ground_truth"] == frame.test_score["ground_truth"]).all()
        assert (frame.score["naive"] == frame.test_score["naive"]).all() == (not whole)
        assert (frame.gap["naive"] == frame.test_score["ground_truth"] - frame.floor["naive"]).all() == (not whole)


def test_a_run_of_the_whole_pool_replaces_what_was_of_the_test_split(tmp_path: Path) -> None:
    """Never are both in one cell: what is not run again is said to be of no use."""
    store, conditions = ResultStore(tmp_path), {"conditions": ("ood",)}
    fill(store, [Task("a")], ("naive", "raven"), seeds=range(2), **conditions)  # type: ignore[arg-type]
    put(store, Task("a", whole=True), "naive", range(1), **conditions)  # type: ignore[arg-type]
    found = ResultStore(tmp_path).load()
    assert found.evaluations["a", "ood"].whole
    assert [key.seed for key, record in found.records.items() if found.misfit(record) is None] == [0]
    analysis = analyse(found)
    assert [(record.method, record.seed) for record in analysis.records] == [("naive", 0)]
    assert len(analysis.problems) == 3
