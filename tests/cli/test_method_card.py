"""What `w2s describe METHOD` prints besides the board's numbers (`tests/reports/test_on_the_board.py`)."""

import inspect
from pathlib import Path

import pytest

from benchmark.base.errors import W2SError
from benchmark.cli.method_card import WIDTH, method_card, reflowed
from benchmark.core.registry import METHODS
from benchmark.results.store import ResultStore
from methods.raven import Raven
from support.command_line import CommandLine
from support.snapshots import Snapshots
from support.synthetic import STEADY, Task, default_tasks, fill, level, put

NONE_YET = "On the board: no published results of this version yet."


def test_the_whole_card(w2s: CommandLine, tmp_path: Path, snapshot: Snapshots) -> None:
    """Of the published results unasked, with the stress suite beside them."""
    published, stress = (ResultStore(tmp_path / "results" / name) for name in ("default", "stress"))
    fill(published, default_tasks(), ("ensemble", "raven_no_easy", "naive", "ground_truth"))
    for task in [level("random", count) for count in range(3)]:
        for method in ("ensemble", "raven_no_easy"):
            put(stress, task, method, accuracy=STEADY["naive"][len(task.tags) % 3], conditions=("ood",))
    card = w2s("describe", "raven_no_easy")
    assert (card.status, card.err) == (0, "")
    assert card.out == w2s("describe", "raven_no_easy", "--results", "results/default").out
    snapshot("method_card.txt", card.out)


def test_no_card_is_wider_than_a_terminal_or_leaves_out_a_word(w2s: CommandLine) -> None:
    for method in METHODS:
        card = w2s("describe", method.name).out
        assert all(len(line) <= WIDTH for line in card.splitlines()), method.name
        assert card.endswith(f"\n\n{NONE_YET}\n")
        assert (inspect.getdoc(method) or "").split() == reflowed(inspect.getdoc(method) or "").split()
        assert " ".join(reflowed(inspect.getdoc(method) or "").split()) in " ".join(card.split())
        assert f"family         {method.family}" in card


@pytest.mark.parametrize(
    "text",
    [
        "One line.",
        "With a:\n\n    l(t) = sum_c t_c\n         + KL\n\nand so on.",
        "Layers:\n\n1. the first,\n   and more of it;\n2. the second.",
        "Args:\n    a: one.\n    b, c: two\n        lines.\n    d: x.",
    ],
)
def test_what_is_short_enough_keeps_its_lines_apart(text: str) -> None:
    """Formulas, numbered lists and options; lines of one paragraph flow."""
    kept = reflowed(text).splitlines()
    for line in ("    l(t) = sum_c t_c", "2. the second.", "    a: one.", "    d: x.", "Args:"):
        assert (line in text) == any(each.startswith(line) for each in kept)
    assert reflowed("\n".join(kept)) == "\n".join(kept)


def test_a_long_paragraph_is_filled() -> None:
    text = "word " * 23 + "\n" + "word " * 23 + "\n\nArgs:\n    rate: " + "word " * 30
    lines = reflowed(text).splitlines()
    assert lines[0] == ("word " * 20).strip()
    assert lines[-1].startswith("    word"), "an entry of a list is set in"


def test_what_is_declared_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sees = type("Sees", (Raven,), {"__doc__": "A formula.", "name": "sees", "family": None, "uses": ("features",)})
    card = method_card(sees, None)
    assert "family         other\n" in card
    assert "sees           soft labels, features\n" in card
    with pytest.raises(W2SError, match="no results"):
        method_card(sees, tmp_path / "nowhere")
    fill(ResultStore(tmp_path / "runs"), [Task("a")], ("ensemble",), conditions=("ood",))
    assert method_card(sees, tmp_path / "runs").endswith(
        f"On the board: no results of this version in {tmp_path}/runs."
    )
