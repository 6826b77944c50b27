"""Results for other programs: the tidy table, its files, and the headline in LaTeX."""

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import benchmark
from benchmark.analysis.cells import FLOOR, analysis_of
from benchmark.analysis.frame import COLUMNS, DTYPES
from benchmark.base.errors import W2SError
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.core.records import digest
from benchmark.core.scoring import compute_metrics
from benchmark.reports.export import export
from benchmark.reports.headline import comparison_columns
from benchmark.reports.latex import escape, headline_latex
from benchmark.results.layout import RECORDS
from benchmark.results.store import ResultStore
from support.snapshots import Snapshots
from support.synthetic import Task, analysis_with, entry, evaluation, fill, level


@pytest.fixture(scope="module")
def frame(default: ResultStore) -> pd.DataFrame:
    return benchmark.load_results(default.root)


def given(results: Path, wanted: str, out: Path | None = None) -> tuple[str, list[str]]:
    """What export says, and its warnings."""
    said: list[str] = []
    warned: list[str] = []
    export(results, wanted, out, said.append, warned.append)
    return "\n".join(said), warned


# --- the table -------------------------------------------------------------------------------------------------------


def test_a_row_is_a_task_condition_method_and_seed(default: ResultStore, frame: pd.DataFrame) -> None:
    assert list(frame.columns) == list(COLUMNS)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == DTYPES
    keys = ["task", "condition", "method", "seed"]
    assert not frame.duplicated(keys).any()
    assert frame[keys].equals(frame[keys].sort_values(keys, ignore_index=True))
    expected = {(k.task, k.condition, k.method, k.seed) for k in default.load().records}
    assert set(frame[keys].itertuples(index=False, name=None)) == expected
    assert not set(frame["method"]) & set(REFERENCES)


def test_values_are_the_tables(default: ResultStore, frame: pd.DataFrame) -> None:
    analysis = analysis_of(default)
    for row in frame.to_dict("records"):
        cell = analysis.cells[row["task"], row["condition"]]
        record = cell.records[row["method"]][row["seed"]]
        for name in ("title", "kind", "cost", "n_train", "n_test", "setting", "commit", "device", "method_version"):
            assert row[name] == getattr(record, name)
        assert row["score"] == pytest.approx(record.metrics[row["metric"]], abs=1e-12)
        assert row["accuracy"] == pytest.approx(record.metrics["accuracy"], abs=1e-12)
        assert row["floor"] == cell.samples[FLOOR].values[row["seed"]]
        assert row["ceiling"] == cell.samples["ground_truth"].values[row["seed"]]
        assert row["mean_supervisor"] == cell.samples["mean_supervisor"].values[row["seed"]]
        assert row["failed"] == (row["score"] < row["floor"] - 1e-6)
        assert row["failed_mean_supervisor"] == (row["score"] < row["mean_supervisor"] - 1e-6)
        assert (row["broken"], row["base"]) == ("broken" in row["task"], row["task"].removesuffix("-broken"))
        assert row["canary"] == (row["method"] in CANARIES)
        assert row["ablation"] == (row["method"] == "raven_no_easy")
        assert pd.isna(row["method_family"]) if row["canary"] else row["method_family"] == "other"
        assert row["family"] == ("posts" if cell.evaluation.modality in ("text", "preference") else row["task"])
        assert (row["modality"], row["classes"]) == (cell.evaluation.modality, cell.evaluation.num_classes)
        assert row["tags"] == "broken" if row["task"] == "tweets-broken" else pd.isna(row["tags"])
    ood = frame[(frame["condition"] == "ood") & (frame["method"] == "raven") & ~frame["broken"]]
    columns = [column for column in comparison_columns(analysis) if column.header.startswith("PGR")]
    for column, name in zip(columns, ("pgr", "pgr_mean_supervisor"), strict=True):
        headline = column.value("raven")
        assert headline is not None
        by_family = ood.groupby(["family", "task"])[name].mean().groupby("family").mean()
        assert by_family.mean() == pytest.approx(headline.mean)


def test_what_is_not_known_is_missing_not_zero(tmp_path: Path) -> None:
    fill(ResultStore(tmp_path / "few"), [Task("t")], ("naive",), conditions=("ood",))
    frame = benchmark.load_results(str(tmp_path / "few"))
    assert frame["ceiling"].isna().all()
    assert frame["pgr"].isna().all()
    assert frame["floor"].notna().all()


