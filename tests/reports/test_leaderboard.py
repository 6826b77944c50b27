"""LEADERBOARD.md: the whole page as it is, and the numbers on it against loops over the results."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmark.analysis.cells import analyse
from benchmark.analysis.format import number, percent, without_empty_interval
from benchmark.analysis.statistics import Estimate, estimate
from benchmark.base.errors import W2SError
from benchmark.base.text import listing
from benchmark.core.metrics import METRICS
from benchmark.core.names import REFERENCES
from benchmark.core.scoring import score
from benchmark.reports.checks import check
from benchmark.reports.leaderboard import render, summary
from benchmark.reports.publish import check_published, publish, suites_beside
from benchmark.results.layout import MANIFEST
from benchmark.results.manifest import manifest_of
from benchmark.results.seconds import MethodSeconds
from benchmark.results.store import ResultStore
from support.markdown import mean, section, tables
from support.snapshots import Snapshots
from support.synthetic import METHODS, Guessing, Task, default_tasks, entry, evaluation, fill, put

TITLES = {"ood": "out of distribution (OOD)", "ind": "in distribution (InD)"}


def test_the_page_is_as_it_was(page: str, snapshot: Snapshots) -> None:
    """Several suites; ablations; ties; ranks; bold; partial runs, which are last and never best; titles that look like
    markup; what was not run; how it was made."""
    snapshot("LEADERBOARD.md", page)


def test_the_terminal_shows_the_headline(made: Path, snapshot: Snapshots, tmp_path: Path) -> None:
    """Of each suite, and of small ones: in distribution only; accuracy only; one seed; one method alone; arrays."""
    shown = {name: summary(ResultStore(made / name)) for name in ("default", "default-tuned", "odd", "stress")}
    stores = {name: ResultStore(tmp_path / name) for name in ("ind", "accuracy", "one-seed", "alone")}
    fill(stores["ind"], default_tasks()[:2], conditions=("ind",))
    fill(stores["accuracy"], [Task("t", metric="accuracy")], ("naive", "ensemble"))
    fill(stores["one-seed"], default_tasks()[:2], ("naive", "raven", "ground_truth"), seeds=range(1))
    fill(stores["alone"], [Task("t")], ("naive",), conditions=("ood",))
    shown |= {name: summary(store) for name, store in stores.items()}
    snapshot("summaries.txt", "\n\n".join(f"===== {name}\n\n{text}" for name, text in shown.items()) + "\n")


# --- numbers ---------------------------------------------------------------------------------------------------------


def loop_scores(store: ResultStore, condition: str) -> dict[str, dict[str, list[float]]]:
    """row -> task -> score of each seed, by plain loops over the files' contents."""
    contents = store.load()
    found: dict[str, dict[str, list[float]]] = {}
    for key in sorted(contents.records):
        if key.condition != condition:
            continue
        evaluated = contents.evaluations[key.task, condition]
        truth = evaluated.seeds[key.seed]
        rows = {key.method: contents.predictions[key]}
        if key.method == "naive":
            rows |= {"mean_supervisor": truth.supervisors, "supervisor_ensemble": truth.ensemble[None]}
        for row, predictions in rows.items():
            scores = score(evaluated.metric, predictions, truth.labels, truth.groups, evaluated.num_classes)
            found.setdefault(row, {}).setdefault(key.task, []).append(float(scores.mean()))
    return found


