import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file
from scipy.stats import spearmanr
from support.synthetic import METHODS, Task, default_tasks, entry, evaluation, fill

from benchmark.analysis.cells import allowed_errors, analyse, chance_deviation
from benchmark.analysis.format import number, percent, told
from benchmark.analysis.ranking import ranks
from benchmark.analysis.statistics import Estimate, estimate
from benchmark.base.errors import W2SError
from benchmark.base.text import escape, listing
from benchmark.core.metrics import METRICS
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.core.records import digest
from benchmark.core.scoring import compute_metrics, score
from benchmark.core.suite import load_suite
from benchmark.reports.checks import canary_findings, check, compare
from benchmark.reports.leaderboard import render, summary
from benchmark.reports.publish import publish
from benchmark.results.store import ResultStore

SEEDS = range(3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "demo"
    fill(ResultStore(root), default_tasks())
    return root


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return render(ResultStore(made))


@pytest.fixture
def store(made: Path, tmp_path: Path) -> ResultStore:
    return ResultStore(shutil.copytree(made, tmp_path / "demo"))


def section(page: str, title: str) -> str:
    """The text under a heading, down to the next of the same level."""
    level = title.split()[0]
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^{level} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section '{title}'"
    return found.group(1)


def table(text: str) -> list[dict[str, str]]:
    """Rows of the first Markdown table in the text."""
    lines = [line for line in text[text.index("|") :].split("\n\n")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(row) for row in cells}) == 1, "rows of different length"
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def by_name(rows: list[dict[str, str]], key: str = "name") -> dict[str, dict[str, str]]:
    return {re.findall("`(.*?)`", row[key])[0]: row for row in rows}


def tables(text: str) -> list[list[dict[str, str]]]:
    """All Markdown tables in the text."""
    return [table(part) for part in text.split("\n\n") if part.lstrip().startswith("|")]


def headline(page: str) -> dict[str, dict[str, str]]:
    """By row, what the score table and the comparison table say."""
    methods, compared, canaries, canaries_compared = map(by_name, tables(section(page, "## Methods")))
    scores, comparisons = methods | canaries, compared | canaries_compared
    return {row: scores[row] | comparisons[row] for row in scores}


def mean(cell: str) -> float:
    return float(cell.strip("*").split()[0])


def loop_scores(store: ResultStore, condition: str) -> dict[str, dict[str, list[float]]]:
    """row -> task -> score of each seed, by plain loops over the files' contents."""
    contents = store.load()
    found: dict[str, dict[str, list[float]]] = {}
    for key in sorted(contents.records):
        if key.condition != condition:
            continue
        evaluated = contents.evaluations[key.task, condition]
        truth = evaluated.seeds[key.seed]
        groups = truth.groups
        scores = score(evaluated.metric, contents.predictions[key], truth.labels, groups, evaluated.num_classes)
        found.setdefault(key.method, {}).setdefault(key.task, []).append(float(scores.mean()))
        if key.method == "naive":
            floor = score(evaluated.metric, truth.supervisors, truth.labels, groups, evaluated.num_classes).mean()
            found.setdefault("mean_supervisor", {}).setdefault(key.task, []).append(float(floor))
    return found


def test_shares_have_no_interval_that_says_nothing() -> None:
    def of(mean: float, error: float, tasks: int = 3) -> Estimate:
        return Estimate(mean, error, 0.0, seeds=5, tasks=tasks, runs=5 * tasks)

    assert re.fullmatch(r"66\.7 ± \d\d\.\d", percent(told(of(2 / 3, 0.1))))
    assert percent(told(of(2 / 3, 0.5))) == "66.7", "it would hold every share"
    assert percent(told(of(1.0, 0.1))).startswith("100.0 ± ")
    assert percent(told(of(2 / 3, 0.1, tasks=1))) == "66.7"
    assert percent(told(of(2 / 3, 0.5)), of_tasks=4) == "66.7 (3/4)"


# --- what the tables say ---------------------------------------------------------------------------------------------


