"""The page's data and its HTML; what a browser makes of it is in `test_page_browser.py`."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from benchmark.analysis.cells import analysis_of
from benchmark.base.errors import W2SError
from benchmark.core.method import method_options
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.scoring import score
from benchmark.page.data import page_payload
from benchmark.page.payload import Payload, Row, Suite
from benchmark.page.render import INDEX, data_block, filled, page, render, write_page
from benchmark.reports.headline import (
    Column,
    broken_columns,
    comparison_columns,
    comparison_table,
    effect_columns,
    effect_table,
    headline_columns,
    rank_text,
    score_table,
)
from benchmark.reports.leaderboard import render as render_markdown
from benchmark.results.layout import MANIFEST, README, RECORDS
from benchmark.results.manifest import manifest_of
from benchmark.results.store import ResultStore
from benchmark.submissions.about import stub
from support.snapshots import Snapshots, pretty
from support.synthetic import Task, default_tasks, entry, evaluation, fill, put, tuned


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "results" / "default"
    fill(ResultStore(folder), [*default_tasks(), Task("sentiment-to-tweets", "text", fingerprint="e5")])
    return folder


@pytest.fixture(scope="module")
def store(root: Path) -> ResultStore:
    return ResultStore(root)


@pytest.fixture(scope="module")
def suite(store: ResultStore) -> Suite:
    return page_payload([store])["suites"][0]


@pytest.fixture(scope="module")
def html(suite: Suite) -> str:
    return render({"suites": [suite]})


def block(html: str, opening: str) -> str:
    found = re.search(rf"<{opening}>(.*?)</{opening.split()[0]}>", html, re.DOTALL)
    assert found
    return found[1]


def test_means_are_the_leaderboards_text_for_text(store: ResultStore, suite: Suite) -> None:
    analysis = analysis_of(store)
    found = {
        c.header: c for c in (*headline_columns(analysis), *comparison_columns(analysis), *broken_columns(analysis))
    }
    found |= {c.header: c for c in effect_columns(analysis) if isinstance(c, Column)}
    pairs = {
        "image OOD": ("ood|image|sound|own", "score"),
        "text OOD": ("ood|text|sound|own", "score"),
        "broken supervisor OOD": ("ood||broken|own", "score"),
        "all OOD": ("ood||sound|own", "score"),
        "all InD": ("ind||sound|own", "score"),
        "all OOD, minus ensemble": ("ood||sound|own", "gain"),
        "PGR OOD (5/5 tasks)": ("ood||sound|own", "pgr"),
        "failure rate OOD": ("ood||sound|own", "failed"),
        "PGR from the mean supervisor OOD (5/5 tasks)": ("ood||sound|own", "pgr_mean_supervisor"),
        "below the mean supervisor OOD": ("ood||sound|own", "failed_mean_supervisor"),
    }
    for header, (view, quantity) in pairs.items():
        for row in suite["rows"]:
            interval = suite["views"][view][quantity].get(row["name"])  # type: ignore[literal-required]
            result = found[header].value(row["name"])
            assert (interval is None) == (result is None)
            if interval and result:
                assert interval[2] == found[header].text(row["name"]), (header, row["name"])
                assert interval[0] == pytest.approx(100 * result.mean, abs=1e-3)
    view, scores, effects = suite["views"]["ood||sound|own"], score_table(analysis), effect_table(analysis)
    for row in suite["rows"]:
        assert rank_text(view["rank"][row["name"]]) == scores.lines[row["name"]][0]
        assert list(view["heterogeneity"].get(row["name"], ("–", "–"))) == effects.lines[row["name"]][1:3]


def test_claims_and_ties_are_the_leaderboards(store: ResultStore, suite: Suite) -> None:
    page = render_markdown(store)
    assert suite["claims"]
    assert suite["families"] == []
    assert {row["family"] for row in suite["rows"]} == {""}
    for claim in suite["claims"]:
        assert f"- **{claim['claim']}** {claim['found']}" in page
    assert suite["views"]["ood||sound|own"]["ties"] in page
    assert suite["views"]["ood||broken|own"]["ties"] in page


def test_families_of_methods_are_the_leaderboards(tmp_path: Path) -> None:
    """In words and for each row; of results that name none there is no word and no column."""
    store = ResultStore(tmp_path / "default")
    fill(store, default_tasks(), ("ground_truth", "foreign"))
    for task in default_tasks():
        put(store, task, "ensemble", family="averaging")
        put(store, task, "raven", family="learned weights")
    (suite,) = page_payload([store])["suites"]
    said = [f"- **{one['claim']}:** {one['found']}" for one in suite["families"]]
    assert len(said) == 5
    assert "\n".join(said).replace("_", "\\_") in render_markdown(store)
    families = {row["name"]: row["family"] for row in suite["rows"]}
    named = {"ensemble": "averaging", "raven": "learned weights", "foreign": "other"}
    assert families == {**dict.fromkeys(families, ""), **named}
    assert '<th scope="col">method family</th>' in page([store])


def test_a_base_and_the_mean_of_its_broken_variants_are_a_curve(tmp_path: Path) -> None:
    """Of variants that break one supervisor each; a variant without its base is a point."""
    store = ResultStore(tmp_path)
    fill(store, [Task("digits")], ("raven",), conditions=("ood",))
    variants = [Task(f"digits-broken-{m}", tags=("broken", "base=digits"), family="digits") for m in (1, 2)]
    fill(store, [*variants, Task("solar-broken", tags=("broken",))], ("raven",), conditions=("ood",))
    cells = analysis_of(store).cells
    (suite,) = page_payload([store])["suites"]
    drawn = {(curve["base"], curve["method"]): curve for curve in suite["stress"]}
    means = [100 * cells[f"digits-broken-{m}", "ood"].samples["raven"].mean for m in (1, 2)]
    start = 100 * cells["digits", "ood"].samples["raven"].mean
    assert drawn["digits", "raven"]["levels"] == [0, 1]
    assert drawn["digits", "raven"]["means"] == pytest.approx([start, np.mean(means)], abs=1e-3)
    assert (drawn["solar", "raven"]["levels"], len(drawn["solar", "raven"]["halves"])) == ([1], 1)
    assert suite["views"]["ood||broken|own"]["tasks"] == 2


def test_accuracy_is_what_loops_over_the_predictions_give(store: ResultStore, suite: Suite) -> None:
    contents = store.load()
    for task in ("tweets", "pairs"):
        evaluated = contents.evaluations[task, "ood"]
        cell = suite["cells"][f"{task}|ood"]
        assert ("accuracy" in cell) == (evaluated.metric != "accuracy")
        for method in ("naive", "raven"):
            means = []
            for key, predictions in sorted(contents.predictions.items()):
                if (key.task, key.condition, key.method) == (task, "ood", method):
                    truth = evaluated.seeds[key.seed]
                    scores = score("accuracy", predictions, truth.labels, truth.groups, evaluated.num_classes)
                    means.append(100 * scores.mean())
            shown = cell.get("accuracy", cell["own"])
            assert shown["seeds"][method] == pytest.approx(means, abs=1e-3)
            assert shown["score"][method][0] == pytest.approx(np.mean(means), abs=1e-3)
    sound = {task["name"] for task in suite["tasks"] if not task["broken"]}
    tasks = [key.removesuffix("|ood") for key in suite["cells"] if key.endswith("|ood")]
    tasks = [task for task in tasks if task in sound]
    cells = {task: suite["cells"][f"{task}|ood"] for task in tasks}
    scores = {task: cell.get("accuracy", cell["own"])["score"]["raven"][0] for task, cell in cells.items()}
    families = {task["name"]: task["family"] for task in suite["tasks"]}
    by_family = [[scores[task] for task in tasks if families[task] == name] for name in set(families.values())]
    view = suite["views"]["ood||sound|accuracy"]
    assert view["score"]["raven"][0] == pytest.approx(np.mean([np.mean(own) for own in by_family]), abs=1e-3)
    assert view["plain"]["raven"][0] == pytest.approx(np.mean([*scores.values()]), abs=1e-3)
    assert (view["tasks"], view["families"]) == (5, 4)
    assert suite["views"]["ood|image|sound|accuracy"]["plain"] == {}, "the same, with as many tasks in each family"


def test_the_payload_is_as_it_was(tmp_path: Path, snapshot: Snapshots) -> None:
    """An installed task and installed methods, which describe themselves; gains, failures, costs, weights."""
    store = ResultStore(tmp_path / "small")
    methods = ("naive", "ensemble", "raven_no_easy", "ground_truth")
    version = TASKS["sentiment-to-tweets"].version
    fill(
        store, [Task("sentiment-to-tweets", metric="accuracy", members=2, version=version)], methods, range(2), ("ood",)
    )
    snapshot("payload.json", pretty(page_payload([store])) + "\n")


def test_another_version_of_a_method_is_not_described_by_this_one(tmp_path: Path) -> None:
    assert method_options(METHODS["raven"]())  # it is installed
    store, task = ResultStore(tmp_path), Task("digits")
    version = METHODS["raven"].version + 1
    with store.lock():
        evaluated = evaluation(task, "ood", range(2))
        store.write_unit(evaluated, [entry(task, evaluated, "raven", s, method_version=version) for s in range(2)])
    row = row_of(store, "raven")
    assert (row["version"], row["description"], row["citation"]) == (version, "", "")


def submitted(root: Path, readme: str, version: int = 1, developed_on: str | None = None) -> ResultStore:
    """Results of `mine`, with the manifest and README of a submission."""
    store, task = ResultStore(root), Task("digits")
    with store.lock():
        evaluated = evaluation(task, "ood", range(2))
        entries = [entry(task, evaluated, "mine", seed) for seed in range(2)]
        store.write_unit(evaluated, entries)
    manifest = manifest_of("default", "A. <b>Nonymous</b>, javascript:alert(1)", [record for record, _ in entries], {})
    manifest = manifest.model_copy(update={"method_version": version, "developed_on": developed_on})
    (root / "mine" / MANIFEST).write_text(manifest.to_text())
    (root / "mine" / README).write_text(readme)
    return store


def row_of(store: ResultStore, name: str) -> Row:
    return next(row for row in page_payload([store])["suites"][0]["rows"] if row["name"] == name)


def test_a_submission_is_described_in_its_own_words(tmp_path: Path) -> None:
    words = "See [this](javascript:alert(1))</script><script>alert(1)</script>\n\n<img src=x onerror=alert(1)>"
    store = submitted(tmp_path, f"# RAVEN\n\n- authors: A\n- link: javascript:alert(1)\n\n{words}\n")
    row = row_of(store, "mine")
    assert (row["title"], row["citation"]) == ("Mine", "A. <b>Nonymous</b>, javascript:alert(1)")
    assert (row["description"], row["developed_on"]) == (words, "not stated")
    assert row_of(store, "mean_supervisor")["developed_on"] == ""
    html = page([store])
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "Nonymous</b>" not in html


def test_what_a_submission_does_not_say_of_this_version_stays_empty(tmp_path: Path) -> None:
    store = submitted(tmp_path / "stub", stub("Mine", "none"))
    assert (row_of(store, "mine")["description"], row_of(store, "mine")["citation"][:2]) == ("", "A.")
    store = submitted(tmp_path / "old", "# Mine\n\nAs it was.\n", 2, "the tests")
    row = row_of(store, "mine")
    assert (row["description"], row["citation"], row["developed_on"]) == ("", "", "")
    store = submitted(tmp_path / "broken", "# Mine\n\nIt does this.\n")
    (store.root / "mine" / MANIFEST).write_text("{")
    assert (row_of(store, "mine")["description"], row_of(store, "mine")["citation"]) == ("", "")
    store = submitted(tmp_path / "linked", "# Mine\n")
    (store.root / "mine" / README).unlink()
    (store.root / "mine" / README).symlink_to("/etc/hostname")
    assert row_of(store, "mine")["description"] == ""


def test_costs_are_the_leaderboards(tmp_path: Path) -> None:
    store, task = ResultStore(tmp_path), Task("digits")
    with store.lock():
        for condition, cost in (("ood", 250), ("ind", 900)):
            evaluated = evaluation(task, condition, range(2))
            entries = [entry(task, evaluated, "dear", seed, cost=cost) for seed in range(2)]
            store.write_unit(evaluated, [*entries, *(entry(task, evaluated, "naive", seed) for seed in range(2))])
    shown = comparison_table(analysis_of(store), None).lines["dear"][-1]
    assert (f"{row_of(store, 'dear')['cost']:.2f}", shown) == ("2.50", "2.50")


def test_settings_that_differ_by_task_say_where(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.lock():
        for name, rate in (("digits", 1e-3), ("tweets", 1e-2)):
            task = Task(name)
            evaluated = evaluation(task, "ood", range(2))
            chosen = {"student": {"learning_rate": rate}, "method": {}}
            entries = [entry(task, evaluated, "raven", seed, hyperparameters=chosen) for seed in range(2)]
            store.write_unit(evaluated, entries)
    row = row_of(store, "raven")
    found = {setting["options"]["student.learning_rate"]: setting["tasks"] for setting in row["settings"]}
    assert found == {"0.001": ["digits"], "0.01": ["tweets"]}


def test_a_tuned_row_is_of_the_settings_that_other_families_choose(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "default-tuned")
    tuned(store)
    suite = page_payload([store])["suites"][0]
    row = next(row for row in suite["rows"] if row["name"] == "naive")
    assert row["tuned"] == "option=7: 2 of 2"
    cells = [cell for cell in analysis_of(store).cells.values() if not cell.broken]
    scores = [sample.mean for cell in cells if (sample := cell.score("naive", "transfer"))]
    assert suite["views"]["ood||sound|own"]["score"]["naive"][0] == pytest.approx(100 * np.mean(scores), abs=0.01)
    assert "chosen on the other task families" in suite["description"]


def test_the_payload_is_of_its_type(suite: Suite) -> None:
    TypeAdapter(Payload).validate_python({"suites": [suite]}, strict=True)


def test_one_task_one_seed_one_method(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, [Task("alone")], ("raven",), range(1), ("ind",))
    suite = page_payload([store])["suites"][0]
    assert suite["conditions"] == ["ind"]
    mean, half, text, partial = suite["views"]["ind||sound|own"]["score"]["raven"]
    assert (half, partial) == (None, 0)
    assert text == f"{mean:.1f}"
    assert "raven" not in suite["views"]["ind||sound|own"]["pgr"]
    assert suite["cells"]["alone|ind"]["has_gap"] is None


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    fill(ResultStore(tmp_path), default_tasks()[:1], ("raven", "ensemble"))
    assert page([ResultStore(tmp_path)]) == page([ResultStore(tmp_path)])


def test_one_file_with_a_policy_that_allows_only_its_own_style_and_script(html: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', html)[1]  # type: ignore[index]
    assert policy.startswith("default-src 'none'; ")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(block(html, kind).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert not re.search(r'(?:src|href)="(?!data:|#)', html.split('id="payload"')[0])
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "@import", "url("):
        assert word not in block(html, "script") + block(html, "style"), word


def test_the_payload_comes_back_from_its_block(html: str, suite: Suite) -> None:
    text = block(html, 'script type="application/json" id="payload"')
    assert json.loads(text) == json.loads(json.dumps({"suites": [suite]}))


def test_nothing_in_a_data_block_ends_it() -> None:
    value = ["</script><script>alert(1)</script>", "<!--", "]]>", "&amp;", '"', "\u2028"]
    text = data_block(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_a_placeholder_inside_a_part_stays() -> None:
    assert filled("{{a}} {{b}}", {"a": "{{b}}", "b": "1"}) == "{{b}} 1"


def test_published_suites_stand_on_one_page_default_first(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for name, modality in (("language-model", "preference"), ("default", "text")):
        fill(ResultStore(results / name), [Task("one", modality, "accuracy")], ("raven", "ensemble"))
    path = write_page(results / "language-model", tmp_path / "out")
    assert path == tmp_path / "out" / INDEX
    payload = json.loads(block(path.read_text(), 'script type="application/json" id="payload"'))
    assert [suite["name"] for suite in payload["suites"]] == ["default", "language-model"]
    assert payload["suites"][1]["metrics"] == ["own"]


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(W2SError, match="no results there; make some with `w2s run"):
        write_page(tmp_path / "nothing", tmp_path)
    assert not (tmp_path / INDEX).exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    fill(ResultStore(tmp_path / "suite"), [Task("digits")], ("raven",))
    (tmp_path / "file").touch()
    with pytest.raises(W2SError, match=r"index\.html: cannot be written"):
        write_page(tmp_path / "suite", tmp_path / "file")


def test_problems_are_shown_not_hidden(tmp_path: Path) -> None:
    fill(ResultStore(tmp_path), [Task("digits")], ("raven",))
    with (tmp_path / "raven" / RECORDS).open("a") as file:
        file.write("{}\n")
    found = page_payload([ResultStore(tmp_path)])["suites"][0]["problems"]
    assert any("raven/records.jsonl:7:" in line for line in found)