def test_the_tables_are_what_loops_over_the_results_give(default: ResultStore, page: str) -> None:
    methods, gains, compared, canaries, canaries_gains, canaries_compared = tables(section(page, "## Methods"))
    (broken,) = tables(section(page, "## Broken supervisors"))
    rows = {
        row: broken[row] | cells | (gains | canaries_gains)[row] | (compared | canaries_compared)[row]
        for row, cells in (methods | canaries).items()
    }
    ood, ind = loop_scores(default, "ood"), loop_scores(default, "ind")
    modality = {task.name: task.modality for task in default_tasks()}
    family = {task.name: task.family or task.name for task in default_tasks()}

    def over(values: dict[str, float]) -> float:
        """Over families of means over their tasks."""
        names = {family[task] for task in values}
        return float(np.mean([np.mean([v for t, v in values.items() if family[t] == name]) for name in names]))

    for row in (*METHODS, "mean_supervisor", "supervisor_ensemble"):
        every = {task: np.mean(values) for task, values in ood[row].items()}
        means = {task: value for task, value in every.items() if task != "tweets-broken"}
        expected = {f"{m} OOD": np.mean([v for t, v in means.items() if modality[t] == m]) for m in modality.values()}
        expected["broken supervisor OOD"] = expected["tweets"] = every["tweets-broken"]
        expected["all OOD"], expected["all OOD (plain mean)"] = over(means), np.mean(list(means.values()))
        expected["all InD"] = over({task: np.mean(values) for task, values in ind[row].items() if task in means})
        ceilings = ood["ground_truth"]
        for pgr, below, floor in (
            ("PGR OOD (4/4 tasks)", "failure rate OOD", "supervisor_ensemble"),
            ("PGR from the mean supervisor OOD (4/4 tasks)", "below the mean supervisor OOD", "mean_supervisor"),
        ):
            floors = ood[floor]
            gaps = {t: (every[t] - np.mean(floors[t])) / (np.mean(ceilings[t]) - np.mean(floors[t])) for t in every}
            failed = {t: float(np.mean(np.array(ood[row][t]) < floors[t])) for t in every}
            expected[pgr], expected[below] = over({t: gaps[t] for t in means}), over({t: failed[t] for t in means})
            if floor == "supervisor_ensemble":
                expected["PGR"], expected["failure rate"] = gaps["tweets-broken"], failed["tweets-broken"]
        expected["OOD minus InD"] = expected["all OOD"] - expected["all InD"]
        for other in {"ensemble", "raven"} - {row}:
            pairs = {t: zip(ood[row][t], ood[other][t], strict=True) for t in means}
            won = {t: np.mean([float(a > b) + (a == b) / 2 for a, b in pair]) for t, pair in pairs.items()}
            expected[f"P(> {other})"] = over(won)
        if row in METHODS:
            records = default.load().records.items()
            stored = {t: [r.metrics["accuracy"] for k, r in records if k[:3] == (t, "ood", row)] for t in means}
            expected["accuracy, all OOD"] = over({t: np.mean(values) for t, values in stored.items() if t in means})
        if row != "ensemble":
            gain = {t: every[t] - np.mean(ood["ensemble"][t]) for t in every}
            expected["all OOD, minus ensemble"] = over({t: gain[t] for t in means})
            expected["minus ensemble"] = gain["tweets-broken"]
            expected["sd between tasks"] = np.std([gain[t] for t in means], ddof=1)
            for name in {*family.values()}:
                expected[name] = np.mean([value for t, value in gain.items() if t in means and family[t] == name])
            half = 4.302653 * np.std([expected[name] for name in {*family.values()}], ddof=1) / 3**0.5
            assert rows[row]["families as random"] == percent_of(half), row
        for column, value in expected.items():
            assert mean(rows[row][column]) == pytest.approx(100 * value, abs=0.0501), (row, column)
        for condition, scores in (("ood", ood), ("ind", ind)):
            for task in default_tasks():
                (cells,) = tables(section(page, f"### {task.modality}, {TITLES[condition]}"))
                shown = mean(cells[row][task.name])
                assert shown == pytest.approx(100 * np.mean(scores[row][task.name]), abs=0.0501)


def percent_of(half: float) -> str:
    return f"± {number(half)}"


def test_a_half_width_is_the_two_parts_together(default: ResultStore, page: str) -> None:
    sample = analyse(default.load()).cells["solar", "ood"].samples["raven"]
    t_part = 4.302653 * np.std(sample.values, ddof=1) / np.sqrt(3)
    expected = 100 * np.hypot(t_part, 1.959964 * np.std(sample.replicates.mean(0)))
    (cells,) = tables(section(page, "### image, out of distribution (OOD)"))
    assert float(cells["raven"]["solar"].strip("*").split("± ")[1]) == pytest.approx(expected, abs=0.0501)


