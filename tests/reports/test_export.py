"""Results for other programs: the tidy table, its files, and the headline in LaTeX."""

from __future__ import annotations

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
from support.synthetic import Task, default_tasks, entry, evaluation, fill

import benchmark
from benchmark.analysis.cells import FLOOR, analyse
from benchmark.analysis.frame import COLUMNS, DTYPES
from benchmark.base.errors import W2SError
from benchmark.core.corruption import Corruption, base_tags
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.reports.export import export
from benchmark.reports.headline import comparison_columns, headline_columns
from benchmark.reports.latex import escape
from benchmark.results.layout import RECORDS
from benchmark.results.store import ResultStore

HOSTILE = r"""50% \input{x} & $x_1^2$ #1 {~} <b>"|" \\ \end{tabular} %"""
SEEDS = range(3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "demo"
    store = ResultStore(root)
    fill(store, default_tasks())
    with store.lock():
        task = default_tasks()[0]
        evaluated = evaluation(task, "ood", SEEDS)
        store.write_unit(evaluated, [entry(task, evaluated, "hostile", seed, title=HOSTILE) for seed in SEEDS])
    return root


@pytest.fixture(scope="module")
def frame(made: Path) -> pd.DataFrame:
    return benchmark.load_results(made)


def given(results: Path, wanted: str, out: Path | None = None) -> tuple[str, list[str]]:
    """What export says, and its warnings."""
    said: list[str] = []
    warned: list[str] = []
    export(results, wanted, out, said.append, warned.append)
    return "\n".join(said), warned


# --- the table -------------------------------------------------------------------------------------------------------


def test_a_row_is_a_task_condition_method_and_seed(made: Path, frame: pd.DataFrame) -> None:
    assert list(frame.columns) == list(COLUMNS)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == DTYPES
    keys = ["task", "condition", "method", "seed"]
    assert not frame.duplicated(keys).any()
    assert frame[keys].equals(frame[keys].sort_values(keys, ignore_index=True))
    expected = {(k.task, k.condition, k.method, k.seed) for k in ResultStore(made).load().records}
    assert set(frame[keys].itertuples(index=False, name=None)) == expected
    assert not set(frame["method"]) & set(REFERENCES)


def test_values_are_the_tables(made: Path, frame: pd.DataFrame) -> None:
    contents = ResultStore(made).load()
    analysis = analyse(contents, resamples=50)
    for row in frame.to_dict("records"):
        cell = analysis.cells[row["task"], row["condition"]]
        (record,) = [r for r in cell.records[row["method"]].values() if r.seed == row["seed"]]
        for name in ("title", "kind", "cost", "n_train", "n_test", "setting", "commit", "device", "method_version"):
            assert row[name] == getattr(record, name)
        assert row["score"] == pytest.approx(record.metrics[row["metric"]], abs=1e-12)
        assert row["accuracy"] == pytest.approx(record.metrics["accuracy"], abs=1e-12)
        assert row["floor"] == cell.samples[FLOOR].values[row["seed"]]
        assert row["ceiling"] == cell.samples["ground_truth"].values[row["seed"]]
        assert row["failed"] == (row["score"] < row["floor"] - 1e-6)
        assert row["canary"] == (row["method"] in CANARIES)
        assert row["ablation"] == (row["method"] == "raven_no_easy")
        assert (row["modality"], row["classes"]) == (cell.evaluation.modality, cell.evaluation.num_classes)
        assert row["tags"] == "broken" if row["task"] == "tweets-broken" else pd.isna(row["tags"])
    ood = frame[(frame["condition"] == "ood") & (frame["method"] == "raven")]
    (column,) = [column for column in comparison_columns(analysis) if column.header.startswith("PGR")]
    headline = column.value("raven")
    assert headline is not None
    assert ood.groupby("task")["pgr"].mean().mean() == pytest.approx(headline.mean)


def test_what_is_not_known_is_missing_not_zero(tmp_path: Path) -> None:
    fill(ResultStore(tmp_path / "few"), [Task("t")], ("naive",), conditions=("ood",))
    frame = benchmark.load_results(str(tmp_path / "few"))
    assert frame["ceiling"].isna().all()
    assert frame["pgr"].isna().all()
    assert frame["floor"].notna().all()


def test_what_cannot_be_used_is_warned_of(made: Path, tmp_path: Path) -> None:
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


def test_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(W2SError, match="nowhere: no results there; make some with `w2s run --results"):
        benchmark.load_results(tmp_path / "nowhere")


def test_importing_the_package_imports_no_library() -> None:
    code = "import sys, benchmark; print(sorted({'pandas', 'numpy', 'torch', 'scipy'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["csv", "json", "parquet"])
def test_a_file_is_read_back_equal_and_its_bytes_are_the_same_each_time(
    made: Path, frame: pd.DataFrame, tmp_path: Path, wanted: str
) -> None:
    path, again = tmp_path / "a" / f"x.{wanted}", tmp_path / f"y.{wanted}"
    said, warned = given(made, wanted, path)
    given(made, wanted, again)
    assert (said, warned) == (f"wrote {path}", [])
    assert path.read_bytes() == again.read_bytes()
    read: dict[str, Any] = {
        "csv": lambda: pd.read_csv(path, dtype=DTYPES),
        "json": lambda: pd.read_json(path, dtype=DTYPES, precise_float=True),
        "parquet": lambda: pd.read_parquet(path),
    }
    assert_frame_equal(read[wanted](), frame, check_exact=wanted == "parquet", rtol=1e-14)


def test_text_goes_to_standard_output(made: Path, tmp_path: Path) -> None:
    for wanted in ("csv", "json", "latex"):
        given(made, wanted, tmp_path / wanted)
        assert given(made, wanted)[0] + "\n" == (tmp_path / wanted).read_text()


def test_bad_requests_are_refused(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(W2SError, match="--format excel: expected one of csv, latex, json, parquet"):
        given(made, "excel")
    with pytest.raises(W2SError, match="--format parquet: is no text; name a file with --out"):
        given(made, "parquet")
    (tmp_path / "file").touch()
    with pytest.raises(W2SError, match=r"--out .*: cannot be written"):
        given(made, "csv", tmp_path / "file" / "x.csv")
    for wanted in ("csv", "latex"):
        with pytest.raises(W2SError, match="no results there"):
            given(tmp_path / "nowhere", wanted)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(W2SError, match=r"--format parquet: needs pyarrow; pip install -c constraints\.txt pyarrow"):
        given(made, "parquet", tmp_path / "x.parquet")


# --- LaTeX -----------------------------------------------------------------------------------------------------------


def body(latex: str) -> list[list[list[str]]]:
    """The cells of each part between rules."""
    parts = re.split(r"\\(?:top|mid|bottom)rule\n", latex)[1:-1]
    return [[re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in part.splitlines()] for part in parts]


def test_the_headline_is_a_booktabs_table(made: Path) -> None:
    latex, _ = given(made, "latex")
    assert latex.startswith("% \\usepackage{booktabs}\n")
    assert "suite demo" in latex.splitlines()[1]
    analysis = analyse(ResultStore(made).load())
    columns = headline_columns(analysis)
    assert f"\\begin{{tabular}}{{l{'r' * len(columns)}}}" in latex
    assert latex.endswith("\\bottomrule\n\\end{tabular}")
    (head,), methods, apart = body(latex)
    assert head == ["method", *(column.header for column in columns)]
    assert all(len(row) == len(columns) + 1 for row in [*methods, *apart])
    assert len(methods) == len(analysis.methods)
    assert len(apart) == len(CANARIES) + len(REFERENCES)
    at = head.index("all OOD")
    raven = next(row for row in methods if row[0] == "Raven")
    column = columns[at - 1]
    assert raven[at] == f"\\textbf{{{column.text('raven').replace('±', '$' + chr(92) + 'pm$')}}}"
    assert [row[0] for row in methods if "emph" in row[0]] == [r"Raven No Easy \emph{(ablation)}"]
    assert not any("textbf" in cell for row in apart for cell in row)


def test_best_and_tied_are_bold(tmp_path: Path) -> None:
    """Equal methods tie with the best; one that is clearly worse, one that lacks a seed, and ablations do not."""
    task, store = Task("t", metric="accuracy", pool=2000, test=600), ResultStore(tmp_path / "ties")
    evaluated = evaluation(task, "ood", range(5))
    chosen = ("ensemble", "raven", "raven_no_easy", "naive", "few", "twin")
    entries = {name: [entry(task, evaluated, name, seed) for seed in range(5)] for name in chosen}
    best = {record.seed: predictions for record, predictions in entries["raven"]}
    rng = np.random.default_rng(0)

    def nearly(name: str) -> list[Any]:
        """Predictions of `raven` with some examples changed, to either side."""
        from benchmark.core.records import digest
        from benchmark.core.scoring import compute_metrics

        made = []
        for record, _ in entries[name]:
            labels = evaluated.seeds[record.seed].labels
            predictions = best[record.seed].copy()
            right = np.flatnonzero(predictions[0] == labels)
            wrong = np.flatnonzero(predictions[0] != labels)
            flip = [*rng.choice(right, 12 + record.seed % 2, replace=False), *rng.choice(wrong, 12, replace=False)]
            predictions[0, flip] = 1 - predictions[0, flip]
            metrics = compute_metrics(evaluated, record.seed, predictions)
            changes = {"metrics": metrics, "predictions_sha256": digest(predictions)}
            made.append((record.model_copy(update=changes), predictions))
        return made

    entries["twin"], entries["raven_no_easy"] = nearly("twin"), nearly("raven_no_easy")
    entries["few"] = nearly("few")[:3]
    with store.lock():
        store.write_unit(evaluated, [one for some in entries.values() for one in some])
    latex, warned = given(tmp_path / "ties", "latex")
    assert warned == []
    (head,), methods, _ = body(latex)
    at = head.index("all OOD")
    bold = {row[0] for row in methods if row[at].startswith(r"\textbf{")}
    assert bold == {"Raven", "Twin"}


def test_hostile_titles_are_text(made: Path) -> None:
    latex, _ = given(made, "latex")
    (line,) = [line for line in latex.splitlines() if line.startswith(r"50\%")]
    assert line.startswith(
        r"50\% \textbackslash{}input\{x\} \& \$x\_1\textasciicircum{}2\$ \#1 \{\textasciitilde{}\} "
        r'\textless{}b\textgreater{}"\textbar{}" \textbackslash{}\textbackslash{} '
        r"\textbackslash{}end\{tabular\} \% & "
    )
    assert latex.count(r"\end{tabular}") == 1


def test_escaped_text_has_no_line_breaks_and_nothing_invisible() -> None:
    assert escape("a\nb\n\nc\x00\x1b[0m\u202e\u200bd") == "a b c[0md"
    assert escape("Größe, 東京") == "Größe, 東京"


def test_latex_of_a_stress_suite_names_what_has_it_all(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "stress")
    corrupted = Corruption("random", 1, "pens").tags
    tasks = [Task("stress-pens", tags=base_tags("pens")), Task("stress-pens-random-1", tags=corrupted)]
    fill(store, tasks, ("naive",), conditions=("ood",))
    with pytest.raises(W2SError, match="holds stress curves only"):
        given(store.root, "latex")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = benchmark.load_results(store.root)
    assert set(frame["tags"]) == {"stress base=pens", "stress base=pens kind=random count=1"}
