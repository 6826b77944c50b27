"""The workflow and the five commands for newcomers: they parse, exist, and the workflow can do no harm."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from benchmark.cli import app

ROOT = Path(__file__).parents[2]
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/validate.yml").read_text())
STEPS: list[dict[str, Any]] = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
SCRIPTS = [step["run"] for step in STEPS if "run" in step]
PAGE = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Submit a method\n")[1].split("\n## ")[0]
FIVE = [line.partition("#")[0].strip() for line in PAGE.split("```")[1].strip().splitlines()]


def w2s_commands(text: str) -> Iterator[list[str]]:
    """Words of every `w2s ...` in a shell script, without what follows it in the line."""
    for line in text.splitlines():
        found = re.search(r"(?:^|[ `])(w2s [a-z][^|;&`#]*)", line)
        if found:
            yield shlex.split(found[1])


def check(words: list[str]) -> None:
    """The command exists, and takes these arguments."""
    command = typer.main.get_command(app)
    assert words[1] in command.commands, words  # type: ignore[attr-defined]
    command.commands[words[1]].make_context(words[1], words[2:])  # type: ignore[attr-defined]


def test_the_workflows_commands_exist() -> None:
    found = [words for script in SCRIPTS for words in w2s_commands(script)]
    assert [words[1] for words in found] == ["validate", "leaderboard"]
    assert "--check" in found[1]
    for words in found:
        check(words)


def test_the_workflow_reads_only_and_runs_the_base() -> None:
    triggers = WORKFLOW[True]  # YAML's `on`
    assert set(triggers) == {"pull_request"}
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in WORKFLOW["jobs"].values())
    for step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
        assert "secrets" not in str(step)
        assert "${{" not in step.get("run", ""), "nothing of a pull request may become part of a script"
    (checkout,) = [step for step in STEPS if "checkout" in step.get("uses", "")]
    assert checkout["with"]["persist-credentials"] is False
    (install,) = [script for script in SCRIPTS if "pip install" in script]
    assert "-c base/constraints.txt ./base" in install
    for script in SCRIPTS:
        assert "python pr/" not in script
        assert "--plugin" not in script
        assert "w2s run" not in script
        assert "w2s submit" not in script
        assert "w2s verify" not in script


@pytest.mark.parametrize("script", SCRIPTS, ids=range(len(SCRIPTS)))
def test_the_workflows_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def run_step(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (script,) = [step["run"] for step in STEPS if step["name"].startswith(name)]
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_OUTPUT": str(folder / "output"),
    }
    call = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def write(folder: Path, names: list[str], content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "--allow-empty", "-m", message)


@pytest.mark.parametrize(
    ("changed", "status", "output", "folders"),
    [
        (["results/default/mine/manifest.json", "LEADERBOARD.md"], 0, "results_alone=true\n", ["results/default/mine"]),
        (["results/default/$(touch x)/records.jsonl"], 0, "results_alone=true\n", ["results/default/$(touch x)"]),
        (["results/default/ünï/manifest.json"], 0, "results_alone=true\n", ["results/default/ünï"]),
        (['results/default/"quoted"/manifest.json'], 1, "", []),
        (["results/default/mine/manifest.json", "benchmark/running/plan.py"], 1, "", ["results/default/mine"]),
        (
            ["results/default/mine/manifest.json", "results/default/_tasks/a.safetensors"],
            1,
            "",
            ["results/default/mine"],
        ),
        (["results/default/raven/records.jsonl", "methods/raven.py"], 0, "", ["results/default/raven"]),
    ],
    ids=["submission", "a name like a command", "letters", "quotes", "with code", "with truth", "of the project"],
)
def test_what_the_workflow_makes_of_changes(
    tmp_path: Path, changed: list[str], status: int, output: str, folders: list[str]
) -> None:
    pr = tmp_path / "pr"
    pr.mkdir()
    git(pr, "init")
    commit(pr, "base")
    write(pr, changed)
    commit(pr, "pull request")
    assert run_step("The base beside it", tmp_path).returncode == 0
    assert (tmp_path / "folders.txt").read_text().splitlines() == folders
    assert (tmp_path / "base").is_dir()
    assert run_step("Results alone", tmp_path).returncode == status
    assert ((tmp_path / "output").read_text() if (tmp_path / "output").exists() else "") == output
    assert not (tmp_path / "x").exists()


MINE, SHIPPED, INVALID, FILE = (f"results/default/{name}" for name in ("mine", "raven", "invalid", "notes"))


@pytest.mark.parametrize(
    ("change", "asked", "errors"),
    [
        (lambda pr: write(pr, [f"{MINE}/records.jsonl"], "y"), [MINE], []),
        (lambda pr: write(pr, [f"{INVALID}/manifest.json"]), [INVALID], []),
        (lambda pr: write(pr, [f"{SHIPPED}/records.jsonl"], "y"), [], [f"{SHIPPED}: has no manifest.json"]),
        (lambda pr: (pr / MINE / "manifest.json").unlink(), [], [f"{MINE}: has no manifest.json"]),
        (lambda pr: shutil.rmtree(pr / MINE), [], [f"{MINE}: removed"]),
        (lambda pr: shutil.rmtree(pr / "results"), [], [f"{MINE}: removed", f"{SHIPPED}: removed"]),
        (lambda pr: write(pr, [FILE]), [], [f"{FILE}: is no folder of a method"]),
    ],
    ids=["a submission", "an invalid one", "a shipped method", "no manifest", "removed", "all removed", "a file"],
)
def test_the_workflow_takes_valid_submissions_only(
    tmp_path: Path, change: Callable[[Path], None], asked: list[str], errors: list[str]
) -> None:
    """Its steps one after the other, with a `w2s` that says what it was asked and finds `invalid` invalid."""
    write(tmp_path, ["bin/w2s"], '#!/bin/sh\necho "asked: $*"\ncase "$2" in *invalid) exit 1 ;; esac\n')
    (tmp_path / "bin/w2s").chmod(0o755)
    pr = tmp_path / "pr"
    write(pr, [f"{folder}/{name}" for folder in (MINE, SHIPPED) for name in ("records.jsonl", "README.md")])
    write(pr, [f"{MINE}/manifest.json"])
    git(pr, "init")
    commit(pr, "base")
    change(pr)
    commit(pr, "pull request")
    assert run_step("The base beside it", tmp_path).returncode == 0
    assert run_step("Results alone", tmp_path).returncode == 0
    assert (tmp_path / "output").read_text() == "results_alone=true\n"
    validated = run_step("Every changed folder", tmp_path)
    lines = [line.partition(";")[0] for line in validated.stdout.splitlines()]
    assert [line for line in lines if line.startswith("::error::")] == [f"::error::{error}" for error in errors]
    assert [line for line in lines if line.startswith("asked: ")] == [
        f"asked: validate pr/{folder} --suite default --results base/results/default" for folder in asked
    ]
    assert validated.returncode == (0 if asked == [MINE] else 1)


def test_the_five_commands_exist() -> None:
    assert len(FIVE) == 5
    commands = [words for line in FIVE for words in w2s_commands(line)]
    assert [words[1] for words in commands] == ["new", "submit", "validate", "leaderboard"]
    for words in commands:
        check(words)
    assert FIVE[3] == "cp -r submissions/default/my_method results/default/"


def test_both_pages_say_which_files_change() -> None:
    readme = (ROOT / "README.md").read_text().split("\n## Submit a method\n")[1].split("\n## ")[0]
    for page in (readme, PAGE):
        sentence = next(part for part in " ".join(page.split()).split(". ") if "edited by hand" in part)
        assert all(word in sentence for word in ("LEADERBOARD.md", "regenerated", "never"))


def test_every_command_on_the_page_exists() -> None:
    command = typer.main.get_command(app)
    for name, rest in re.findall(r"`w2s (\w+)([^`]*)`", PAGE):
        options = {option for parameter in command.commands[name].params for option in parameter.opts}  # type: ignore[attr-defined]
        assert set(re.findall(r"--[a-z-]+", rest)) <= options


def test_the_template_names_what_the_page_does() -> None:
    template = (ROOT / ".github/pull_request_template.md").read_text()
    assert "w2s validate" in template
    assert "w2s leaderboard" in template
