"""`--set method.option=value`: recorded as that setting, in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.core.registry import register_task
from support.command_line import CommandLine
from support.made_up import Blobs

ASKED = (
    "run",
    "--suite",
    "smoke",
    "--tasks",
    "blobs",
    "--methods",
    "raven,ensemble",
    "--seeds",
    "1",
    "--conditions",
    "ood",
)
OTHER = ("--set", "raven.eta=1e-3", "--set", "raven.init=random")


@pytest.fixture(autouse=True)
def task(w2s: CommandLine) -> None:
    register_task(Blobs())


def options(folder: str, method: str) -> dict[str, object]:
    (line,) = Path(folder, method, "records.jsonl").read_text().splitlines()
    found: dict[str, object] = json.loads(line)["hyperparameters"]["method"]
    return found


def test_it_is_recorded_as_that_setting_and_the_others_keep_their_defaults(w2s: CommandLine) -> None:
    assert w2s(*ASKED, *OTHER, "--results", "other").status == 0
    assert w2s(*ASKED, "--results", "usual").status == 0
    usual, other = options("usual", "raven"), options("other", "raven")
    assert {name: other[name] for name in other if other[name] != usual[name]} == {"eta": 1e-3, "init": "random"}
    assert options("other", "ensemble") == options("usual", "ensemble")
    assert w2s(*ASKED, *OTHER, "--results", "other").out == "nothing to do: all is in other\n"


def test_it_never_goes_where_the_defaults_are(w2s: CommandLine) -> None:
    assert "a folder of their own: --results" in w2s(*ASKED, *OTHER).refusal
    assert "a folder of their own: --results" in w2s(*ASKED, *OTHER, "--results", "results/smoke").refusal
    assert w2s(*ASKED, "--results", "usual").status == 0
    before = Path("usual/raven/records.jsonl").read_bytes()
    assert "usual: holds 'raven' with other options" in w2s(*ASKED, *OTHER, "--results", "usual").refusal
    assert Path("usual/raven/records.jsonl").read_bytes() == before


def test_the_defaults_never_go_where_it_is(w2s: CommandLine) -> None:
    assert w2s(*ASKED, *OTHER, "--results", "other").status == 0
    before = Path("other/raven/records.jsonl").read_bytes()
    refusal = w2s(*ASKED, "--results", "other").refusal
    assert "other: holds 'raven' with other options" in refusal
    assert "'eta': 0.001, 'init': 'random'" in refusal
    assert "name another folder" in w2s(*ASKED, *OTHER[:2], "--results", "other").refusal, "a part of the options"
    assert Path("other/raven/records.jsonl").read_bytes() == before
    alone = [*ASKED[:6], "ensemble", *ASKED[7:]]
    assert w2s(*alone, "--results", "other").out == "nothing to do: all is in other\n", "those with defaults go on"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("raven.etta=1e-3", "unknown option of raven 'etta': did you mean 'eta'?"),
        ("ravn.eta=1e-3", "unknown method 'ravn': did you mean 'raven'?"),
        ("naive.eta=1", "--set naive.eta: 'naive' is none of this run's methods"),
        ("raven.per_sample=yes", "expected a value like the default, False"),
        ("raven.easy_fraction=much", "expected a value like the default, 0.2"),
        ("raven.easy_fraction=1e999", "expected a value like the default, 0.2"),
        ("raven.=1", "unknown option of raven ''"),
    ],
)
def test_what_no_method_understands_is_refused(w2s: CommandLine, given: str, message: str) -> None:
    assert message in w2s(*ASKED, "--set", given, "--results", "other").refusal
    assert not Path("other").exists()


def test_whole_numbers_are_asked_for_where_the_default_is_one(w2s: CommandLine) -> None:
    asked = [*ASKED[:6], "dine", *ASKED[7:], "--dry-run", "--results", "other"]
    for value in ("1.5", "2.0", "inf", "true"):
        assert w2s(*asked, "--set", f"dine.top={value}").refusal.endswith("expected a value like the default, 1")
    for given in ("dine.top=2", "dine.gamma=1", "dine.gamma=0.5"):
        assert w2s(*asked, "--set", given).status == 0, "a float may be given as a whole number"


def test_a_grid_has_its_own_options(w2s: CommandLine) -> None:
    assert "--set raven.eta: not with --tune" in w2s(*ASKED, *OTHER, "--tune", "--results", "other").refusal