def test_the_headline_is_what_loops_over_the_results_give(store: ResultStore, page: str) -> None:
    rows, ood, ind = headline(page), loop_scores(store, "ood"), loop_scores(store, "ind")
    modality = {task.name: task.modality for task in default_tasks()}
    for row in (*METHODS, "mean_supervisor"):
        means = {task: np.mean(values) for task, values in ood[row].items()}
        plain = {task: value for task, value in means.items() if task != "tweets-broken"}
        expected = {f"{m} OOD": np.mean([v for t, v in plain.items() if modality[t] == m]) for m in modality.values()}
        expected["broken supervisor OOD"] = means["tweets-broken"]
        expected["all OOD"] = np.mean(list(means.values()))
        expected["all InD"] = np.mean([np.mean(values) for values in ind[row].values()])
        floors, ceilings = ood["mean_supervisor"], ood["ground_truth"]
        gaps = [(means[t] - np.mean(floors[t])) / (np.mean(ceilings[t]) - np.mean(floors[t])) for t in means]
        expected["PGR OOD (5/5 tasks)"] = np.mean(gaps)
        expected["failure rate OOD"] = np.mean([np.array(ood[row][t]) < floors[t] for t in means])
        expected["OOD minus InD"] = expected["all OOD"] - expected["all InD"]
        for over in {"ensemble", "raven"} - {row}:
            pairs = [zip(ood[row][t], ood[over][t], strict=True) for t in means]
            won = [[float(a > b) + (a == b) / 2 for a, b in pair] for pair in pairs]
            expected[f"P(> {over})"] = np.mean(won)
        if row != "mean_supervisor":
            stored = [
                r.metrics["accuracy"]
                for k, r in store.load().records.items()
                if (k.method, k.condition) == (row, "ood")
            ]
            expected["accuracy, all OOD"] = np.mean(stored)
        if row != "ensemble":
            base = np.mean([np.mean(values) for values in ood["ensemble"].values()])
            expected["all OOD, minus ensemble"] = expected["all OOD"] - base
        for column, value in expected.items():
            assert mean(rows[row][column]) == pytest.approx(100 * value, abs=0.0501), (row, column)
    assert rows["ensemble"]["all OOD, minus ensemble"] == rows["ensemble"]["P(> ensemble)"] == "–"
    assert rows["raven"]["P(> raven)"] == "–"
    assert rows["ground_truth"]["PGR OOD (5/5 tasks)"] == "100.0 ± 0.0"
    assert rows["mean_supervisor"]["PGR OOD (5/5 tasks)"] == "0.0 ± 0.0"


def test_a_half_width_is_the_two_parts_together(store: ResultStore, page: str) -> None:
    analysis = analyse(store.load())
    sample = analysis.cells["solar", "ood"].samples["raven"]
    t_part = 4.302653 * np.std(sample.values, ddof=1) / np.sqrt(3)
    expected = 100 * np.hypot(t_part, 1.959964 * np.std(sample.replicates.mean(0)))
    shown = by_name(table(section(page, "### image, out of distribution (OOD)")), "method")["raven"]["solar"]
    assert float(shown.strip("*").split("± ")[1]) == pytest.approx(expected, abs=0.0501)


def test_methods_are_sorted_by_mean_and_the_best_is_bold(page: str) -> None:
    rows = table(section(page, "## Methods"))
    means = [mean(row["all OOD"]) for row in rows]
    assert means == sorted(means, reverse=True)
    assert next(row["name"] for row in rows) == "`raven`"
    assert rows[0]["all OOD"].startswith("**")
    assert [row["method"] for row in rows if "ablation" in row["method"]] == ["Raven No Easy *(ablation)*"]
    whole = headline(page)
    for column in ("image OOD", "text OOD", "preference OOD", "all OOD", "all InD", "failure rate OOD"):
        competing = {
            row["name"]: whole[row["name"].strip("`")][column] for row in rows if "ablation" not in row["method"]
        }
        best = (min if "failure" in column else max)(mean(cell) for cell in competing.values())
        assert all(cell.startswith("**") == (mean(cell) == best) for cell in competing.values())
        assert not whole["raven_no_easy"][column].startswith("*")


def test_canaries_and_references_stand_apart(page: str) -> None:
    methods = by_name(table(section(page, "## Methods")))
    assert set(methods) == {"naive", "ensemble", "raven", "raven_no_easy"}
    for apart in tables(section(section(page, "## Methods"), "### Canaries and reference rows")):
        assert [row["name"].strip("`") for row in apart] == [*CANARIES, *REFERENCES]
        assert not any(cell.startswith("**") for row in apart for cell in row.values())


def test_ranks_stand_first_and_only_where_methods_compete(store: ResultStore, page: str) -> None:
    analysis = analyse(store.load())
    rows = table(section(page, "## Methods"))
    assert list(rows[0])[:3] == ["rank", "method", "name"]
    expected = ranks(analysis, analysis.select("ood"))
    assert {row["name"].strip("`"): row["rank"] for row in rows} == {
        "raven": "1",
        "raven_no_easy": "–",
        "ensemble": str(expected["ensemble"]),
        "naive": str(expected["naive"]),
    }
    for condition, title in (("ood", "out of distribution (OOD)"), ("ind", "in distribution (InD)")):
        expected = ranks(analysis, analysis.select(condition, "image"))
        shown = by_name(table(section(page, f"### image, {title}")), "method")
        assert {name: row["rank"] for name, row in shown.items()} == {
            name: str(place or "–") for name, place in expected.items()
        }


def test_costs_are_relative_to_naive_on_what_both_ran(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "dear", (0.7, "ensemble", None))
    task = default_tasks()[0]
    evaluated = evaluation(task, "ood", range(2))
    store.write_unit(evaluated, [entry(task, evaluated, "dear", seed, cost=250 + 100 * seed) for seed in range(2)])
    rows = headline(render(store))
    assert (rows["dear"]["cost"], rows["naive"]["cost"], rows["mean_supervisor"]["cost"]) == ("3.00", "1.00", "–")


