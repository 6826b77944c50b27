"""`w2s compare` on made-up results."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.synthetic import METHODS, Task, default_tasks, entry, evaluation, fill
from typer.testing import CliRunner

from benchmark.analysis.cells import Analysis, analysis_of
from benchmark.analysis.statistics import holm
from benchmark.base.errors import W2SError
from benchmark.cli import app
from benchmark.reports.comparison import compare_rows, contrasts
from benchmark.results.store import ResultStore

TASKS = [task.name for task in default_tasks()]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    made = ResultStore(tmp_path_factory.mktemp("made") / "demo")
    fill(made, default_tasks(), seeds=range(5))
    return made


def lines(text: str) -> dict[str, list[str]]:
    """The columns of each line, by its first."""
    split = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line]
    return {line[0]: line[1:] for line in split if len(line) == 6}


def test_differences_are_those_of_the_scores(store: ResultStore) -> None:
    shown = lines(compare_rows(store, "raven", "naive"))
    cells = {cell.evaluation.task: cell.samples for cell in analysis_of(store).select("ood")}
    gains = {task: samples["raven"].values - samples["naive"].values for task, samples in cells.items()}
    assert set(TASKS) <= set(shown)
    assert next(iter(shown)) == "task, OOD"
    for name, tasks in {
        **{task: [task] for task in TASKS},
        "image (2)": ["solar", "digits"],
        "text (2)": ["tweets", "tweets-broken"],
        "preference (1)": ["pairs"],
        "all (5)": TASKS,
    }.items():
        difference, _, _, improvement, _ = shown[name]
        assert float(difference.split()[0]) == pytest.approx(100 * np.mean([gains[t] for t in tasks]), abs=0.0501)
        won = np.mean([gains[t] > 0 for t in tasks])
        assert float(improvement.split()[0]) == pytest.approx(100 * won, abs=0.0501)


def test_tasks_with_the_same_test_examples_share_resamples(tmp_path: Path) -> None:
    """A task and its broken sister: their errors add up, as they are the same errors."""
    store = ResultStore(tmp_path / "demo")
    sisters = [Task("one-sister", fingerprint="a1"), Task("two-sister", fingerprint="b2")]  # equal but for the name
    assert (sisters[0].labels == sisters[1].labels).all()
    fill(store, sisters, ("naive", "raven"))
    one, both = (
        Analysis.over(cells, lambda cell: cell.gain("raven", "naive"))
        for cells in (analysis_of(store).select("ood")[:1], analysis_of(store).select("ood"))
    )
    assert one is not None and both is not None  # noqa: PT018
    assert both.tasks == 2
    assert one.example_error > 0
    assert both.example_error == pytest.approx(one.example_error)


def test_p_values_are_corrected_for_what_stands_together(store: ResultStore) -> None:
    cells = analysis_of(store).select("ood")
    families = {cell.evaluation.task: [cell] for cell in cells}
    found = contrasts("raven", "naive", families)
    expected = holm([contrast.difference.p for contrast in found.values()])
    np.testing.assert_allclose([contrast.adjusted for contrast in found.values()], expected)
    (alone,) = contrasts("raven", "naive", {"all": cells}).values()
    assert alone.adjusted == alone.difference.p
    back = contrasts("naive", "raven", families)
    assert [c.sign for c in back.values()] == [-c.sign for c in found.values()]


def test_who_is_ahead_is_said_only_when_it_is_clear(store: ResultStore) -> None:
    clear = lines(compare_rows(store, "random_supervision", "ground_truth"))  # canaries can be compared too
    assert {clear[task][-1] for task in TASKS} == {"ground_truth"}
    assert clear["all (5)"][-1] == "ground_truth"
    assert lines(compare_rows(store, "ground_truth", "mean_supervisor"))["all (5)"][-1] == "ground_truth"
    close = lines(compare_rows(store, "raven", "raven_no_easy"))
    assert {close[task][-1] for task in TASKS} == {"–"}


def test_another_condition_and_fewer_tasks(store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "task, InD" in compare_rows(store, "raven", "naive", "ind")
    monkeypatch.setitem(METHODS, "new", (0.9, "ensemble", None))
    other, task = ResultStore(tmp_path / "other"), Task("only", fingerprint="e5")
    fill(other, [Task("more")], ("raven",), conditions=("ind",))
    fill(other, [task], ("raven", "new"), seeds=range(1), conditions=("ind",))
    shown = lines(compare_rows(other, "new", "raven"))
    assert {"only", "all (1)"} <= set(shown)
    assert "more" not in shown
    assert shown["only"][1:3] + shown["only"][4:] == ["–", "–", "–"]  # one seed says nothing
    evaluated = evaluation(task, "ind", range(1, 2))
    other.write_unit(evaluated, [entry(task, evaluated, "late", 1)])
    with pytest.raises(W2SError, match="'new' and 'late' have no InD task and seed in common"):
        compare_rows(other, "new", "late")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ravne", "naive"], "unknown method or row of .*demo 'ravne': did you mean 'raven'"),
        (["raven", "raven"], "found 'raven' twice"),
        (["raven", "naive", "--condition", "odd"], "unknown condition 'odd': did you mean 'ood'"),
    ],
)
def test_bad_input_is_one_line(store: ResultStore, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["compare", *arguments, "--results", str(store.root)])
    assert result.exit_code == 2
    assert re.search(message, result.output)
    assert result.output.count("\n") == 1


def test_the_command_prints_the_tables(store: ResultStore) -> None:
    result = CliRunner().invoke(app, ["compare", "raven", "naive", "--results", str(store.root)])
    assert result.exit_code == 0
    assert result.output == compare_rows(store, "raven", "naive") + "\n"


def test_a_folder_without_results_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compare", "raven", "naive", "--results", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "no results there" in result.output
