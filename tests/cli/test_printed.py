"""What commands print that run nothing: help, lists, cards, the cache."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmark.cli import app
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import load_suite, suite_names
from benchmark.reports.worth import worth
from benchmark.results.store import ResultStore
from benchmark.store.cache import Cache
from support.command_line import CommandLine
from support.snapshots import Snapshots
from support.synthetic import Task, fill


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path, subcommands included."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_the_help_of_every_command(w2s: CommandLine, snapshot: Snapshots) -> None:
    """And its example parses."""
    shown = [w2s("--help").out]
    for path, command in commands():
        shown.append(w2s(*path, "--help").out)
        example = " ".join(shown[-1].split()).partition("Example: ")[2]
        words = shlex.split(example)
        assert words[: len(path) + 1] == ["w2s", *path]
        command.make_context(path[-1], words[len(path) + 1 :])  # raises if an option is unknown
    snapshot("help.txt", "\n".join(shown))
    assert "Usage" in "".join((w2s().out, w2s().err)), "without a command"
    assert w2s("--version").out.startswith("w2s-bench 0.")


def test_list_shows_everything_with_a_line_each(w2s: CommandLine) -> None:
    shown = {kind: w2s("list", kind) for kind in ("tasks", "methods", "suites")}
    for kind, names in (
        ("tasks", TASKS.names()),
        ("methods", [*METHODS.names(), *CANARIES]),
        ("suites", suite_names()),
    ):
        assert shown[kind].status == 0
        assert [line.split()[0] for line in shown[kind].out.splitlines()] == names
        assert all(len(line.split()) > 1 for line in shown[kind].out.splitlines())
    whole = w2s("list").out
    assert all(outcome.out in whole for outcome in shown.values())
    METHODS.broken["outside"] = "ImportError: no module named 'gone'"
    warned = w2s("list", "methods")
    assert warned.status == 0
    assert warned.err == "warning: method plug-in 'outside' cannot be imported: ImportError: no module named 'gone'\n"


def test_describe_knows_every_name(w2s: CommandLine, snapshot: Snapshots) -> None:
    cards = {}
    for name in [*TASKS.names(), *METHODS.names(), *suite_names(), *CANARIES, *REFERENCES]:
        shown = w2s("describe", name)
        assert (shown.status, shown.err) == (0, "")
        assert shown.out.startswith(f"{name}: ")
        cards[name] = shown.out
    chosen = ("digits-to-mnist", "raven_no_easy", "smoke", "ground_truth", "mean_supervisor")
    snapshot("cards.txt", "\n".join(cards[name] for name in chosen))


def test_a_suite_is_described_with_what_its_results_say(w2s: CommandLine, tmp_path: Path) -> None:
    """Printed, or written; of the published folder unasked, where there is one."""
    bare = w2s("describe", "--suite", "smoke")
    tasks = TASKS.select(list(load_suite("smoke").tasks))
    assert (bare.status, bare.err) == (0, "")
    assert all(f"| {TASKS[task].family} " in bare.out and f"| {task} " in bare.out for task in tasks)
    assert "reliability" not in bare.out
    fill(ResultStore(tmp_path / "results" / "smoke"), [Task(tasks[0])], seeds=range(2), conditions=("ood",))
    whole = w2s("describe", "--suite", "smoke")
    assert whole.out == w2s("describe", "--suite", "smoke", "--results", "results/smoke").out
    assert whole.out == f"{bare.out}\n{worth(ResultStore(tmp_path / 'results' / 'smoke'))}\n"
    assert w2s("describe", "--suite", "smoke", "--out", "docs/tasks.md").out == "wrote docs/tasks.md\n"
    assert (tmp_path / "docs" / "tasks.md").read_text() == whole.out


def test_cache_info_and_clear(w2s: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "other-cache"
    first, *kinds = w2s("cache", "info", "--cache", folder).out.splitlines()
    assert first == str(folder)
    assert all(line.split()[1] == "0" for line in kinds)
    Cache(folder).get("features", {"seed": 1}, lambda: {"x": np.zeros(2**18)})
    Cache(folder).write("analyses", {"seed": 1}, {"x": np.zeros(2**17)})
    shown = [line.split()[:4] for line in w2s("cache", "info", "--cache", folder).out.splitlines()]
    assert ["features", "1", "files", "2.0"] in shown
    assert ["analyses", "1", "files", "1.0"] in shown
    cleared = w2s("cache", "clear", "--cache", folder)
    assert (cleared.status, cleared.out) == (0, f"freed 3.0 MiB of {folder}\n")
    assert w2s("cache", "info", "--cache", folder).out.splitlines() == [first, *kinds]
    assert w2s("cache", "info").out.splitlines()[0] == str(tmp_path / "cache"), "the environment's, if none is named"