def test_rows_are_compared_in_distribution_where_no_task_is_shifted(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    fill(store, default_tasks()[:2], conditions=("ind",))
    row = headline(render(store))["raven"]
    assert row["rank"] == "1"
    assert row["all InD, minus ensemble"].startswith("+")
    assert {"failure rate InD", "PGR InD (2/2 tasks)", "accuracy, all InD"} <= set(row)
    assert "OOD minus InD" not in row


def test_accuracy_has_a_column_only_where_a_task_is_scored_otherwise(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    fill(store, [Task("t", metric="accuracy")], ("naive", "ensemble"))
    assert "accuracy, all OOD" not in headline(render(store))["naive"]


def test_every_task_has_its_cell(store: ResultStore, page: str) -> None:
    for condition, title in (("ood", "out of distribution (OOD)"), ("ind", "in distribution (InD)")):
        scores = loop_scores(store, condition)
        for modality in ("image", "text", "preference"):
            rows = by_name(table(section(page, f"### {modality}, {title}")), "method")
            assert len(rows) == 10
            for row in (*METHODS, "mean_supervisor"):
                for task in default_tasks():
                    if task.modality == modality:
                        assert mean(rows[row][task.name]) == pytest.approx(
                            100 * np.mean(scores[row][task.name]), abs=0.0501
                        )
    assert "`mean_supervisor` (floor)" in page
    assert "`ground_truth` (ceiling)" in page
    assert "Metric: accuracy (digits); balanced accuracy (solar)." in page


def test_who_wins_is_said_from_the_data(store: ResultStore, page: str) -> None:
    for condition, title in (
        ("ood", "### Out of distribution (OOD), 5 tasks"),
        ("ind", "### In distribution (InD), 5 tasks"),
    ):
        text, scores = section(page, title), loop_scores(store, condition)
        competing = ("naive", "ensemble", "raven")
        best = {t: max(competing, key=lambda row: np.mean(scores[row][t])) for t in scores["naive"]}
        for row in competing:
            won = sorted(task for task, winner in best.items() if winner == row)
            if won:
                assert f"- `{row}` is best on {len(won)}: {listing(won)}." in text
        behind = sorted(t for t in best if np.mean(scores["raven"][t]) < np.mean(scores["ensemble"][t]))
        assert f"`raven` is behind `ensemble` on {len(behind)} of 5 tasks" in text
        assert re.findall(r"([\w-]+) \([+-]", text) == behind


def test_weights_against_supervisors(store: ResultStore, page: str) -> None:
    contents = store.load()
    rows = table(section(page, "## Learned weights against the supervisors' scores"))
    assert {row["method"] for row in rows} == {"`raven`"}  # ablations left out
    assert len(rows) == 11
    for row in rows[:-1]:
        where = (row["task"], {"OOD": "ood", "InD": "ind"}[row["condition"]])
        evaluated = contents.evaluations[where]
        found, top = [], []
        for key, record in contents.records.items():
            if (key.task, key.condition) == where and key.method == "raven":
                truth = evaluated.seeds[key.seed]
                scores = score(evaluated.metric, truth.supervisors, truth.labels, truth.groups, evaluated.num_classes)
                found.append(spearmanr(record.diagnostics["weights"], scores).statistic)
                top.append(record.diagnostics["weights"][scores.argmax()])
        assert float(row["rank correlation"]) == pytest.approx(np.mean(found), abs=0.0051)
        assert float(row["on the best"]) == pytest.approx(np.mean(top), abs=0.0051)
    shown = [float(row["rank correlation"]) for row in rows[:-1]]
    assert float(rows[-1]["rank correlation"]) == pytest.approx(np.mean(shown), abs=0.011)


def test_uniform_weights_have_no_correlation(tmp_path: Path) -> None:
    store, task = ResultStore(tmp_path / "demo"), Task("t")
    evaluated = evaluation(task, "ood", SEEDS)
    odd = {"weights": [[0.1, 0.9], [0.5]]}
    entries = [entry(task, evaluated, "raven", s, diagnostics={"weights": [1 / 3] * 3}) for s in SEEDS]
    entries += [entry(task, evaluated, "other", s, diagnostics=odd) for s in SEEDS]
    store.write_unit(evaluated, entries)
    (row,) = table(section(render(store), "## Learned weights against the supervisors' scores"))
    assert (row["method"], row["rank correlation"], row["uniform"], row["on the best"]) == (
        "`raven`",
        "–",
        "0.33",
        "0.33",
    )


def test_how_it_was_made(page: str) -> None:
    text = section(page, "## How it was made")
    assert "210 records: 10 tasks × conditions, 7 methods and canaries, seeds 0, 1 and 2" in text
    for line in ("commit: c0ffee", "device: cpu", "libraries: numpy 2.0", "engine version: 1", "method versions: 1"):
        assert f"- {line}\n" in text
    assert "w2s run --suite demo --results results/demo" in text
    assert "Problems" not in page


def test_pgr_is_shown_for_the_tasks_where_it_is_defined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "ground_truth", (0.9, "canary", None))
    store = ResultStore(tmp_path / "demo")
    fill(store, default_tasks()[:2])
    flat = Task("flat", "text")
    monkeypatch.setitem(METHODS, "ground_truth", (0.55, "canary", None))
    fill(store, [flat])
    page = render(store)
    assert "PGR OOD (2/3 tasks)" in page
    assert "The gap between floor and ceiling is too small for PGR on flat." in page
    assert "(2/" not in headline(page)["raven"]["PGR OOD (2/3 tasks)"]


def test_the_terminal_shows_the_same_numbers(store: ResultStore, page: str) -> None:
    text = summary(store)
    for name, row in headline(page).items():
        scores, comparisons = [
            re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line.startswith(f"{name} ")
        ]
        assert scores[0] == comparisons[0] == name
        values = [cell.strip("*") for column, cell in row.items() if column not in ("method", "name")]
        assert [*scores[1:], *comparisons[1:]] == values


def test_tasks_with_the_same_data_share_their_resamples(store: ResultStore) -> None:
    contents = store.load()
    twin = contents.evaluations["tweets", "ood"].model_copy(update={"task": "twin", "data_fingerprint": "zz"})
    others = {seed: replace(truth, groups=truth.groups + 1) for seed, truth in twin.seeds.items()}
    stranger = twin.model_copy(update={"task": "stranger", "seeds": others})
    for each in (twin, stranger):
        contents.evaluations[each.task, "ood"] = each
    cells = analyse(contents, 50).cells
    base = cells["tweets", "ood"].samples["mean_supervisor"].replicates
    np.testing.assert_array_equal(cells["twin", "ood"].samples["mean_supervisor"].replicates, base)
    assert not np.array_equal(cells["stranger", "ood"].samples["mean_supervisor"].replicates, base)


# --- what is not there is not a zero ---------------------------------------------------------------------------------


def test_a_mean_over_fewer_tasks_is_marked_last_and_never_best(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "lucky", (0.95, "ensemble", None))
    easy = default_tasks()[0]
    for condition in ("ood", "ind"):
        evaluated = evaluation(easy, condition, SEEDS)
        store.write_unit(evaluated, [entry(easy, evaluated, "lucky", seed) for seed in SEEDS])
    page = render(store)
    rows = table(section(page, "## Methods"))
    assert rows[-1]["name"] == "`lucky`"
    assert rows[-1]["all OOD"].endswith("(1/5)")
    assert mean(rows[-1]["all OOD"]) > 90
    assert rows[-1]["image OOD"].endswith("(1/2)")
    assert rows[-1]["text OOD"] == "not run"
    assert rows[-1]["rank"] == "–"
    assert headline(page)["lucky"]["PGR OOD (5/5 tasks)"].endswith("(1/5)")
    assert headline(page)["lucky"]["OOD minus InD"].endswith("(1/5)")
    assert "**" not in "".join(rows[-1].values())
    assert by_name(table(section(page, "### text, in distribution (InD)")), "method")["lucky"]["tweets"] == "not run"
    assert "`lucky` is best on 1: solar." in page  # there it ran all seeds


def test_fewer_seeds_are_marked(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "hasty", (0.95, "ensemble", None))
    for task in default_tasks():
        evaluated = evaluation(task, "ood", range(2))
        store.write_unit(evaluated, [entry(task, evaluated, "hasty", seed) for seed in range(2)])
    page = render(store)
    rows = table(section(page, "## Methods"))
    assert rows[-1]["name"] == "`hasty`"
    assert rows[-1]["all OOD"].endswith(" †")
    assert rows[-1]["rank"] == "–"
    assert by_name(table(section(page, "### image, out of distribution (OOD)")), "method")["hasty"]["solar"].endswith(
        " †"
    )
    assert "`hasty` is best" not in page


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    fill(store, default_tasks(), seeds=range(1))
    assert "±" not in section(render(store), "## Tasks: image")
    assert compare(store, store).agree == 10 * len(METHODS)


def test_without_baseline_ceiling_or_canaries(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    fill(store, [Task("t")], ("naive",), conditions=("ind",))
    page = render(store)
    assert "| all InD" in page
    assert "OOD, minus" not in page
    assert check([store.root], write(store, page)) == []
    fill(store, [Task("t")], ("naive",), conditions=("ood",))
    row = headline(render(ResultStore(store.root)))["naive"]
    assert row["all OOD, minus ensemble"] == "–"
    assert not any("PGR" in column for column in row)


def test_a_modality_of_its_own_and_worst_groups(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "arrays-mine")
    task = Task("mine", "arrays", "worst_group_accuracy")
    task.groups = task.groups % 4
    fill(store, [task], conditions=("ood",))
    page = render(store)
    rows = headline(page)
    assert list(rows["raven"])[3:5] == ["arrays OOD", "all OOD"]
    assert mean(rows["raven"]["arrays OOD"]) < 100 * np.mean(list(accuracies(store, "raven")))
    assert "w2s run --arrays FILE" in page
    assert check([store.root], write(store, page)) == []


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_recomputed_from_the_results_alone(metric: str, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    task = Task("made-up", "text", metric)
    # Users with several reviews each; regions, or which of the first three identities are mentioned.
    task.groups = task.groups % (20 if METRICS[metric].resampled == "groups" else 6)
    fill(store, [task], conditions=("ood",))
    page = render(ResultStore(store.root))
    assert f"Metric: {metric.replace('_', ' ')} (made-up)" in page
    (cell,) = analyse(store.load()).cells.values()
    stored = [r.metrics[metric] for key, r in store.load().records.items() if key.method == "raven"]
    assert cell.samples["raven"].mean == pytest.approx(np.mean(stored))
    assert estimate([cell.samples["raven"]]).example_half > 0
    assert check([store.root], write(store, page)) == []


class Guessing(Task):
    def answers(self, rows: np.ndarray, accuracy: float, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(self.num_classes, size=len(rows))


@pytest.mark.parametrize("metric", METRICS)
def test_a_floor_at_chance_is_said_where_chance_is_1_in_k(metric: str, tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    task = Guessing("guessed", "text", metric)
    if METRICS[metric].resampled != "groups":
        task.groups = task.groups % 2 + 1
    fill(store, [task], conditions=("ood",))
    said = "not above chance (1/K) by more than its interval on guessed" in render(store)
    assert said == METRICS[metric].uniform_chance


def accuracies(store: ResultStore, method: str) -> list[float]:
    return [record.metrics["accuracy"] for key, record in store.load().records.items() if key.method == method]


def test_no_results_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(W2SError, match="nowhere: no results there; make some with `w2s run"):
        render(ResultStore(tmp_path / "nowhere"))


# --- what does not fit is listed -------------------------------------------------------------------------------------


def rewrite(store: ResultStore, method: str, line: int, change: dict[str, Any]) -> None:
    path = store.root / method / "records.jsonl"
    lines = path.read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **change}, sort_keys=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"task_version": 2}, "task_version: found 2, but _tasks/digits-ind.safetensors has 1"),
        ({"data_fingerprint": "x"}, "data_fingerprint: found x"),
        ({"n_test": 3}, "n_test 3"),
        ({"seed": 9}, "seed: _tasks/digits-ind.safetensors has no seed 9"),
        ({"seed": -9}, "naive/records.jsonl:1: seed: "),
    ],
)
def test_a_result_that_does_not_fit_is_a_problem(store: ResultStore, change: dict[str, Any], problem: str) -> None:
    rewrite(store, "naive", 0, change)
    page = render(ResultStore(store.root))
    assert escape(problem) in section(page, "## Problems")
    cells = by_name(table(section(page, "### image, in distribution (InD)")), "method")
    assert cells["naive"]["digits"].endswith(" †")


