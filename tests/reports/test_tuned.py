"""Results of `--tune`: the numbers of default, tuned, agreement and oracle against the predictions."""

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
from benchmark.reports.checks import agreement
from benchmark.reports.leaderboard import render, summary
from benchmark.results.store import ResultStore
from support.markdown import mean, section, tables
from support.synthetic import SHORT, TRIED, Task, default_tasks, tuned

PICKS: dict[str, Callable[[Record, NDArray[Any], int], int]] = {
    "default": lambda record, each, elsewhere: 0,
    "tuned": lambda record, each, elsewhere: elsewhere,
    "by agreement": lambda record, each, elsewhere: int(record.diagnostics["chosen"]),  # type: ignore[arg-type]
    "fewer epochs": lambda record, each, elsewhere: SHORT,
    "oracle": lambda record, each, elsewhere: int(each.argmax()),
}


@pytest.fixture(scope="module")
def store(made: Path) -> ResultStore:
    return ResultStore(made / "default-tuned")


def all_scores(store: ResultStore, method: str) -> dict[tuple[str, int], tuple[Record, NDArray[Any]]]:
    """By task and seed, the record and the scores of its eight trials."""
    contents, found = store.load(), {}
    for key, record in contents.records.items():
        if key.method == method:
            evaluated = contents.evaluations[key.task, key.condition]
            truth, own = evaluated.seeds[key.seed], contents.predictions[key]
            each = score(evaluated.metric, own, truth.labels, truth.groups, 2).reshape(GRID_SIZE, -1).mean(1)
            found[key.task, key.seed] = record, each
    return found


def best_elsewhere(store: ResultStore, method: str, task: str) -> int:
    """The other one of the two sound families is one task: the setting that is best there."""
    other = "pairs" if task == "solar" else "solar"
    own = [each for (where, _), (_, each) in all_scores(store, method).items() if where == other]
    return int(np.mean(own, axis=0).argmax())


def scores(store: ResultStore, method: str, column: str) -> dict[tuple[str, int], float]:
    """By task and seed, the score of the trial that the column is about."""
    return {
        (task, seed): float(each[PICKS[column](record, each, best_elsewhere(store, method, task))])
        for (task, seed), (record, each) in all_scores(store, method).items()
    }


SOUND = ("solar", "pairs")


def over(values: dict[tuple[str, int], float]) -> float:
    """Over two families of means over their tasks, without the one that has a broken supervisor."""
    families: tuple[list[float], list[float]] = [], []
    for (task, _), value in values.items():
        if task in SOUND:
            families[task == "solar"].append(value)
    return float(np.mean([np.mean(own) for own in families]))


def test_the_table_says_what_the_predictions_say(store: ResultStore, page: str) -> None:
    rows, choices = tables(section(page, "## Equal tuning budget"))
    assert set(rows) == set(choices) == set(TRIED)
    for method, row in rows.items():
        means = {column: over(scores(store, method, column)) for column in PICKS}
        for column, expected in means.items():
            assert mean(row[column]) == pytest.approx(100 * expected, abs=0.051)
        records = [record for key, record in store.load().records.items() if key.method == method]
        chosen = over({(record.task, record.seed): float(record.diagnostics["chosen"] == 0) for record in records})
        assert float(choices[method]["default chosen by agreement"]) == pytest.approx(100 * chosen, abs=0.051)
        for column in ("tuned", "by agreement", "fewer epochs"):
            gain = 100 * (means[column] - means["default"])
            assert mean(row[f"{column}, minus default"]) == pytest.approx(gain, abs=0.051)
        assert means["oracle"] >= max(means.values())


def test_it_says_which_setting_was_chosen_for_how_many_families(store: ResultStore, page: str) -> None:
    text = section(page, "## Equal tuning budget")
    _, choices = tables(text)
    assert choices["raven"]["tuned"] == "option=3: 2 of 2"
    assert choices["naive"]["tuned"] == "option=7: 2 of 2"
    assert "**Fewer epochs** is the default but for 9 epochs in place of 30" in text
    assert "Raven (setting chosen on other families)" in text
    assert analysis_of(store).transfer["raven", "solar"] == 3


def test_of_one_family_there_is_no_transfer_and_it_is_said(tmp_path: Path) -> None:
    alone = ResultStore(tmp_path / "demo-tuned")
    tuned(alone, tasks=default_tasks()[3:])
    page = render(alone)
    assert "These tasks are of one family: there is none." in " ".join(page.split())
    rows, choices = tables(section(page, "## Equal tuning budget"))
    assert {row["tuned"] for row in rows.values()} == {row["tuned"] for row in choices.values()} == {"–"}
    assert "not, as there is one family" in summary(alone)
    for cell in analysis_of(alone).cells.values():
        (shown, agreed) = (cell.score("raven", which) for which in (None, "agreement"))  # type: ignore[arg-type]
        assert shown is not None and agreed is not None  # noqa: PT018
        assert shown.values.tolist() == agreed.values.tolist()
        assert cell.score("raven", "transfer") is None


def test_a_familys_own_truth_chooses_nothing_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is best on one family alone is chosen for the others, never for it."""
    tasks = [Task(name) for name in ("one", "two", "three")]
    for number, task in enumerate(tasks):
        own = {"raven": [0.6, *(0.65 if at in (4, 6) else 0.6 for at in range(1, 8))]}
        if not number:
            own["raven"][4] = 0.99
        monkeypatch.setattr("support.synthetic.TRIED", {method: (a, [0.5] * 8) for method, a in own.items()})
        tuned(ResultStore(tmp_path), tasks=[task])
    transfer = analysis_of(ResultStore(tmp_path)).transfer
    assert transfer["raven", "two"] == transfer["raven", "three"] == 4
    others = [best_of(ResultStore(tmp_path), name) for name in ("two", "three")]
    assert transfer["raven", "one"] == int(np.mean(others, axis=0).argmax())


def best_of(store: ResultStore, task: str) -> NDArray[Any]:
    return np.mean([each for (where, _), (_, each) in all_scores(store, "raven").items() if where == task], axis=0)


def test_trials_share_their_resamples(store: ResultStore) -> None:
    """So a gain is paired: that of a method whose trials are the same has no error."""
    for cell in analysis_of(store).cells.values():
        agreed, default = (cell.score("raven_no_easy", which) for which in ("agreement", "default"))  # type: ignore[arg-type]
        assert agreed is not None and default is not None  # noqa: PT018
        np.testing.assert_array_equal(agreed.replicates, default.replicates)


def test_readers_are_given_the_setting_that_is_best_elsewhere(store: ResultStore) -> None:
    frame = load_results(store.root)
    chosen = scores(store, "raven", "tuned")
    for row in frame[frame.method == "raven"].to_dict("records"):
        assert row["score"] == pytest.approx(chosen[row["task"], row["seed"]])
    by_accuracy = frame[frame.metric == "accuracy"]
    assert len(by_accuracy) == len(TRIED) * 3
    assert (by_accuracy.accuracy == by_accuracy.score).all()


def test_a_part_agrees_with_the_whole_whatever_families_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the part agreement chooses the default, of the whole the other family a much better one."""
    monkeypatch.setattr("support.synthetic.TRIED", {"raven": ([*[0.6] * 7, 0.95], [0.9, *[0.1] * 7])})
    part, whole = ResultStore(tmp_path / "part"), ResultStore(tmp_path / "whole")
    tuned(part, tasks=default_tasks()[3:])
    tuned(whole)
    assert agreement(part, whole)[0].endswith("2 of 2 cells agree within their intervals")


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
