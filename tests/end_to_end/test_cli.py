"""The command line: what it prints, and that bad input gets one clear line and exit status 2."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from filelock import FileLock
from numpy.typing import NDArray
from support.command_line import CommandLine, Outcome
from support.made_up import Blobs, make_arrays

from benchmark.arrays import ArrayTask
from benchmark.assets import packages as fetch
from benchmark.base.errors import NotAvailable, Vanished, W2SError
from benchmark.cli import app
from benchmark.core.data import Domain
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.core.registry import METHODS, TASKS, register_task
from benchmark.core.suite import suite_names
from benchmark.results.store import ResultStore
from benchmark.running.plan import Unit
from benchmark.running.runner import Workforce
from benchmark.running.unit import Setup, execute
from benchmark.store.cache import Cache
from tasks import _vader

Arrays = dict[str, NDArray[Any]]

PLUGIN = '''
from dataclasses import dataclass
from benchmark.api import Method, cross_entropy, register_method

@register_method
@dataclass(eq=False)
class Mine(Method):
    """CE(q, mean p)."""
    name = "NAME"
    title = "Mine"
    citation = "none"
    kind = "ensemble"
    OPTION

    def loss(self, logits, batch):
        return cross_entropy(logits, batch.soft_labels.mean(2))
'''


def plugin(path: Path, name: str = "mine", option: str = "") -> Path:
    path.write_text(PLUGIN.replace("NAME", name).replace("OPTION", option))
    return path


def save(path: Path, **changes: Any) -> Path:
    """Arrays of 60 examples, 3 supervisors and 3 classes with some replaced; None leaves one out."""
    arrays = {**make_arrays(60), **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A good file."""
    return save(tmp_path / "mine.npz")


# ---- what is printed


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its path, subcommands included."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_commands_help_shows_an_example_that_parses(w2s: CommandLine) -> None:
    found = dict(commands())
    assert {
        ("list",),
        ("describe",),
        ("run",),
        ("pack",),
        ("leaderboard",),
        ("export",),
        ("judge",),
        ("new",),
        ("cache", "info"),
        ("cache", "clear"),
    } <= set(found)
    for path, command in found.items():
        shown = w2s(*path, "--help")
        assert shown.status == 0
        example = " ".join(shown.out.split()).partition("Example: ")[2]
        words = shlex.split(example)
        assert words[: len(path) + 1] == ["w2s", *path]
        command.make_context(path[-1], words[len(path) + 1 :])  # raises if an option is unknown


def test_without_a_command_the_help_is_shown(w2s: CommandLine) -> None:
    shown = w2s("--help").out
    for path, _ in commands():
        assert path[0] in shown
    assert "Usage" in "".join((w2s().out, w2s().err))


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


def test_list_warns_of_a_plugin_that_cannot_be_imported(w2s: CommandLine) -> None:
    METHODS.broken["outside"] = "ImportError: no module named 'gone'"
    shown = w2s("list", "methods")
    assert shown.status == 0
    assert shown.err == "warning: method plug-in 'outside' cannot be imported: ImportError: no module named 'gone'\n"


def test_describe_knows_every_name(w2s: CommandLine) -> None:
    for name in [*TASKS.names(), *METHODS.names(), *suite_names(), *CANARIES, *REFERENCES]:
        shown = w2s("describe", name)
        assert (shown.status, shown.err) == (0, "")
        assert shown.out.startswith(f"{name}: ")
    task = w2s("describe", "digits-to-mnist").out
    for expected in (
        "uci",
        "fonts",
        "accuracy",
        "PixelLogistic",
        "efficientnet",
        "licence",
        "citation",
        "requires",
        "size",
    ):
        assert expected in task.lower() or expected in task
    method = w2s("describe", "raven").out
    assert METHODS["raven"].citation in method
    assert "CE(q, t)" in method, "the formula is in the docstring"