def test_results_of_older_versions_are_left_out(store: ResultStore) -> None:
    for line in range(27):
        rewrite(store, "naive", line, {"method_version": 2})
    rewrite(store, "raven", 0, {"engine_version": 2})
    problems = analyse(ResultStore(store.root).load()).problems
    assert sum("method_version: found 1, others are of 2" in problem for problem in problems) == 0  # older engine first
    assert sum("engine_version: found 1, others here are of 2; run it again" in problem for problem in problems) == 209
    rewrite(store, "raven", 0, {"engine_version": 1})
    problems = analyse(ResultStore(store.root).load()).problems
    reason = "method_version: found 1, others are of 2; run it again"
    assert problems == [f"naive/records.jsonl: naive on tweets-broken/ood, seed {seed}: {reason}" for seed in SEEDS]


def test_of_several_settings_one_is_used_and_the_others_named(store: ResultStore) -> None:
    task = default_tasks()[0]
    evaluated = evaluation(task, "ood", SEEDS)
    record, predictions = entry(task, evaluated, "raven", 0, hyperparameters={"tuned": True})
    store.write_unit(evaluated, [(record, predictions)])
    analysis = analyse(store.load())
    assert len(analysis.cells["solar", "ood"].records["raven"]) == 3
    (problem,) = analysis.problems
    assert problem.startswith("raven/records.jsonl: raven on solar/ood: several settings; the tables use ")
    assert problem.endswith(f"not {record.setting}")


