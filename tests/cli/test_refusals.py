"""Bad input gets one clear line on standard error and exit status 2, and nothing is written."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from support.command_line import CommandLine, Outcome, command_line
from support.made_up import make_arrays
from support.snapshots import Snapshots

Arrays = dict[str, NDArray[Any]]
GOOD = make_arrays(60)  # 3 supervisors, 3 classes
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
API = "from benchmark.api import ArrayTask, register_method, register_task"


class Boom:
    """Would leave a file in the current folder when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("boom", "w")


def save(path: Path, **changes: Any) -> None:
    """Good arrays with some replaced; None leaves one out."""
    np.savez(path, **{name: value for name, value in (GOOD | changes).items() if value is not None})


def arrays(**changes: Any) -> tuple[list[str], dict[str, Callable[[Path], object]]]:
    return ["run", "--arrays", "bad.npz"], {"bad.npz": lambda path: save(path, **changes)}


def changed(name: str, index: Any, value: Any) -> tuple[list[str], dict[str, Callable[[Path], object]]]:
    array = GOOD[name].copy()
    array[index] = value
    return arrays(**{name: array})


def file(name: str, content: bytes) -> tuple[list[str], dict[str, Callable[[Path], object]]]:
    return ["run", "--arrays", name], {name: lambda path: path.write_bytes(content)}


def plugin(*options: str, name: str = "mine", option: str = "") -> Callable[[Path], object]:
    return lambda path: path.write_text(PLUGIN.replace("NAME", name).replace("OPTION", option))


def asked(text: str, *options: str, **files: Callable[[Path], object]) -> Any:
    """A command in words; `files` are made before, `_` in their names for `.`."""
    return [*text.split(), *options], {name.replace("_", "."): make for name, make in files.items()}


GROUPS = np.arange(60) % 2
CASES: dict[str, Any] = {
    # arrays
    "NaN soft labels": changed("soft_labels", (3, 0, 0), np.nan),
    "negative soft labels": changed("soft_labels", (3, 0), (1.2, -0.2, 0)),
    "rows that don't sum to 1": changed("soft_labels", (3, 0), (0.9, 0.2, 0)),
    "soft labels of one supervisor without its axis": arrays(soft_labels=GOOD["soft_labels"][:, 0]),
    "features of a wrong shape": arrays(features=np.zeros(60)),
    "features of other examples": arrays(features=np.zeros((59, 4))),
    "NaN features": changed("features", (4, 1), np.nan),
    "labels of another K": changed("labels", 5, 3),
    "labels below -1": changed("labels", 5, -7),
    "one label": arrays(labels=np.array(1)),
    "fractional labels": arrays(labels=np.full(60, 0.5)),
    "no known label": arrays(labels=np.full(60, -1)),
    "pairs with K = 3": arrays(features=np.zeros((60, 2, 4))),
    "groups of other examples": arrays(groups=np.zeros(61, int)),
    "a missing array": arrays(labels=None),
    "an unknown array": arrays(weights=np.ones(3)),
    "objects": arrays(labels=np.array([Boom()] * 60)),
    "text": file("bad.npz", b"1,2,3\n"),
    "an empty file": file("bad.npz", b""),
    "no safetensors": file("bad.safetensors", b"1,2,3\n"),
    "another kind of file": file("bad.csv", b"1,2,3\n"),
    "no file": asked("run --arrays nowhere.npz"),
    "too few examples": asked(
        "run --arrays few.npz", few_npz=lambda p: np.savez(p, **make_arrays(3), groups=GROUPS[:3])
    ),
    "too few groups": asked("run --arrays x.npz --split-by-group", x_npz=lambda path: save(path, groups=GROUPS)),
    "no groups": asked("run --arrays mine.npz --split-by-group", mine_npz=save),
    "groups without arrays": asked("run --split-by-group"),
    "arrays in distribution": asked("run --arrays mine.npz --conditions ind", mine_npz=save),
    "arrays, in both": asked("run --arrays mine.npz --conditions ind,ood", mine_npz=save),
    "arrays and tasks": asked("run --arrays mine.npz --tasks digits-*", mine_npz=save),
    # names
    "a suite": asked("run --suite defualt"),
    "a task": asked("run --tasks digits-to-minst"),
    "a glob": asked("run --tasks digits-*,sentimental-*"),
    "a method": asked("run --methods ravn"),
    "a canary": asked("run --methods naive,ground_trut"),
    "a condition": asked("run --conditions odd"),
    "no names": asked("run --methods ,"),
    "a device": asked("run --device gpu"),
    "what to describe": asked("describe raevn"),
    "which suite to describe": asked("describe smoek"),
    "which suite's tasks": asked("describe --suite smoek"),
    "two things to describe": asked("describe raven --suite smoke"),
    "nothing to describe": asked("describe"),
    "results of no suite or method": asked("describe digits-to-uci --results runs/smoke"),
    "results of a method that are not there": asked("describe raven --results runs/smoke"),
    "results that are not there": asked("describe --suite smoke --results nowhere"),
    "what to list": asked("list task"),
    "what to make": asked("new model mine"),
    "a taken name": asked("new method raven"),
    "a method in capitals": asked("new method Raven"),
    "a task in snake case": asked("new task my_task"),
    "no results": asked("leaderboard --results nowhere"),
    "no results outside a checkout": asked("leaderboard"),
    "no page outside a checkout": asked("page"),
    "a skeleton's folder that is a file": asked("new method mine --out in.way", in_way=Path.touch),
    "no results to list": asked("list results --results nowhere"),
    "results of what is no results": asked("list tasks --results nowhere"),
    "a folder that is a file": asked(
        "run --arrays mine.npz --results in.way/results", mine_npz=save, in_way=Path.touch
    ),
    # plug-ins
    "no plug-in": asked("run --plugin nowhere.py"),
    "a plug-in that raises": asked("run --plugin x.py", x_py=lambda p: p.write_text("raise ValueError('two\\nlines')")),
    "a plug-in that exits": asked("run --plugin x.py", x_py=lambda p: p.write_text("import sys; sys.exit(0)")),
    "a plug-in that lacks a module": asked("run --plugin x.py", x_py=lambda p: p.write_text("import no_such_module")),
    "a plug-in that is no Python": asked("run --plugin x.py", x_py=lambda p: p.write_text("def broken(:")),
    "a plug-in's method that is none": asked(
        "run --plugin x.py", x_py=lambda p: p.write_text(f"{API}\nregister_method(int)")
    ),
    "a plug-in's bad arrays": asked(
        "run --plugin x.py",
        x_py=lambda p: p.write_text(f"{API}\nregister_task(ArrayTask([[1.0]], [[[0.5, 0.6]]], [0]))"),
    ),
    "a plug-in's taken name": asked("run --plugin x.py", x_py=plugin(name="raven")),
    "a plug-in's reserved name": asked("run --plugin x.py", x_py=plugin(name="ground_truth")),
    "two plug-ins of one name": asked("run --plugin one.py --plugin two.py", one_py=plugin(), two_py=plugin()),
    "an option without a default": asked("run --plugin x.py", x_py=plugin(option="alpha: float")),
    "an option that JSON does not know": asked("run --plugin x.py", x_py=plugin(option="alpha: object = object()")),
    "NaN as an option": asked("run --plugin x.py", x_py=plugin(option="alpha: float = float('nan')")),
}


