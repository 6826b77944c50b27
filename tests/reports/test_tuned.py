"""Results of `--tune`: what is refused and found in them, and the table of default, tuned and oracle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.synthetic import Task, entry, evaluation, fill
from test_leaderboard import section, table

from benchmark.analysis.cells import analyse, analysis_of
from benchmark.analysis.frame import load_results
from benchmark.core.names import GRID_SIZE
from benchmark.core.records import Evaluation, Record, digest, setting_hash
from benchmark.core.scoring import score
from benchmark.reports.checks import check, compare
from benchmark.reports.leaderboard import render, summary
from benchmark.reports.publish import publish, suites_beside
from benchmark.results.store import ResultStore
from benchmark.results.trials import trial_metrics

SEEDS = range(3)
TASKS = [Task("solar", "image", test=80), Task("tweets", "text", "accuracy", test=80, fingerprint="c3")]
# method -> accuracy of each trial; agreements of each trial, for seeds 0 and 1; seed 2 chooses the default
TRIED = {
    "raven": ([0.6, 0.6, 0.6, 0.9, 0.6, 0.6, 0.6, 0.6], [0.5, 0.5, 0.6, 0.8, 0.8, 0.5, 0.5, 0.5]),  # better, chosen
    "naive": ([0.8, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.95], [0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4]),  # worse, chosen
    "raven_no_easy": ([0.7] * 8, [0.5] * 8),
}


def tuned_entry(task: Task, evaluated: Evaluation, method: str, seed: int) -> tuple[Record, NDArray[Any]]:
    """A record of eight trials and their predictions."""
    accuracies, agreements = TRIED[method]
    if seed == 2:
        agreements = [0.9, *agreements[1:]] if max(agreements) < 0.9 else [0.9] * 8
    rows, rng = task.chosen(evaluated.condition, seed), np.random.default_rng([seed, len(method), len(task.name)])
    replicas = task.members if method == "naive" else 1
    predictions = np.concatenate([np.stack([task.answers(rows, a, rng) for _ in range(replicas)]) for a in accuracies])
    hyperparameters = {"trials": [{"student": {}, "method": {"option": number}} for number in range(GRID_SIZE)]}
    number = int(np.argmax(agreements))
    record, _ = entry(
        task,
        evaluated,
        method,
        seed,
        hyperparameters=hyperparameters,
        setting=setting_hash(hyperparameters),
        metrics=trial_metrics(evaluated, seed, predictions, number),
        diagnostics={"agreement": agreements, "chosen": number},
        predictions_sha256=digest(predictions),
    )
    return record, predictions


def fill_tuned(store: ResultStore, conditions: tuple[str, ...] = ("ood", "ind")) -> None:
    with store.lock():
        for task in TASKS:
            for condition in conditions:
                evaluated = evaluation(task, condition, SEEDS)
                entries = [tuned_entry(task, evaluated, method, seed) for method in TRIED for seed in SEEDS]
                store.write_unit(evaluated, entries)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`results` with a suite `demo` and the tuned results that belong to it."""
    root = tmp_path_factory.mktemp("made") / "results"
    fill(ResultStore(root / "demo"), TASKS, seeds=SEEDS)
    fill_tuned(ResultStore(root / "demo-tuned"))
    (root / "page.md").write_text(render(*map(ResultStore, suites_beside(root / "demo"))))
    return root


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results"))


def scores(contents: Any, method: str, pick: Callable[[Record, NDArray[Any]], int]) -> list[list[float]]:
    """(task, seed): scores of one picked trial, from the predictions."""
    found = []
    for task in TASKS:
        evaluated = contents.evaluations[task.name, "ood"]
        row = []
        for key, record in sorted(contents.records.items()):
            if (key.task, key.condition, key.method) == (task.name, "ood", method):
                truth, own = evaluated.seeds[key.seed], contents.predictions[key]
                each = score(task.metric, own, truth.labels, truth.groups, 2).reshape(GRID_SIZE, -1).mean(1)
                row.append(float(each[pick(record, each)]))
        found.append(row)
    return found