def test_hostile_names_stay_text(store: ResultStore) -> None:
    hostile = "<script>alert(1)</script> | **x** `y` [z](http://a) \n## Heading $m$ & \\|"
    task = default_tasks()[0]
    for condition in ("ood", "ind"):
        evaluated = evaluation(task, condition, SEEDS)
        evaluated = evaluated.model_copy(update={"target": hostile, "supervisors": (hostile,) * 3})
        changes = {"title": hostile, "device": hostile, "commit": hostile, "libraries": {hostile: hostile}}
        store.write_unit(evaluated, [entry(task, evaluated, "evil", seed, **changes) for seed in SEEDS])
    path = store.root / "naive" / "records.jsonl"
    path.write_text(path.read_text() + json.dumps({hostile: 1}) + "\n")
    page = render(ResultStore(store.root))
    assert "<script" not in page
    assert "\n## Heading" not in page
    assert "**x**" not in page
    assert not re.search(r"(?<!\\)\]\(http", page)
    rows = table(section(page, "## Methods"))
    assert rows[-1]["method"].startswith(
        r"&lt;script&gt;alert(1)&lt;/script&gt; \| \*\*x\*\* \`y\` \[z\](http://a) ## Heading"
    )
    assert r"\$m\$ &amp; \\\|" in rows[-1]["method"]
    assert len(by_name(rows)) == 5
    assert "evil" in summary(ResultStore(store.root))


