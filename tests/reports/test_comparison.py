"""`w2s compare` on made-up results."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmark.analysis.cells import Analysis, analysis_of
from benchmark.analysis.statistics import holm
from benchmark.base.errors import W2SError
from benchmark.reports.comparison import compare_rows, contrasts
from benchmark.results.store import ResultStore
from support.command_line import CommandLine
from support.snapshots import Snapshots
from support.synthetic import Task, default_tasks, fill, put

TASKS = [task.name for task in default_tasks()]


def lines(text: str) -> dict[str, list[str]]:
    """The columns of each line, by its first."""
    split = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if line]
    return {line[0]: line[1:] for line in split if len(line) in (6, 8)}


def test_the_tables_are_as_they_were(made: Path, w2s: CommandLine, snapshot: Snapshots) -> None:
    """Ties; who is clearly ahead; canaries and reference rows; the other condition; curves, which have no mean."""
    asked = [
        ("default", "raven", "naive"),
        ("default", "ground_truth", "mean_supervisor", "--condition", "ind"),
        ("stress", "raven", "naive"),
    ]
    shown = [w2s("compare", *rest, "--results", made / suite) for suite, *rest in asked]
    assert {outcome.status for outcome in shown} == {0}
    snapshot("compare.txt", "\n".join(outcome.out for outcome in shown))


def test_differences_are_those_of_the_scores(default: ResultStore) -> None:
    shown = lines(compare_rows(default, "raven", "naive"))
    cells = {cell.evaluation.task: cell.samples for cell in analysis_of(default).select("ood")}
    gains = {task: samples["raven"].values - samples["naive"].values for task, samples in cells.items()}
    sound = [task for task in TASKS if "broken" not in task]
    groups = {"image (2, 2)": TASKS[:2], "text (1, 1)": TASKS[2:3], "preference (1, 1)": TASKS[4:]}
    groups |= {"all, plain mean (4, 3)": sound} | {task: [task] for task in TASKS}
    groups |= {"posts (2)": sound[2:], "solar (1)": ["solar"], "broken supervisor (1, 1)": ["tweets-broken"]}
    plain = {name: [[task] for task in tasks] for name, tasks in groups.items()}
    for name, families in (plain | {"all (4, 3)": [["solar"], ["digits"], sound[2:]]}).items():
        difference, _, _, improvement, _, *random = shown[name]
        gain, won = (
            np.mean([np.mean([of(gains[task]) for task in tasks]) for tasks in families])
            for of in (np.mean, lambda own: np.mean(own > 0))
        )
        assert float(difference.split()[0]) == pytest.approx(100 * gain, abs=0.0501)
        assert float(improvement.split()[0]) == pytest.approx(100 * won, abs=0.0501)
        if name == "all (4, 3)":
            means = [np.mean([gains[task].mean() for task in tasks]) for tasks in families]
            half, spread = 4.302653 * np.std(means, ddof=1) / 3**0.5, np.std([gains[t].mean() for t in sound], ddof=1)
            assert float(random[0].removeprefix("± ")) == pytest.approx(100 * half, abs=0.0501)
            assert float(random[1]) == pytest.approx(100 * spread, abs=0.0501)


def test_tasks_with_the_same_test_examples_share_resamples(tmp_path: Path) -> None:
    """A task and its broken sister: their errors add up, as they are the same errors."""
    store = ResultStore(tmp_path / "demo")
    sisters = [Task("one-sister", fingerprint="a1"), Task("two-sister", fingerprint="b2")]  # equal but for the name
    assert (sisters[0].labels == sisters[1].labels).all()
    fill(store, sisters, ("naive", "raven"))
    cells = analysis_of(store).select("ood")
    one, both = (Analysis.over(some, lambda cell: cell.gain("raven", "naive")) for some in (cells[:1], cells))
    assert one is not None and both is not None  # noqa: PT018
    assert both.tasks == 2
    assert one.example_error > 0
    assert both.example_error == pytest.approx(one.example_error)


def test_p_values_are_corrected_for_what_stands_together(default: ResultStore) -> None:
    cells = analysis_of(default).select("ood")
    each = {cell.evaluation.task: [cell] for cell in cells}
    found = contrasts("raven", "naive", each)
    expected = holm([contrast.difference.p for contrast in found.values()])
    np.testing.assert_allclose([contrast.adjusted for contrast in found.values()], expected)
    (alone,) = contrasts("raven", "naive", {"all": cells}).values()
    assert alone.adjusted == alone.difference.p
    back = contrasts("naive", "raven", each)
    assert [c.sign for c in back.values()] == [-c.sign for c in found.values()]


def test_what_the_two_do_not_share_is_left_out(tmp_path: Path) -> None:
    other, task = ResultStore(tmp_path / "other"), Task("only", fingerprint="e5")
    fill(other, [Task("more")], ("raven",), conditions=("ind",))
    fill(other, [task], ("raven", "new"), seeds=range(1), conditions=("ind",))
    shown = lines(compare_rows(other, "new", "raven"))
    assert {"task, InD", "only", "all (1, 1)"} <= set(shown)
    assert "more" not in shown
    assert shown["only"][1:3] + shown["only"][4:] == ["–", "–", "–"], "one seed says nothing"
    put(other, task, "late", range(1, 2), ("ind",))
    with pytest.raises(W2SError, match="'new' and 'late' have no InD task and seed in common"):
        compare_rows(other, "new", "late")


def test_bad_input_is_one_line(made: Path, w2s: CommandLine) -> None:
    def refusal(*arguments: str, suite: str = "default") -> str:
        return w2s("compare", *arguments, "--results", made / suite).refusal

    assert refusal("ravne", "naive").endswith("default 'ravne': did you mean 'raven'?")
    assert refusal("raven", "raven") == "compare: found 'raven' twice, expected two different names"
    assert refusal("raven", "naive", "--condition", "odd").startswith("unknown condition 'odd': did you mean 'ood'")
    assert "nowhere: no results there; make some with `w2s run" in refusal("raven", "naive", suite="nowhere")