def test_weights_against_supervisors(default: ResultStore, page: str) -> None:
    contents = default.load()
    lines = section(page, "## Learned weights against the supervisors' scores").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    assert {row[0] for row in rows} == {"`raven`"}, "ablations are left out"
    for _, task, condition, correlation, _, best, _ in rows[:-1]:
        evaluated = contents.evaluations[task, condition.lower()]
        found, top = [], []
        for key, record in contents.records.items():
            if (key.task, key.condition, key.method) == (task, condition.lower(), "raven"):
                truth = evaluated.seeds[key.seed]
                scores = score(evaluated.metric, truth.supervisors, truth.labels, truth.groups, evaluated.num_classes)
                found.append(spearmanr(record.diagnostics["weights"], scores).statistic)
                top.append(record.diagnostics["weights"][scores.argmax()])  # type: ignore[index, call-overload]
        assert float(correlation) == pytest.approx(np.mean(found), abs=0.0051)
        assert float(best) == pytest.approx(np.mean(top), abs=0.0051)
    names = {task.name: task.family or task.name for task in default_tasks()}
    of = {name: [float(row[3]) for row in rows[:-1] if names[row[1]] == name] for name in names.values()}
    assert float(rows[-1][3]) == pytest.approx(np.mean([np.mean(values) for values in of.values()]), abs=0.011)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_recomputed_from_the_results_alone(metric: str, tmp_path: Path) -> None:
    """And a floor at chance is said where chance is 1/K."""
    store = ResultStore(tmp_path / "demo")
    tasks = [Task("made-up", "text", metric), Guessing("guessed", "text", metric)]
    for task in tasks:  # users with several reviews each; regions, or which of the first identities are mentioned
        task.groups = task.groups % 20 if METRICS[metric].resampled == "groups" else task.groups % 2 + 1
    fill(store, tasks, ("raven", "naive"), conditions=("ood",))
    page = render(ResultStore(store.root))
    assert f"Metric: {metric.replace('_', ' ')} (guessed and made-up)" in page
    cell = analyse(store.load()).cells["made-up", "ood"]
    stored = [r.metrics[metric] for key, r in store.load().records.items() if key[:3] == ("made-up", "ood", "raven")]
    assert cell.samples["raven"].mean == pytest.approx(np.mean(stored))
    assert estimate([cell.samples["raven"]]).example_half > 0
    said = "not above chance (1/K) by more than its interval on guessed" in page
    assert said == METRICS[metric].uniform_chance
    (store.root / "LEADERBOARD.md").write_text(page)
    assert check([store.root], store.root / "LEADERBOARD.md") == []


def test_numbers_lists_and_shares_in_words() -> None:
    def of(mean: float, error: float, tasks: int = 3) -> Estimate:
        return without_empty_interval(Estimate(mean, error, 0.0, freedom=4, tasks=tasks, runs=5 * tasks))

    assert [number(x) for x in (0.5, 0.1234, -0.00001, 0.99999, -0.0)] == ["50.0", "12.3", "0.0", "100.0", "0.0"]
    assert [number(x, sign=True) for x in (0.01, -0.01, 0.0)] == ["+1.0", "-1.0", "0.0"]
    assert number(0.7125 + 1e-15) == number(0.7125) == number(0.7125 - 1e-15)
    assert [listing(list(items)) for items in ("", "a", "ab", "abc")] == ["none", "a", "a and b", "a, b and c"]
    assert percent(of(2 / 3, 0.1)) == "66.7 ± 27.8"
    assert percent(of(2 / 3, 0.5)) == "66.7", "its interval would hold every share"
    assert percent(of(1.0, 0.1)) == "100.0 ± 27.8"
    assert percent(of(2 / 3, 0.1, tasks=1)) == "66.7", "one task's few runs"
    assert percent(of(2 / 3, 0.5), of_tasks=4) == "66.7 (3/4)"


def test_it_says_what_submissions_were_developed_on(tmp_path: Path) -> None:
    """Those of this version; in their own words, which are anybody's."""
    store, task = ResultStore(tmp_path / "demo"), Task("t")
    fill(store, [task], ("naive",), range(2), ("ood",))
    for name, version, words in (("mine", 1, "a | <b>suite</b>"), ("yours", 1, None), ("older", 2, "the tests")):
        evaluated = evaluation(task, "ood", range(2))
        entries = [entry(task, evaluated, name, seed) for seed in range(2)]
        with store.lock():
            store.write_unit(evaluated, entries)
        manifest = manifest_of("demo", "", [record for record, _ in entries], {}, words)
        text = manifest.model_copy(update={"method_version": version}).to_text()
        (store.root / name / MANIFEST).write_text(text)
    (store.root / "naive" / MANIFEST).write_text("{}")
    said = section(render(ResultStore(store.root)), "## How it was made")
    shown = "- submissions: `mine`, developed on: a \\| &lt;b&gt;suite&lt;/b&gt;; `yours`, developed on: not stated\n"
    assert shown in said


# --- the same bytes, and where they go -------------------------------------------------------------------------------


def test_identical_bytes_whatever_the_order_of_writing(default: ResultStore, tmp_path: Path) -> None:
    page, other = render(ResultStore(default.root)), ResultStore(tmp_path / "other" / "default")
    fill(other, list(reversed(default_tasks())), tuple(reversed(METHODS)))
    assert render(ResultStore(other.root)) == page
    assert render(other) == page, "from memory, as after a run"
    put(other, default_tasks()[0], "naive", range(1), ("ood",), commit="f00d")
    assert "f00d" in render(other), "made anew after writing"