def test_numbers_and_lists_in_words() -> None:
    assert [number(x) for x in (0.5, 0.1234, -0.00001, 0.99999, -0.0)] == ["50.0", "12.3", "0.0", "100.0", "0.0"]
    assert [number(x, sign=True) for x in (0.01, -0.01, 0.0)] == ["+1.0", "-1.0", "0.0"]
    assert number(0.7125 + 1e-15) == number(0.7125) == number(0.7125 - 1e-15)
    assert [listing(items) for items in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
    ]


# --- the same bytes, and what --check finds --------------------------------------------------------------------------


def write(store: ResultStore, page: str) -> Path:
    path = store.root.parent / "LEADERBOARD.md"
    path.write_text(page)
    return path


def test_published_suites_share_a_page(tmp_path: Path) -> None:
    """`default` first; each with its own tables; a page without one of them is stale, and faults are found in all."""
    results = tmp_path / "results"
    for name in ("language-model", "default"):
        fill(ResultStore(results / name), default_tasks(), seeds=range(2))
    said: list[str] = []
    assert publish(results / "default", check=False, say=said.append) == 0
    path = tmp_path / "LEADERBOARD.md"
    page = path.read_text()
    assert page.startswith("# Leaderboard")
    head, below = page.split("# Suite `language-model`")
    assert head.count("## Methods") == below.count("## Methods") == 1
    assert load_suite("language-model").description in below
    assert "w2s run --suite language-model --results results/language-model" in below
    for name in ("language-model", "default"):
        assert publish(results / name, check=True, say=said.append) == 0
        assert publish(results / name, check=False, say=said.append) == 0
        assert path.read_text() == page
    path.write_text(head)
    assert publish(results / "default", check=True, say=said.append) == 1
    path.write_text(page)
    (results / "language-model" / "naive" / "predictions.safetensors").unlink()
    assert publish(results / "default", check=True, say=said.append) == 1
    assert any("language-model/naive" in line for line in said)


