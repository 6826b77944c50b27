"""What `w2s new` writes works as it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.base.errors import W2SError
from benchmark.cli import app
from benchmark.cli.skeletons import write_skeleton
from benchmark.core.names import RESERVED
from benchmark.core.registry import METHODS, load_plugin
from benchmark.results.store import ResultStore
from benchmark.testing import check_method
from support.made_up import registries_restored


@pytest.fixture(autouse=True)
def _restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("W2S_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)  # units run in this process
    with registries_restored():
        yield


def w2s(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_new_method_passes_the_contract_suite_and_runs(tmp_path: Path) -> None:
    path = "my_first_method.py"
    said = w2s("new", "method", "my_first_method")
    assert said == f"wrote {path}; run it with: w2s run --plugin {path} --methods my_first_method\n"
    load_plugin(Path("my_first_method.py"))
    cls = METHODS["my_first_method"]
    assert cls.__name__ == "MyFirstMethod"
    check_method(cls)


def test_a_new_task_runs_with_a_few_methods() -> None:
    path = "my_first_task.py"
    said = w2s("new", "task", "my-first-task")
    assert said == f"wrote {path}; run it with: w2s run --plugin {path} --tasks my-first-task\n"
    methods = ("naive", "ensemble", "ground_truth")
    asked = ["run", "--plugin", "my_first_task.py", "--tasks", "my-first-task", "--methods", ",".join(methods)]
    asked += ["--suite", "smoke", "--seeds", "1", "--results", "results"]
    w2s(*asked, "--conditions", "ood")
    records = ResultStore(Path("results")).load().records.values()
    assert {(record.task, record.condition, record.method) for record in records} == {
        ("my-first-task", "ood", method) for method in methods
    }
    accuracy = {record.method: record.metrics["accuracy"] for record in records}
    assert accuracy["ground_truth"] > accuracy["naive"], "made-up data, but with something to be learned"
    assert "my-first-task: " in w2s("describe", "my-first-task")


def test_skeletons_are_formatted_and_lint_clean(tmp_path: Path) -> None:
    paths = [write_skeleton("method", "lint_method", tmp_path), write_skeleton("task", "lint-task", tmp_path)]
    config = Path(__file__).resolve().parents[2] / "pyproject.toml"
    for command in (["check"], ["format", "--check"]):
        call = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(config), *map(str, paths)]
        result = subprocess.run(call, capture_output=True, text=True, check=False, cwd=config.parent)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("kind", "name"), [("method", "mine"), ("task", "mine")])
def test_in_a_checkout_they_go_into_the_plugin_folder(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / f"{kind}s").mkdir()
    (tmp_path / f"{kind}s" / "__init__.py").write_text("")
    assert w2s("new", kind, name) == f"wrote {kind}s/mine.py; run it with: w2s run --{kind}s mine\n"
    assert (tmp_path / f"{kind}s" / "mine.py").is_file()
    elsewhere = w2s("new", kind, "other", "--out", "new/folder")
    assert (
        elsewhere == f"wrote new/folder/other.py; run it with: w2s run --plugin new/folder/other.py --{kind}s other\n"
    )


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("methods", "mine", "unknown kind 'methods': expected method or task"),
        ("method", "MyMethod", r"method name 'MyMethod': expected lower-case letters, digits and '_', as in my_method"),
        ("method", "my-method", "expected lower-case letters, digits and '_'"),
        ("method", "2nd", "expected lower-case"),
        ("method", "../mine", "expected lower-case"),
        ("method", "", "expected lower-case"),
        ("method", "mine\n", "expected lower-case"),
        ("task", "my_task", "task name 'my_task': expected lower-case letters, digits and '-', as in my-task"),
        ("task", "a/b", "expected lower-case letters, digits and '-'"),
        ("method", "raven", "method name 'raven' is taken"),
        ("task", "digits-to-mnist", "task name 'digits-to-mnist' is taken"),
        *(("method", name, f"method name '{name}' is taken") for name in sorted(RESERVED)),
    ],
)
def test_malformed_and_taken_names_are_refused(tmp_path: Path, kind: str, name: str, message: str) -> None:
    with pytest.raises(W2SError, match=message):
        write_skeleton(kind, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("method", "none"),  # class None
        ("task", "true"),
        ("task", "domain"),  # class Domain, which the file also needs from benchmark.api
        ("task", "supervisor"),
        ("method", "batch"),
        ("task", "my-"),
        ("task", "a--b"),
        ("method", "mine_"),
    ],
)
def test_names_that_would_not_work_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(W2SError, match=f"{kind} name '{name}'"):
        write_skeleton(kind, name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("my work")
    for kind in ("method", "task"):
        with pytest.raises(W2SError, match=r"mine\.py: exists already"):
            write_skeleton(kind, "mine")
    assert (tmp_path / "mine.py").read_text() == "my work"