def test_what_cannot_be_used_is_warned_of(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    fill(ResultStore(root), [Task("t")], ("naive", "raven"))
    path = root / "naive" / RECORDS
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"cost":100', '"cost":-1')
    lines[2] = re.sub('"accuracy":[0-9.]+', '"accuracy":0.999', lines[2])
    path.write_text("\n".join(lines) + "\n")
    with pytest.warns(UserWarning, match=RECORDS) as found:
        frame = benchmark.load_results(root)
    texts = [str(warning.message) for warning in found]
    assert len(texts) == 2
    assert any("naive/records.jsonl:2: cost" in text for text in texts)
    assert any("metrics.accuracy: found 0.999" in text for text in texts)
    assert len(frame) == 11
    assert frame["accuracy"].max() < 0.9, "recomputed, whatever the record says"
    assert all(warning.filename == __file__ for warning in found)
    for wanted in ("csv", "latex"):
        assert given(root, wanted)[1] == texts


def test_importing_the_package_imports_no_library() -> None:
    code = "import sys, benchmark; print(sorted({'pandas', 'numpy', 'torch', 'scipy'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["csv", "json", "parquet"])
def test_a_file_is_read_back_equal_and_its_bytes_are_the_same_each_time(
    default: ResultStore, frame: pd.DataFrame, tmp_path: Path, wanted: str
) -> None:
    path, again = tmp_path / "a" / f"x.{wanted}", tmp_path / f"y.{wanted}"
    assert given(default.root, wanted, path) == (f"wrote {path}", [])
    given(default.root, wanted, again)
    assert path.read_bytes() == again.read_bytes()
    read: dict[str, Any] = {
        "csv": lambda: pd.read_csv(path, dtype=DTYPES),
        "json": lambda: pd.read_json(path, dtype=DTYPES, precise_float=True),
        "parquet": lambda: pd.read_parquet(path),
    }
    assert_frame_equal(read[wanted](), frame, check_exact=wanted == "parquet", rtol=1e-14)
    if wanted != "parquet":
        assert given(default.root, wanted)[0] + "\n" == path.read_text(), "text goes to standard output, too"


def test_bad_requests_are_refused(default: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, results: Path, wanted: str, out: Path | None = None) -> None:
        with pytest.raises(W2SError, match=message):
            given(results, wanted, out)

    refused("--format excel: expected one of csv, latex, json, parquet", default.root, "excel")
    refused("--format parquet: is no text; name a file with --out", default.root, "parquet")
    (tmp_path / "file").touch()
    refused(r"x\.csv: cannot be written", default.root, "csv", tmp_path / "file" / "x.csv")
    for wanted in ("csv", "latex"):
        refused("nowhere: no results there; make some with `w2s run --results", tmp_path / "nowhere", wanted)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"--format parquet: needs pyarrow; pip install -c constraints\.txt pyarrow"
    refused(message, default.root, "parquet", tmp_path / "x.parquet")


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def test_the_headline_is_a_booktabs_table(made: Path, snapshot: Snapshots) -> None:
    """Columns and rows of the headline; bold; hostile titles as text."""
    tables = [given(made / name, "latex") for name in ("default", "odd")]
    assert [warned for _, warned in tables] == [[], []]
    snapshot("headlines.tex", "\n\n".join(text for text, _ in tables) + "\n")
    assert escape("a\nb\n\nc\x00\x1b[0m\u202e\u200bd") == "a b c[0md", "no line breaks, nothing invisible"
    assert escape("Größe, 東京") == "Größe, 東京"


def test_best_and_tied_are_bold(tmp_path: Path) -> None:
    """Equal methods tie with the best; one that is clearly worse, one that lacks a seed, and ablations do not."""
    task, store = Task("t", metric="accuracy", pool=2000, test=600), ResultStore(tmp_path / "ties")
    evaluated = evaluation(task, "ood", range(5))
    entries = {name: [entry(task, evaluated, name, s) for s in range(5)] for name in ("ensemble", "raven", "naive")}
    rng = np.random.default_rng(0)

    def nearly_raven(name: str, seeds: int = 5) -> list[Any]:
        """Predictions of `raven` with some examples changed, to either side."""
        made = []
        for raven, best in entries["raven"][:seeds]:
            labels, predictions = evaluated.seeds[raven.seed].labels, best.copy()
            right, wrong = (np.flatnonzero((predictions[0] == labels) == hit) for hit in (True, False))
            flip = [*rng.choice(right, 12 + raven.seed % 2, replace=False), *rng.choice(wrong, 12, replace=False)]
            predictions[0, flip] = 1 - predictions[0, flip]
            metrics = compute_metrics(evaluated, raven.seed, predictions, "raven")
            changes = {"metrics": metrics, "predictions_sha256": digest(predictions)}
            made.append((entry(task, evaluated, name, raven.seed, **changes)[0], predictions))
        return made

    entries |= {name: nearly_raven(name) for name in ("twin", "raven_no_easy")} | {"few": nearly_raven("few", 3)}
    with store.lock():
        store.write_unit(evaluated, [one for some in entries.values() for one in some])
    latex, warned = given(store.root, "latex")
    assert warned == []
    assert set(re.findall(r"^(\w[\w ]*?)(?: \\emph.*?)? & \\textbf", latex, re.M)) == {"Raven", "Twin"}


def test_ties_are_of_the_mean_that_a_column_shows() -> None:
    """Of one task `a` is surely the better, of five of another family nobody knows: alike in the plain mean alone."""
    noise = np.array([-0.2, 0.2, -0.08, 0.08])
    scores = {("f", "sure"): {"a": np.full(4, 0.9), "b": np.full(4, 0.7)}}
    scores |= {("g", f"unsure-{i}"): {"a": 0.5 + noise, "b": np.full(4, 0.5)} for i in range(5)}
    analysis = analysis_with(scores)
    text = headline_latex(analysis, "demo").splitlines()
    header = next(line for line in text if line.startswith("method")).removesuffix(r" \\").split(" & ")
    b = next(line for line in text if line.startswith("b & ")).split(" & ")
    bold = {name for name, cell in zip(header, b, strict=True) if "textbf" in cell}
    assert ("all OOD" in header, "all OOD" in bold, "all OOD (plain mean)" in bold) == (True, False, True)


def test_latex_of_a_stress_suite_names_what_has_it_all(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "stress")
    fill(store, [level("random", 0), level("random", 1)], ("naive",), conditions=("ood",))
    with pytest.raises(W2SError, match="holds stress curves only"):
        given(store.root, "latex")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = benchmark.load_results(store.root)
    assert set(frame["tags"]) == {"stress base=pens", "stress base=pens kind=random count=1"}