def test_students_that_are_language_models_are_described(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    fill(store, default_tasks(), seeds=range(2))
    assert "- students:" not in render(store)
    chosen = {"model_description": "A model, dequantised", "objective": "policy", "lora_blocks": 2, "lora_rank": 8}
    task = default_tasks()[0]
    evaluated = store.load().evaluations[task.name, "ood"]
    made = entry(task, evaluated, "other", 0, hyperparameters={"student": chosen, "method": {}})
    store.write_unit(evaluated, [made])
    page = render(ResultStore(store.root))
    assert "- students: A model, dequantised, as policy, LoRA of rank 8 on the last 2 blocks" in page


def test_identical_bytes_on_regeneration(store: ResultStore, page: str, tmp_path: Path) -> None:
    assert render(ResultStore(store.root)) == page
    other = ResultStore(tmp_path / "other" / "demo")
    fill(other, list(reversed(default_tasks())), tuple(reversed(METHODS)))
    assert render(ResultStore(other.root)) == page
    assert render(other) == page  # from memory, as after a run


def test_writing_makes_the_tables_anew(store: ResultStore, page: str) -> None:
    assert render(store) == page
    task = default_tasks()[0]
    evaluated = evaluation(task, "ood", SEEDS)
    store.write_unit(evaluated, [entry(task, evaluated, "naive", 0, commit="f00d")])
    assert "f00d" in render(store)


def test_check_is_content_with_what_is_right(store: ResultStore, page: str) -> None:
    assert check([store.root], write(store, page)) == []


def test_an_edited_table_is_noticed(store: ResultStore, page: str) -> None:
    line = next(i for i, text in enumerate(page.splitlines(), 1) if "`raven`" in text)
    edited = page.replace("`raven`       ", "`raven`      x", 1)
    assert edited != page
    findings = check([store.root], write(store, edited))
    assert findings == [
        f"{store.root.parent}/LEADERBOARD.md: stale: line {line} is not what {store.root} gives; "
        f"run `w2s leaderboard --results {store.root}`"
    ]
    for other in (page + "\n", page[:-1], page.replace("\n", "\r\n"), ""):
        path = write(store, page)
        path.write_bytes(other.encode())
        assert len(check([store.root], path)) == 1
    path.unlink()
    assert "LEADERBOARD.md: missing; run `w2s leaderboard" in check([store.root], path)[0]


@pytest.mark.parametrize("by", [0.1, 1e-8])
def test_an_edited_metric_is_noticed(store: ResultStore, page: str, by: float) -> None:
    record = json.loads((store.root / "raven" / "records.jsonl").read_text().splitlines()[4])
    metrics = {**record["metrics"], "accuracy": record["metrics"]["accuracy"] - by}
    rewrite(store, "raven", 4, {"metrics": metrics})
    findings = check([store.root], write(store, page))
    where = f"raven on {record['task']}/{record['condition']}, seed {record['seed']}"
    assert findings[0].startswith(f"{store.root}/raven/records.jsonl: {where}: metrics.accuracy: found ")
    assert "its predictions give" in findings[0]
    rewrite(store, "raven", 4, {"metrics": {**record["metrics"], "f1": 0.5}})
    assert "metrics.f1: found 0.5, its predictions give nothing" in check([store.root], write(store, page))[0]


def test_a_rounding_difference_is_none(store: ResultStore, page: str) -> None:
    record = json.loads((store.root / "raven" / "records.jsonl").read_text().splitlines()[4])
    rewrite(store, "raven", 4, {"metrics": {name: value - 1e-12 for name, value in record["metrics"].items()}})
    assert check([store.root], write(store, page)) == []


def test_one_edited_prediction_is_noticed_even_when_no_score_changes(store: ResultStore, page: str) -> None:
    path = store.root / "raven" / "predictions.safetensors"
    arrays = load_file(path)
    name = next(name for name in arrays if name.startswith("digits/ood"))
    labels = store.load().evaluations["digits", "ood"].seeds[int(name.rpartition("/")[2])].labels
    wrong = int(np.flatnonzero(arrays[name][0] != labels)[0])
    arrays[name][0, wrong] = next(c for c in range(10) if c not in (labels[wrong], arrays[name][0, wrong]))
    save_file(arrays, path)
    findings = check([store.root], write(store, page))
    assert "predictions_sha256: the predictions are not those that the record was written with" in findings[0]
    assert "stale" in findings[-1]


def test_an_edited_label_is_noticed(store: ResultStore, page: str) -> None:
    path = store.root / "_tasks" / "solar-ood.safetensors"
    with safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    arrays["0/labels"][0] = 1 - arrays["0/labels"][0]
    path.write_bytes(save(arrays, metadata))
    findings = check([store.root], write(store, page))
    assert sum("solar/ood, seed 0: evaluation_sha256: the truth" in finding for finding in findings) >= len(METHODS)


def test_results_keep_the_evaluation_that_they_were_scored_against(store: ResultStore) -> None:
    """A method run where supervisors came out otherwise must not move the other methods' floor."""
    evaluated = store.load().evaluations["solar", "ood"]
    truth = evaluated.seeds[0]
    other = evaluated.model_copy(
        update={"seeds": {0: replace(truth, supervisors=(truth.supervisors + 1) % evaluated.num_classes)}}
    )
    before = (store.root / "_tasks" / "solar-ood.safetensors").read_bytes()
    with store.lock(), pytest.raises(W2SError, match=r"solar \(ood\): the supervisors' predictions differ .* --force"):
        store.write_unit(other, [])
    assert (store.root / "_tasks" / "solar-ood.safetensors").read_bytes() == before


def test_missing_files_are_findings(store: ResultStore, page: str) -> None:
    (store.root / "raven" / "predictions.safetensors").unlink()
    (store.root / "_tasks" / "pairs-ood.safetensors").unlink()
    findings = check([store.root], write(store, page))
    assert sum("its predictions are missing from raven/predictions.safetensors" in f for f in findings) == 27
    assert sum("_tasks/pairs-ood.safetensors is missing" in f for f in findings) == 3 * len(METHODS)


def test_an_invalid_line_is_a_finding(store: ResultStore, page: str) -> None:
    rewrite(store, "naive", 2, {"cost": "cheap"})
    findings = check([store.root], write(store, page))
    assert findings[0].startswith(f"{store.root}/naive/records.jsonl:3: cost: ")


def test_a_half_written_method_still_gives_tables(store: ResultStore) -> None:
    """Predictions without records, as a kill leaves them."""
    (store.root / "raven" / "records.jsonl").unlink()
    page = render(ResultStore(store.root))
    assert "`raven`" not in page
    assert "`raven_no_easy`" in page


# --- canaries --------------------------------------------------------------------------------------------------------


def test_chance_does_not_depend_on_the_classes_shares(tmp_path: Path) -> None:
    """Random predictions on a pool where 90% are of one class are right 1 time in K, not 9 times in 10."""
    store = ResultStore(tmp_path / "demo")
    tasks = []
    for i, (classes, metric) in enumerate([(2, "accuracy"), (10, "accuracy"), (2, "balanced_accuracy")] * 2):
        task = Task(f"t{i}", "text", metric, classes)
        task.labels = np.where(np.random.default_rng(i).random(task.pool) < 0.9, 0, task.labels)
        tasks.append(task)
    fill_random(store, tasks)
    deviation = chance_deviation(analyse(store.load()))
    assert deviation is not None
    assert deviation.runs == 6 * 2 * 3
    assert abs(deviation.mean) < 3 * deviation.standard_error
    assert canary_findings(store) == []


def test_accuracy_stands_in_for_a_metric_without_a_chance_level(tmp_path: Path) -> None:
    """Uniform guesses have a macro-F1 far below 1/K where one class is frequent."""
    store = ResultStore(tmp_path / "demo")
    tasks = [Task(f"t{i}", "text", "macro_f1", 10) for i in range(4)]
    for task in tasks:
        task.labels = np.where(task.ease < 1.3, 0, task.labels)
    fill_random(store, tasks)
    deviation = chance_deviation(analyse(store.load()))
    assert deviation is not None
    assert deviation.mean == pytest.approx(np.mean(list(accuracies(store, "random_supervision"))) - 0.1)
    assert canary_findings(store) == []


def fill_random(store: ResultStore, tasks: list[Task], bonus: float = 0.0) -> None:
    """`random_supervision` with uniform predictions, of which a share is replaced by the truth."""
    with store.lock():
        for task in tasks:
            for condition in ("ood", "ind"):
                evaluated = evaluation(task, condition, SEEDS)
                entries = []
                for seed in SEEDS:
                    rng = np.random.default_rng([seed, *task.name.encode(), condition == "ood"])
                    labels = evaluated.seeds[seed].labels
                    guesses = rng.integers(task.num_classes, size=(1, task.test))
                    guesses = np.where(rng.random(task.test) < bonus, labels, guesses)
                    changes = {
                        "metrics": compute_metrics(evaluated, seed, guesses),
                        "predictions_sha256": digest(guesses),
                    }
                    entries.append((entry(task, evaluated, "random_supervision", seed, **changes)[0], guesses))
                store.write_unit(evaluated, entries)


def test_a_leak_into_random_supervision_is_found(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    fill_random(store, [Task(f"t{i}") for i in range(6)], bonus=0.1)
    (finding,) = canary_findings(store)
    assert finding.startswith("canary: random_supervision is +")
    assert "the truth leaks" in finding
    assert finding in check([store.root], write(store, render(store)))


def test_false_alarms_are_rare_also_with_few_runs() -> None:
    """Under chance the rule fires in about 0.27% of cases for any number of runs; three standard errors would not."""
    rng = np.random.default_rng(0)
    for runs in (3, 6, 130):
        draws = rng.normal(0, 0.05, (20_000, runs))
        ratio = np.abs(draws.mean(1)) / (draws.std(1, ddof=1) / np.sqrt(runs))
        assert np.mean(ratio > allowed_errors(runs)) == pytest.approx(0.0027, abs=0.0015)


def test_a_task_and_its_broken_variant_count_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    task = Task("tweets")
    fill_random(store, [task])
    alone = chance_deviation(analyse(store.load()))
    twin = replace(task, tags=("broken",))
    twin.name = "tweets-broken"
    for condition in ("ood", "ind"):
        evaluated = evaluation(task, condition, SEEDS).model_copy(update={"task": twin.name, "tags": ("broken",)})
        contents = store.load()
        entries = []
        for key, record in list(contents.records.items()):
            if key.condition == condition and key.task == "tweets":
                entries.append((record.model_copy(update={"task": twin.name}), contents.predictions[key]))
        store.write_unit(evaluated, entries)
    both = chance_deviation(analyse(store.load()))
    assert alone is not None
    assert alone.runs == 6
    assert both == alone


# --- comparing two results -------------------------------------------------------------------------------------------


def test_the_same_results_agree_everywhere(store: ResultStore, made: Path) -> None:
    found = compare(store, ResultStore(made))
    assert (found.agree, found.total, found.differing) == (70, 70, [])
    assert (found.only_first, found.only_second) == (0, 0)


def test_a_difference_beyond_the_intervals_is_named(
    store: ResultStore, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "raven", (0.98, "ensemble", None))
    fill(store, default_tasks()[:1], ("raven",), conditions=("ood",))
    found = compare(store, ResultStore(made))
    assert (found.agree, found.total) == (69, 70)
    assert re.fullmatch(r"raven on solar/ood: \d\d\.\d and \d\d\.\d, allowed difference \d+\.\d", found.differing[0])


def test_only_what_both_have_is_compared(made: Path, tmp_path: Path) -> None:
    part = ResultStore(tmp_path / "demo")
    fill(part, default_tasks()[:1], ("raven", "new"), conditions=("ood",))
    found = compare(part, ResultStore(made))
    assert (found.agree, found.total, found.only_first, found.only_second) == (1, 1, 1, 69)