def test_the_frame_has_the_chosen_trials_accuracy(results: Path) -> None:
    frame = load_results(results / "demo-tuned")
    by_accuracy = frame[frame.metric == "accuracy"]
    assert len(by_accuracy) == 2 * len(TRIED) * len(SEEDS)
    assert (by_accuracy.accuracy == by_accuracy.score).all()


def test_the_table_says_what_the_predictions_say(results: Path) -> None:
    store = ResultStore(results / "demo-tuned")
    contents = store.load()
    rows = {row["name"].strip("`"): row for row in table(section(render(store), "## Equal tuning budget"))}
    assert set(rows) == set(TRIED)
    for method, row in rows.items():
        default = np.mean(scores(contents, method, lambda record, each: 0))
        tuned = np.mean(scores(contents, method, lambda record, each: int(record.diagnostics["chosen"])))  # type: ignore[arg-type]
        oracle = np.mean(scores(contents, method, lambda record, each: int(each.argmax())))
        for column, expected in (("default", default), ("tuned", tuned), ("oracle", oracle)):
            assert float(row[column].strip("*").split(" ±")[0]) == pytest.approx(100 * expected, abs=0.051)
        gain = row["tuned, minus default"].split(" ±")[0]
        assert float(gain) == pytest.approx(100 * (tuned - default), abs=0.051)
        assert oracle >= max(default, tuned)
    assert float(rows["raven"]["tuned, minus default"].split(" ±")[0]) > 10
    assert float(rows["naive"]["tuned, minus default"].split(" ±")[0]) < -10
    assert rows["raven_no_easy"]["tuned, minus default"] == "0.0 ± 0.0"
    assert [rows[m]["default chosen"] for m in ("raven", "naive", "raven_no_easy")] == ["33.3", "33.3", "100.0"]
    assert list(rows) == sorted(rows, key=lambda m: -float(rows[m]["tuned"].strip("*").split(" ±")[0]))
    assert "**" in rows["raven"]["tuned"]
    assert "*" not in rows["raven_no_easy"]["tuned"]


def test_differences_are_paired(results: Path) -> None:
    """The gain of a method whose trials are much the same has a smaller interval than its scores."""
    contents = ResultStore(results / "demo-tuned").load()
    tuned, default = (analyse(contents, which=which) for which in ("chosen", "default"))  # type: ignore[arg-type]
    for unit, cell in tuned.cells.items():
        one, other = cell.samples["mean_supervisor"], default.cells[unit].samples["mean_supervisor"]
        np.testing.assert_array_equal(one.replicates, other.replicates)


def test_tuned_results_are_a_section_of_their_suite_and_no_suite(results: Path) -> None:
    suites = suites_beside(results / "demo")
    page = render(*map(ResultStore, suites))
    assert page.count("## Equal tuning budget") == 1
    assert "# Suite" not in page
    assert page.index("## Methods") < page.index("## Equal tuning budget") < page.index("## How it was made")
    assert "w2s run --tune --suite demo --results results/demo-tuned" in page
    without = render(ResultStore(results / "demo"))
    assert "tuning budget" not in without
    assert section(page, "## Methods") == section(without, "## Methods")
    from_tuned = render(*map(ResultStore, suites_beside(results / "demo-tuned")))
    assert from_tuned == page


