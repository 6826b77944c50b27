"""Results of `--tune`: the numbers of default, tuned and oracle against the predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmark.analysis.cells import analysis_of
from benchmark.analysis.frame import load_results
from benchmark.core.names import GRID_SIZE
from benchmark.core.records import Record
from benchmark.core.scoring import score
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from support.markdown import mean, section, tables
from support.synthetic import TRIED, tuned

PICKS: dict[str, Callable[[Record, NDArray[Any]], int]] = {
    "default": lambda record, each: 0,
    "tuned": lambda record, each: int(record.diagnostics["chosen"]),  # type: ignore[arg-type]
    "oracle": lambda record, each: int(each.argmax()),
}


@pytest.fixture(scope="module")
def store(made: Path) -> ResultStore:
    return ResultStore(made / "default-tuned")


def scores(store: ResultStore, method: str, column: str) -> dict[tuple[str, int], float]:
    """By task and seed, the score of the trial that the column is about."""
    contents, found = store.load(), {}
    for key, record in contents.records.items():
        if key.method == method:
            evaluated = contents.evaluations[key.task, key.condition]
            truth, own = evaluated.seeds[key.seed], contents.predictions[key]
            each = score(evaluated.metric, own, truth.labels, truth.groups, 2).reshape(GRID_SIZE, -1).mean(1)
            found[key.task, key.seed] = float(each[PICKS[column](record, each)])
    return found


SOUND = ("solar", "pairs")


def over(values: dict[tuple[str, int], float]) -> float:
    """Over two families of means over their tasks, without the one that has a broken supervisor."""
    families: tuple[list[float], list[float]] = [], []
    for (task, _), value in values.items():
        if task in SOUND:
            families[task == "solar"].append(value)
    return float(np.mean([np.mean(own) for own in families]))


def test_the_table_says_what_the_predictions_say(store: ResultStore, page: str) -> None:
    (rows,) = tables(section(page, "## Equal tuning budget"))
    assert set(rows) == set(TRIED)
    for method, row in rows.items():
        means = {column: over(scores(store, method, column)) for column in PICKS}
        for column, expected in means.items():
            assert mean(row[column]) == pytest.approx(100 * expected, abs=0.051)
        records = [record for key, record in store.load().records.items() if key.method == method]
        chosen = over({(record.task, record.seed): float(record.diagnostics["chosen"] == 0) for record in records})
        assert float(row["default chosen"]) == pytest.approx(100 * chosen, abs=0.051)
        gain = 100 * (means["tuned"] - means["default"])
        assert mean(row["tuned, minus default"]) == pytest.approx(gain, abs=0.051)
        assert means["oracle"] >= max(means.values())


def test_trials_share_their_resamples(store: ResultStore) -> None:
    """So a gain is paired: that of a method whose trials are the same has no error."""
    for cell in analysis_of(store).cells.values():
        chosen, default = (cell.score("raven_no_easy", which) for which in ("chosen", "default"))  # type: ignore[arg-type]
        assert chosen is not None and default is not None  # noqa: PT018
        np.testing.assert_array_equal(chosen.replicates, default.replicates)


def test_readers_are_given_the_chosen_trial(store: ResultStore) -> None:
    frame = load_results(store.root)
    chosen = scores(store, "raven", "tuned")
    for row in frame[frame.method == "raven"].to_dict("records"):
        assert row["score"] == pytest.approx(chosen[row["task"], row["seed"]])
    by_accuracy = frame[frame.metric == "accuracy"]
    assert len(by_accuracy) == len(TRIED) * 3
    assert (by_accuracy.accuracy == by_accuracy.score).all()


def test_in_distribution_results_alone_have_a_table_too(tmp_path: Path) -> None:
    tuned(ResultStore(tmp_path / "demo-tuned"), ("ind",))
    page = render(ResultStore(tmp_path / "demo-tuned"))
    assert "Means over 2 InD tasks" in page
    assert "--conditions" not in page


def test_predictions_of_fewer_trials_do_not_fit(store: ResultStore) -> None:
    contents = ResultStore(store.root).load()
    key = next(key for key in contents.records if key.method == "raven")
    contents.predictions[key] = contents.predictions[key][:-1]
    assert contents.misfit(contents.records[key]) == (
        "predictions: found shape (7, 150) and n_test 150, expected (8, 150)"
    )