def test_published_suites_share_a_page(copied: Callable[..., Path], page: str) -> None:
    """`default` first, tuned results in their suite's section; a page without one of them is stale."""
    results = copied("default", "default-tuned", "odd", "stress")
    path, said = results.parent / "LEADERBOARD.md", []
    for name in ("stress", "default-tuned", "default"):
        publish(results / name, said.append)
        assert path.read_text() == page
        assert check_published(results / name, said.append, lambda store: []) == 0
        assert said[-1] == f"{results / name}: all adds up, LEADERBOARD.md is current"
    path.write_text(page.partition("# Suite `odd`")[0])
    assert check_published(results / "default", said.append, lambda store: []) == 1
    path.write_text(page)
    assert check_published(results / "default", said.append, lambda store: ["a finding"]) == 1
    assert said[-1] == f"{results / 'default'}: 4 findings", "one for each suite"
    (results / "odd").rename(results / "another")
    assert [path.name for path in suites_beside(results / "stress")][:2] == ["default", "another"]


def test_runs_have_a_page_of_their_own_with_their_tuned_results(copied: Callable[..., Path]) -> None:
    runs = copied("default", "default-tuned", to="runs")
    assert suites_beside(runs / "default") == [runs / "default", runs / "default-tuned"]
    said: list[str] = []
    publish(runs / "default", said.append)
    assert "## Equal tuning budget" in (runs / "default" / "LEADERBOARD.md").read_text()
    publish(runs / "default-tuned", said.append)
    page = (runs / "default-tuned" / "LEADERBOARD.md").read_text()
    assert "## Equal tuning budget" in page
    assert "## Methods" not in page, "tuned results without their suite are the table alone"
    assert check_published(runs / "default-tuned", said.append, lambda store: []) == 0
    (runs / "default").rename(runs / "arrays-mine")
    publish(runs / "arrays-mine", said.append)
    assert "w2s run --arrays FILE" in (runs / "arrays-mine" / "LEADERBOARD.md").read_text()


def test_tasks_of_another_version_are_not_compared(copied: Callable[..., Path]) -> None:
    copied("default")
    runs, said = copied("default", to="runs"), list[str]()
    first = default_tasks()[0]
    fill(ResultStore(runs / "default"), [replace(first, version=2)], ("naive",), range(5), ("ood",))
    publish(Path("runs/default"), said.append)
    compared, *rest = said[2:]
    assert re.fullmatch(r"compared with results/default: (\d+) of \1 cells agree within their intervals", compared)
    assert rest == ["  1 tasks are of another version there, and were not compared"]


def test_a_run_is_compared_with_what_is_published(copied: Callable[..., Path], snapshot: Snapshots) -> None:
    """Cell by cell; what only one has is counted; what differs is named, the first twenty."""
    results, runs = copied("default"), copied("default", to="runs")
    said: list[str] = []
    publish(Path("runs/default"), said.append)
    assert said[2:] == ["compared with results/default: 70 of 70 cells agree within their intervals"]
    run = ResultStore(runs / "default")
    for task in default_tasks():
        for method, accuracy in (("raven", 0.99), ("naive", 0.1), ("new", 0.7), ("ensemble", 0.2)):
            put(run, task, method, accuracy=accuracy)
    fill(ResultStore(results / "default"), [Task("more")], ("naive",), conditions=("ood",))
    said.clear()
    publish(Path("runs/default"), said.append)
    snapshot("compared.txt", "\n".join(said[2:]) + "\n")
    assert json.loads((runs / "default/raven/records.jsonl").read_text().splitlines()[0])["metrics"]["accuracy"] > 0.9


def test_seconds_that_were_measured_stand_beside_the_cost(tmp_path: Path) -> None:
    store, methods = ResultStore(tmp_path), ("naive", "raven", "ensemble", "ground_truth")
    fill(store, [Task("a")], methods, conditions=("ood",))

    def shown() -> dict[str, str | None]:
        _, _, compared, *_, canaries = tables(section(render(store), "## Methods"))
        return {row: cells.get("seconds") for row, cells in (compared | canaries).items()}

    assert set(shown().values()) == {None}
    seconds = {"naive": 0.5, "raven": 0.75, "gone": 1.0}
    found = MethodSeconds(processor="a | b", date="2026-12-01", tasks=("a",), repeats=5, seconds=seconds)
    (tmp_path / "seconds.json").write_text(found.to_line())
    others = dict.fromkeys(("ensemble", "ground_truth", *REFERENCES), "–")
    assert shown() == {"naive": "1.00", "raven": "1.50", **others}
    assert "on a (medians of 5), 2026-12-01, a \\| b." in render(store)
    (tmp_path / "seconds.json").write_text("{}")
    with pytest.raises(W2SError, match=r"seconds\.json: processor"):
        render(store)