def test_tuned_results_without_their_suite_are_the_table_alone(results: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(results / "demo-tuned", runs / "demo-tuned")
    said: list[str] = []
    assert publish(runs / "demo-tuned", check=False, say=said.append) == 0
    page = (runs / "demo-tuned" / "LEADERBOARD.md").read_text()
    assert "## Equal tuning budget" in page
    assert "## Methods" not in page
    assert said[0] == summary(ResultStore(runs / "demo-tuned"))
    assert "default chosen" in said[0]
    assert publish(runs / "demo-tuned", check=True, say=said.append) == 0


def test_a_run_beside_its_tuned_results_has_them_on_its_page(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "runs")
    assert suites_beside(tmp_path / "runs" / "demo") == [tmp_path / "runs" / "demo", tmp_path / "runs" / "demo-tuned"]
    assert publish(tmp_path / "runs" / "demo", check=False, say=lambda line: None) == 0
    assert "## Equal tuning budget" in (tmp_path / "runs" / "demo" / "LEADERBOARD.md").read_text()


def test_in_distribution_results_alone_have_a_table_too(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo-tuned")
    fill_tuned(store, ("ind",))
    assert "Means over 2 InD tasks" in render(store)


def test_a_tuned_run_is_compared_by_what_was_chosen(results: Path) -> None:
    store = ResultStore(results / "demo-tuned")
    assert compare(store, store).differing == []
    chosen = analysis_of(store).cells["tweets", "ood"].samples["raven"].values
    np.testing.assert_allclose(
        chosen,
        scores(store.load(), "raven", lambda record, each: int(record.diagnostics["chosen"]))[1],  # type: ignore[arg-type]
    )


def edited(results: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record of raven on tweets/ood, seed 0, in its file."""
    path = results / "demo-tuned" / "raven" / "records.jsonl"
    lines = []
    for line in path.read_text().splitlines():
        values = json.loads(line)
        if (values["task"], values["condition"], values["seed"]) == ("tweets", "ood", 0):
            change(values)
        lines.append(json.dumps(values))
    path.write_text("\n".join(lines) + "\n")


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        *way, last = path
        for name in way:
            values = values[name]
        values[last] = value

    return change


def drop_a_trial(values: dict[str, Any]) -> None:
    values["hyperparameters"]["trials"].pop()
    values["setting"] = setting_hash(values["hyperparameters"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("diagnostics", "chosen", value=4.0), "diagnostics.chosen: found 4.0, but 3 is the first with the highest"),
        (put("diagnostics", "chosen", value=0.0), "diagnostics.chosen: found 0.0, but 3 is the first with the highest"),
        (put("diagnostics", "agreement", 6, value=0.95), "diagnostics.chosen: found 3.0, but 6 is the first with the"),
        (put("diagnostics", "agreement", 6, value=1.5), "diagnostics.agreement: found [0.5, 0.5, 0.6, 0.8, 0.8, 0.5,"),
        (put("diagnostics", "agreement", value=[0.5]), "diagnostics.agreement: found [0.5], expected 8 numbers"),
        (put("diagnostics", value={}), "diagnostics.agreement: found None, expected 8 numbers"),
        (put("metrics", "oracle_accuracy", value=0.99), "metrics.oracle_accuracy: found 0.99, its predictions give"),
        (put("metrics", "default_accuracy", value=0.01), "metrics.default_accuracy: found 0.01, its predictions give"),
        (put("metrics", "accuracy", value=0.99), "metrics.accuracy: found 0.99, its predictions give"),
        (lambda values: values["metrics"].pop("oracle_accuracy"), "metrics.oracle_accuracy: found nothing"),
        (drop_a_trial, "hyperparameters.trials: found 7, expected 8"),
    ],
)
def test_what_was_tampered_with_is_found(results: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    edited(results, change)
    findings = check(suites_beside(results / "demo"), results / "page.md")
    expected = f"demo-tuned/raven/records.jsonl: raven on tweets/ood, seed 0: {message}"
    assert any(expected in finding for finding in findings), findings
    assert "page.md: stale" in findings[-1]  # as its list of problems is another


def test_results_as_they_were_written_have_no_findings(results: Path) -> None:
    assert check(suites_beside(results / "demo"), results / "page.md") == []


def test_predictions_of_fewer_trials_do_not_fit(results: Path) -> None:
    store = ResultStore(results / "demo-tuned")
    contents = store.load()
    key = next(key for key in contents.records if key.method == "raven")
    contents.predictions[key] = contents.predictions[key][:-1]
    reason = contents.misfit(contents.records[key])
    assert reason is not None
    assert "found shape (7, 80) and n_test 80, expected (8, 80)" in reason