def test_bad_input_is_refused_in_one_line(tmp_path: Path, snapshot: Snapshots) -> None:
    lines = []
    for number, (what, (arguments, files)) in enumerate(CASES.items()):
        (folder := tmp_path / str(number)).mkdir()
        for name, make in files.items():
            make(folder / name)
        with command_line(folder) as w2s:
            said = w2s(*arguments).refusal.replace(f"{folder}/", "")
        said = re.sub(r"(w2s_plugin_\w+)_[0-9a-f]{8}", r"\1", said)
        lines.append(f"{' '.join(arguments)}  # {what}\n    {said}\n")
        assert {path.name for path in folder.iterdir()} - {"__pycache__"} == set(files), f"{what}: run, or unpickled"
    snapshot("refusals.txt", "".join(lines))


def test_a_test_split_without_a_known_label(w2s: CommandLine, tmp_path: Path) -> None:
    save(tmp_path / "unknown.npz", labels=np.where(np.arange(60) > 0, -1, GOOD["labels"]))
    refusal = w2s("run", "--arrays", "unknown.npz", "--seeds", "9").refusal
    assert refusal.startswith("task 'unknown': no label of the test split (seed ")


def test_arrays_that_are_named_like_a_task(tmp_path: Path) -> None:
    """In a process of its own, which has not looked for the shipped tasks before."""
    save(path := tmp_path / "digits-to-mnist.npz")
    call = [sys.executable, "-m", "benchmark.cli", "run", "--arrays", str(path), "--dry-run"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    refusal = Outcome(done.returncode, done.stdout, done.stderr).refusal
    assert refusal.startswith("duplicate task name 'digits-to-mnist': registered by tasks.digits.Digits")
    assert refusal.endswith(f" and by {path}")


def test_no_cuda_device(w2s: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "mine.npz")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refusal = w2s("run", "--arrays", "mine.npz", "--device", "cuda").refusal
    assert refusal.startswith("--device cuda: torch finds no CUDA device;")
    assert w2s("run", "--arrays", "mine.npz", "--device", "auto", "--dry-run").status == 0


def test_usage_errors_exit_with_2_and_without_a_traceback(w2s: CommandLine) -> None:
    for arguments in ("run --seeds 0", "run --seeds many", "run --nonsense", "nonsense"):
        shown = w2s(*arguments.split())
        assert shown.status == 2
        assert "Traceback" not in shown.err
        assert shown.out == ""