def test_dry_run_says_what_would_run_and_touches_nothing(w2s: CommandLine, arrays: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    shown = w2s("run", "--arrays", arrays, "--methods", "raven*,ground_truth", "--seeds", "3", "--dry-run")
    raven = [name for name in METHODS.names() if name.startswith("raven")]
    assert len(raven) > 1
    assert shown.status == 0
    assert shown.out.splitlines() == [
        f"mine (ood): {', '.join(sorted([*raven, 'ground_truth']))} (seeds 0, 1, 2)",
        "1 units to run, results in runs/arrays-mine",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_dry_run_downloads_nothing(w2s: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the small archive that a run would fetch through pip; the empty cache of the test lacks it."""
    _vader.rated_texts.cache_clear()
    _vader._source_files.cache_clear()
    monkeypatch.setattr(fetch.subprocess, "run", lambda *_, **__: pytest.fail("pip ran"))
    shown = w2s("run", "--tasks", "sentiment-to-nyt", "--methods", "ensemble", "--dry-run")
    assert shown.status == 1
    assert "sentiment-to-nyt (ood): ensemble (seeds 0" in shown.out
    (line,) = [line for line in shown.out.splitlines() if line.startswith("not run: ")]
    for words in ("sentiment-to-nyt", "vaderSentiment 0.5", "2.4 MB", "licence MIT", "SHA-256 5d97c37f", "with pip"):
        assert words in line
    assert not (tmp_path / "cache" / "downloads").exists()


def test_dry_run_leaves_out_what_is_done(w2s: CommandLine, arrays: Path) -> None:
    asked = ["run", "--arrays", arrays, "--suite", "smoke", "--methods", "ensemble", "--seeds", "1"]
    assert w2s(*asked).status == 0
    assert w2s(*asked, "--dry-run").out == "0 units to run, results in runs/arrays-mine\n"
    more = w2s(*asked[:-1], "2", "--dry-run")
    assert more.out.splitlines()[0] == "mine (ood): ensemble (seeds 1)"
    assert "ensemble (seeds 0)" in w2s(*asked, "--dry-run", "--force").out


def test_cache_info_and_clear(w2s: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "other-cache"
    first, *kinds = w2s("cache", "info", "--cache", folder).out.splitlines()
    assert first == str(folder)
    assert all(line.split()[1] == "0" for line in kinds)
    Cache(folder).get("features", {"seed": 1}, lambda: {"x": np.zeros(2**18)})
    shown = [line.split() for line in w2s("cache", "info", "--cache", folder).out.splitlines()]
    assert ["features", "1", "files", "2.0", "MiB"] in shown
    cleared = w2s("cache", "clear", "--cache", folder)
    assert (cleared.status, cleared.out) == (0, f"freed 2.0 MiB of {folder}\n")
    assert w2s("cache", "info", "--cache", folder).out.splitlines() == [first, *kinds]
    assert w2s("cache", "info").out.splitlines()[0] == str(tmp_path / "cache"), "the environment's, if none is named"


# ---- bad input: arrays


def changed(name: str, index: Any, value: Any) -> Arrays:
    array = make_arrays(60)[name]
    array[index] = value
    return {name: array}


class Boom:
    """Would leave a file in the current folder when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("boom", "w")


BAD_ARRAYS: dict[str, tuple[Arrays, str]] = {
    "NaN soft labels": (changed("soft_labels", (3, 0, 0), np.nan), "soft_labels: NaN or infinity in row 3"),
    "negative soft labels": (
        changed("soft_labels", (3, 0), (1.2, -0.2, 0)),
        "soft_labels: negative value -0.2 in row 3",
    ),
    "rows that don't sum to 1": (
        changed("soft_labels", (3, 0), (0.9, 0.2, 0)),
        "soft_labels: row 3 sums to 1.1, expected 1",
    ),
    "soft labels of one supervisor without its axis": (
        {"soft_labels": make_arrays(60)["soft_labels"][:, 0]},
        "soft_labels: shape (60, 3), expected (N, M, K)",
    ),
    "features of a wrong shape": ({"features": np.zeros(60)}, "features: shape (60,), expected (N, D) or (N, 2, D)"),
    "features of other examples": (
        {"features": np.zeros((59, 4))},
        "features: 59 examples, but soft_labels has 60",
    ),
    "NaN features": (changed("features", (4, 1), np.nan), "features: NaN or infinity in row 4"),
    "labels of another K": (changed("labels", 5, 3), "labels: 3 in row 5, expected 0..2 or -1 for unknown"),
    "labels below -1": (changed("labels", 5, -7), "labels: -7 in row 5, expected 0..2 or -1 for unknown"),
    "one label": ({"labels": np.array(1)}, "labels: shape (), expected (N,)"),
    "fractional labels": ({"labels": np.full(60, 0.5)}, "labels: dtype float64, expected whole numbers"),
    "no known label": ({"labels": np.full(60, -1)}, "labels: all unknown (-1), so nothing could be scored"),
    "pairs with K = 3": (
        {"features": np.zeros((60, 2, 4))},
        "soft_labels: K = 3, but features are pairs (N, 2, D), which need K = 2",
    ),
    "groups of other examples": ({"groups": np.zeros(61, int)}, "groups: 61 examples, but soft_labels has 60"),
    "a missing array": ({"labels": None}, "array 'labels' is missing, found features, soft_labels"),  # type: ignore[dict-item]
    "an unknown array": (
        {"weights": np.ones(3)},
        "unknown array 'weights', expected features, groups, labels, soft_labels",
    ),
    "objects": (
        {"labels": np.array([Boom()] * 60)},
        "cannot be read (it is no such file, or holds pickled objects, which are never read)",
    ),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_bad_arrays(w2s: CommandLine, tmp_path: Path, what: str) -> None:
    changes, message = BAD_ARRAYS[what]
    path = save(tmp_path / "bad.npz", **changes)
    assert w2s("run", "--arrays", path).refusal == f"--arrays {path}: {message}"
    assert [p.name for p in tmp_path.iterdir()] == ["bad.npz"], "nothing was run, and nothing unpickled"


FILES: dict[str, tuple[str, bytes, str]] = {
    "text": ("bad.npz", b"1,2,3\n", "cannot be read"),
    "empty": ("bad.npz", b"", "cannot be read"),
    "no safetensors": ("bad.safetensors", b"1,2,3\n", "cannot be read"),
    "another kind": ("bad.csv", b"1,2,3\n", "expected a name that ends in .npz or .safetensors"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_no_npz_or_safetensors(w2s: CommandLine, tmp_path: Path, what: str) -> None:
    name, content, message = FILES[what]
    (tmp_path / name).write_bytes(content)
    refusal = w2s("run", "--arrays", tmp_path / name).refusal
    assert refusal.startswith(f"--arrays {tmp_path / name}: ")
    assert message in refusal


def test_a_missing_file(w2s: CommandLine, tmp_path: Path) -> None:
    assert w2s("run", "--arrays", "nowhere.npz").refusal == f"--arrays {tmp_path}/nowhere.npz: no such file"


@pytest.mark.parametrize(
    ("N", "options", "message"),
    [
        (3, [], "the val split is empty; 3 examples in 2 groups are too few to split 70/10/20"),
        (60, ["--split-by-group"], "the val split is empty; 60 examples in 2 groups are too few to split 70/10/20"),
    ],
)
def test_an_empty_split(w2s: CommandLine, tmp_path: Path, N: int, options: list[str], message: str) -> None:
    path = tmp_path / "few.npz"
    np.savez(path, **make_arrays(N), groups=np.arange(N) % 2)
    assert w2s("run", "--arrays", path, *options).refusal == f"task 'few': {message}"


def test_a_test_split_without_a_known_label(w2s: CommandLine, tmp_path: Path) -> None:
    path = save(tmp_path / "unknown.npz", **changed("labels", slice(1, None), -1))
    refusal = w2s("run", "--arrays", path, "--seeds", "9").refusal
    assert refusal.startswith("task 'unknown': no label of the test split (seed ")


def test_arrays_have_no_ind(w2s: CommandLine, arrays: Path) -> None:
    for asked in ("ind", "ind,ood"):
        refusal = w2s("run", "--arrays", arrays, "--conditions", asked).refusal
        assert refusal == "task 'mine' has no condition 'ind', only ood"


def test_splitting_by_group(w2s: CommandLine, arrays: Path) -> None:
    refusal = w2s("run", "--arrays", arrays, "--split-by-group").refusal
    assert refusal == f"--arrays {arrays}: groups: missing, but --split-by-group needs them"
    assert w2s("run", "--split-by-group").refusal.startswith("--split-by-group: only with --arrays")


def test_arrays_are_a_task_of_their_own(w2s: CommandLine, arrays: Path) -> None:
    assert w2s("run", "--arrays", arrays, "--tasks", "digits-*").refusal.startswith("--tasks: not with --arrays")


def test_arrays_that_are_named_like_a_task(tmp_path: Path) -> None:
    """In a process of its own, which has not looked for the shipped tasks before."""
    path = save(tmp_path / "digits-to-mnist.npz")
    call = [sys.executable, "-m", "benchmark.cli", "run", "--arrays", str(path), "--dry-run"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    refusal = Outcome(done.returncode, done.stdout, done.stderr).refusal
    assert refusal.startswith("duplicate task name 'digits-to-mnist': registered by tasks.digits.Digits")
    assert refusal.endswith(f" and by {path}")


# ---- bad input: names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--suite", "defualt"], "unknown suite 'defualt': did you mean 'default'?"),
        (["run", "--tasks", "digits-to-minst"], "unknown task 'digits-to-minst': did you mean 'digits-to-mnist'?"),
        (["run", "--tasks", "digits-*,sentimental-*"], "unknown task 'sentimental-*': did you mean 'sentiment-to-"),
        (["run", "--methods", "ravn"], "unknown method 'ravn': did you mean 'raven'?"),
        (["run", "--methods", "naive,ground_trut"], "unknown method 'ground_trut': did you mean 'ground_truth'?"),
        (["run", "--conditions", "odd"], "unknown condition 'odd': expected ind, ood or both"),
        (["run", "--methods", ","], "--methods: expected names, found nothing"),
        (["run", "--device", "gpu"], "--device gpu: expected auto, cpu or cuda"),
        (["run", "--plugin", "nowhere.py"], "nowhere.py: no such file"),
        (["describe", "raevn"], "unknown name 'raevn': did you mean 'raven'?"),
        (["describe", "smoek"], "unknown name 'smoek': did you mean 'smoke'?"),
        (["list", "task"], "unknown kind 'task': expected one of tasks, methods, suites, results"),
        (["new", "model", "mine"], "unknown kind 'model': expected method or task"),
        (["new", "method", "raven"], "method name 'raven' is taken"),
        (["new", "method", "Raven"], "method name 'Raven': expected lower-case letters"),
        (["new", "task", "my_task"], "task name 'my_task': expected lower-case letters"),
        (["leaderboard", "--results", "nowhere"], "nowhere: no results there; make some with `w2s run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_and_malformed_names(w2s: CommandLine, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in w2s(*arguments).refusal
    assert list(tmp_path.iterdir()) == []


def test_no_cuda_device(w2s: CommandLine, arrays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert w2s("run", "--arrays", arrays, "--device", "cuda").refusal.startswith(
        "--device cuda: torch finds no CUDA device;"
    )
    assert w2s("run", "--arrays", arrays, "--device", "auto", "--dry-run").status == 0


# ---- bad input: plug-ins


def test_a_plugin_with_a_taken_or_reserved_name(w2s: CommandLine, tmp_path: Path, arrays: Path) -> None:
    asked = ["run", "--arrays", arrays, "--dry-run", "--plugin"]
    taken = w2s(*asked, plugin(tmp_path / "taken.py", "raven")).refusal
    assert re.fullmatch(
        r"duplicate method name 'raven': registered by methods\.raven\.Raven and by w2s_plugin_taken\w*\.Mine", taken
    )
    reserved = w2s(*asked, plugin(tmp_path / "reserved.py", "ground_truth")).refusal
    assert re.search(r"method name 'ground_truth' in w2s_plugin_reserved\w*\.Mine is reserved", reserved)
    one, two = plugin(tmp_path / "one.py"), plugin(tmp_path / "two.py")
    assert w2s(*asked, one, "--plugin", two).refusal.startswith("duplicate method name 'mine'")


API = "from benchmark.api import ArrayTask, register_method, register_task"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        (
            f"{API}\nregister_method(int)",
            "expected a subclass of benchmark.api.Method",
        ),
        (
            f"{API}\nregister_task(ArrayTask([[1.0]], [[[0.5, 0.6]]], [0]))",
            "soft_labels: row 0 sums to 1.1, expected 1",
        ),
    ],
    ids=["two lines", "exits", "import", "syntax", "no method", "bad arrays"],
)
def test_a_plugin_that_fails(w2s: CommandLine, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(content)
    assert message in w2s("run", "--plugin", "bad.py").refusal


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("alpha: float", "an option without a default"),
        ("alpha: object = object()", "an option that JSON does not know"),
        ("alpha: float = float('nan')", "NaN as an option"),
    ],
)
def test_a_plugin_whose_options_cannot_be_recorded(
    w2s: CommandLine, tmp_path: Path, arrays: Path, option: str, reason: str
) -> None:
    path = plugin(tmp_path / "bad.py", option=option)
    refusal = w2s("run", "--arrays", arrays, "--plugin", path, "--methods", "mine").refusal
    assert "mine" in refusal
    assert "alpha" in refusal, reason


# ---- runs that end early


@pytest.mark.parametrize(
    ("ending", "status", "last"),
    [
        (KeyboardInterrupt(), 130, "stopped: 1 units run, 1 failed, 1 left, results in results; the same command goes"),
        (W2SError("node 1.2.3.4 can't take part"), 2, "error: node 1.2.3.4 can't take part"),
        (
            Vanished("results: files in it were removed"),
            1,
            "stopped: results: files in it were removed; the",
        ),
    ],
    ids=["interrupted", "no node", "vanished"],
)
def test_a_run_that_ends_early_says_what_is_done_and_what_has_failed(
    w2s: CommandLine, monkeypatch: pytest.MonkeyPatch, ending: BaseException, status: int, last: str
) -> None:
    def outcomes(self: Workforce, plan: Sequence[Unit], setup: Setup, say: Any) -> Iterator[Any]:
        yield plan[0], execute(plan[0], setup)
        yield plan[1], W2SError("made to fail")
        raise ending

    monkeypatch.setattr(Workforce, "outcomes", outcomes)
    for name in "abc":
        register_task(ArrayTask(**make_arrays(60), name=name))
    shown = w2s("run", "--suite", "smoke", "--tasks", "a,b,c", "--methods", "naive", "--results", "results")
    assert shown.status == status
    lines = (shown.out + shown.err).splitlines()
    assert lines[-2] == "b (ood): made to fail"
    assert lines[-1].startswith(last)
    assert {record.task for record in ResultStore(Path("results")).load().records.values()} == {"a"}


# ---- what is not there


def test_a_task_that_exits_is_named_and_the_others_run(w2s: CommandLine) -> None:
    class Exits(Blobs):
        def domain(self, name: str) -> Domain:
            sys.exit(0)

    register_task(Exits(name="exits"))
    register_task(ArrayTask(**make_arrays(60), name="present"))
    shown = w2s("run", "--suite", "smoke", "--tasks", "exits,present", "--methods", "ensemble", "--results", "results")
    assert shown.status == 1
    assert shown.out.splitlines() == ["1 units run, results in results", "not run: exits: SystemExit: 0"]


def test_what_this_machine_lacks_is_said_and_is_no_zero(w2s: CommandLine) -> None:
    class Lacking(Blobs):
        def missing(self) -> str | None:
            return "not installed: elpv-dataset; run: pip install elpv-dataset"

    register_task(Lacking(name="lacking"))
    register_task(ArrayTask(**make_arrays(60), name="present"))
    asked = ["run", "--suite", "smoke", "--tasks", "lacking,present", "--methods", "ensemble", "--conditions", "ood"]
    shown = w2s(*asked, "--results", "results")
    assert shown.status == 1
    assert shown.out.splitlines() == [
        "1 units run, results in results",
        "not run: lacking: not installed: elpv-dataset; run: pip install elpv-dataset",
    ]
    contents = ResultStore(Path("results")).load()
    assert {record.task for record in contents.records.values()} == {"present"}
    assert set(contents.evaluations) == {("present", "ood")}
    assert "lacking" not in Path("results/ensemble/records.jsonl").read_text()
    again = w2s(*asked, "--results", "results")
    assert again.status == 1, "still not run"
    assert again.out.startswith("nothing to do: all is in results\nnot run: lacking")


def test_so_are_data_that_turn_out_not_to_be_there(w2s: CommandLine) -> None:
    """As `sentiment-*` and `preference-*` do without a network: `missing()` knows of packages only."""

    class Offline(Blobs):
        def domain(self, name: str) -> Any:
            raise NotAvailable("vaderSentiment 0.5: cannot be fetched; run: pip download vaderSentiment")

    register_task(Offline(name="offline"))
    register_task(ArrayTask(**make_arrays(60), name="present"))
    asked = ["run", "--suite", "smoke", "--tasks", "offline,present", "--methods", "ensemble", "--conditions", "ood"]
    shown = w2s(*asked, "--results", "results")
    assert shown.status == 1
    assert any(line.startswith("not run: offline: vaderSentiment 0.5") for line in shown.out.splitlines())
    assert {record.task for record in ResultStore(Path("results")).load().records.values()} == {"present"}


def test_a_plugin_task_whose_data_cannot_be_made_is_reported(w2s: CommandLine) -> None:
    class Faulty(Blobs):
        def domain(self, name: str) -> Any:
            raise ZeroDivisionError("division by zero")

    register_task(Faulty(name="faulty"))
    shown = w2s("run", "--suite", "smoke", "--tasks", "faulty", "--methods", "ensemble", "--results", "results")
    assert shown.status in (1, 2)
    assert "faulty" in shown.out + shown.err


def test_a_missing_package_of_a_shipped_task_is_named_with_the_command(
    w2s: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.assets import packages as fetch

    find_spec: Callable[..., Any] = fetch.find_spec
    monkeypatch.setattr(fetch, "find_spec", lambda name: None if name == "elpv_dataset" else find_spec(name))
    shown = w2s("run", "--tasks", "solar-mono-to-poly", "--methods", "ensemble", "--results", "results")
    assert shown.status == 1
    (line,) = [line for line in shown.out.splitlines() if line.startswith("not run: ")]
    assert line.startswith("not run: solar-mono-to-poly: not installed: elpv-dataset; run: pip install")
    assert ResultStore(Path("results")).load().records == {}
    assert "elpv-dataset" in w2s("describe", "solar-mono-to-poly").out


# ---- the results folder


def test_a_results_folder_that_another_run_writes_to(w2s: CommandLine, arrays: Path, tmp_path: Path) -> None:
    asked = ["run", "--arrays", arrays, "--suite", "smoke", "--methods", "ensemble", "--results", "results"]
    (tmp_path / "results").mkdir()
    with FileLock(tmp_path / "results" / ".lock"):
        assert w2s(*asked).refusal == (
            "results: another run is writing here; wait until it ends, or name another folder with --results"
        )
    assert w2s(*asked).status == 0


def test_a_results_folder_that_cannot_be_made(w2s: CommandLine, arrays: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refusal = w2s("run", "--arrays", arrays, "--results", "file/results").refusal
    assert refusal.startswith("file/results: results can't be written here: ")


def test_usage_errors_exit_with_2_and_without_a_traceback(w2s: CommandLine) -> None:
    for arguments in (
        ["run", "--seeds", "0"],
        ["run", "--seeds", "many"],
        ["run", "--nonsense"],
        ["nonsense"],
        ["describe"],
    ):
        shown = w2s(*arguments)
        assert shown.status == 2
        assert "Traceback" not in shown.err
        assert shown.out == ""
