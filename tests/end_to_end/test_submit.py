"""`w2s submit`: one folder, resumed, and only when its supervisors are the published ones."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.core.registry import METHODS, TASKS
from benchmark.results.manifest import Manifest
from benchmark.results.store import ResultStore
from support.command_line import CommandLine, Outcome
from support.made_up import Blobs, Centroids
from support.tiny_suite import AGREEMENT, ASKED, RECORDS, as_process, tiny_suite

FOLDER = Path("submissions/tiny/agreement")
FILES = {"records.jsonl", "predictions.safetensors", "manifest.json", "method.py", "README.md"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published results, made once."""
    folder = tmp_path_factory.mktemp("template")
    with tiny_suite(folder):
        return folder


@pytest.fixture
def w2s(tmp_path: Path, template: Path) -> Iterator[CommandLine]:
    with tiny_suite(tmp_path, template) as command:
        yield command


def submit(w2s: CommandLine, *more: str) -> Outcome:
    return as_process(w2s, *ASKED, *more)


def test_the_folder_is_what_results_hold_and_a_table_is_made_of_it(w2s: CommandLine) -> None:
    published = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    shown = submit(w2s)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.splitlines()[-1] == (
        f"wrote {FOLDER}: {RECORDS} records; fill in README.md there, then: w2s validate {FOLDER}"
    )
    assert {path.name for path in FOLDER.iterdir()} == FILES
    assert published == {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    checked = w2s("validate", FOLDER)
    assert (checked.status, checked.out.splitlines()) == (
        0,
        [
            "[readme] warning: README.md: fill in authors, link, description",
            f"valid: agreement, {RECORDS} records, suite tiny; 1 warnings",
        ],
    )

    shutil.copytree(FOLDER, "results/tiny/agreement")
    (Path("results/tiny/agreement") / "method.py").write_text("raise SystemExit('imported')")
    assert "agreement" in w2s("leaderboard", "--results", "results/tiny").out
    assert "| Agreement" in Path("LEADERBOARD.md").read_text()
    assert w2s("leaderboard", "--results", "results/tiny", "--check").status == 0
    assert "agreement" not in METHODS.names(), "nothing of a submission was imported"
    contents = ResultStore(Path("results/tiny")).load()
    assert contents.problems == []
    mine = [record for key, record in contents.records.items() if key.method == "agreement"]
    assert len(mine) == RECORDS
    assert all(contents.misfit(record) is None for record in mine)


def test_the_manifest(w2s: CommandLine) -> None:
    assert submit(w2s).status == 0
    manifest = Manifest.model_validate_json((FOLDER / "manifest.json").read_bytes())
    assert (manifest.suite, manifest.method, manifest.method_version) == ("tiny", "agreement", 1)
    assert manifest.options == {"sharpness": 20.0}
    assert manifest.files == {
        name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
        for name in ("records.jsonl", "predictions.safetensors", "method.py")
    }
    assert (FOLDER / "method.py").read_text() == AGREEMENT
    evaluations = ResultStore(Path("results/tiny")).load().evaluations
    assert {(cell.task, cell.condition): cell.evaluations for cell in manifest.cells} == {
        unit: {seed: truth.sha256 for seed, truth in evaluation.seeds.items()}
        for unit, evaluation in evaluations.items()
    }
    assert all(
        cell.data_fingerprint == evaluations[cell.task, cell.condition].data_fingerprint for cell in manifest.cells
    )
    assert str(Path.cwd()) not in (FOLDER / "manifest.json").read_text()
    assert (manifest.developed_on, manifest.statement) == (None, "not stated")
    assert "developed_on" not in (FOLDER / "manifest.json").read_text(), "as manifests were before"
    records = (FOLDER / "records.jsonl").read_bytes()
    assert submit(w2s, "--developed-on", "suite développement").status == 0
    stated = Manifest.model_validate_json((FOLDER / "manifest.json").read_bytes())
    assert stated == manifest.model_copy(update={"developed_on": "suite développement"})
    assert (FOLDER / "records.jsonl").read_bytes() == records


def test_the_same_command_goes_on_and_gives_the_same_bytes(w2s: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.running.executors import contract

    def stopped(unit: object, setup: object, say: object) -> None:
        raise RuntimeError("stopped")

    execute = contract.execute
    calls = []

    def one_unit(unit, setup, say):  # type: ignore[no-untyped-def]
        calls.append(unit.label)
        return execute(unit, setup, say) if len(calls) == 1 else stopped(unit, setup, say)

    monkeypatch.setattr(contract, "execute", one_unit)
    first = submit(w2s)
    assert first.status == 1
    assert first.out.splitlines()[-1] == (
        f"nothing written: {RECORDS - 2} of {RECORDS} records are missing; the same command goes on"
    )
    assert not FOLDER.exists()
    monkeypatch.setattr(contract, "execute", execute)
    assert "3 units run" in submit(w2s).out
    written = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    (FOLDER / "README.md").write_text("# Mine\n")
    again = submit(w2s)
    assert "nothing to do" in again.out
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == {**written, "README.md": b"# Mine\n"}
    shutil.rmtree(FOLDER)
    shutil.rmtree("runs")
    assert submit(w2s).status == 0
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == written


def test_nothing_is_taken_over_from_another_source(w2s: CommandLine) -> None:
    assert submit(w2s).status == 0
    before = (FOLDER / "predictions.safetensors").read_bytes()
    Path("agreement.py").write_text(AGREEMENT.replace("** self.sharpness", "** -self.sharpness"))
    shown = submit(w2s)
    assert "4 units run" in shown.out
    assert (FOLDER / "predictions.safetensors").read_bytes() != before
    assert "-self.sharpness" in (FOLDER / "method.py").read_text()


class OtherCentroids(Centroids):
    """The same recipe, whose arithmetic gives something else here."""

    name = Centroids.name

    def fit(self, inputs, labels, num_classes, seed):  # type: ignore[no-untyped-def]
        return super().fit(inputs, labels, num_classes, seed + 1)


@pytest.mark.parametrize("first", [True, False])
def test_other_supervisors_than_the_published_are_said_before_the_long_run_where_it_can_be(
    w2s: CommandLine, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    shutil.rmtree("cache")
    OtherCentroids.__module__ = Centroids.__module__
    task = TASKS["tiny-one" if first else "tiny-two"]
    others = [type(s)(OtherCentroids(s.model.temperature), s.domains, size=s.size) for s in task._supervisors]
    monkeypatch.setattr(task, "_supervisors", others)
    shown = submit(w2s)
    text = shown.err if first else shown.out
    assert shown.status == (2 if first else 1)
    assert "of the supervisors' predictions differ from the published ones" in text
    assert "Install the versions of constraints.txt" in text
    assert ("tiny-one (ood), seed 0" if first else "tiny-two (ind), seed 0") in text
    assert not FOLDER.exists()
    assert Path("runs").exists() == (not first)


def test_other_data_than_the_published_are_refused_before_anything_runs(w2s: CommandLine) -> None:
    TASKS.replace("tiny-two", Blobs((140, 140, 160), name="tiny-two", edition="2"), "this test")
    shown = submit(w2s)
    assert shown.status == 2
    assert "tiny-two: its data here differ from those of results/tiny" in shown.err
    assert not Path("runs").exists()


def test_without_published_results_it_warns_and_runs(w2s: CommandLine) -> None:
    shutil.rmtree("results")
    shown = submit(w2s, "--out", "elsewhere")
    assert shown.status == 0
    assert shown.out.startswith("warning: no results in results/tiny: ")
    assert {path.name for path in Path("elsewhere/agreement").iterdir()} == FILES


def two_methods() -> None:
    other = AGREEMENT.replace('"agreement"', '"other"').replace("class Agreement", "class Other")
    Path("agreement.py").write_text(AGREEMENT + other)


def test_one_of_several_methods(w2s: CommandLine) -> None:
    two_methods()
    assert submit(w2s).refusal == "agreement.py: registers 2 methods (agreement, other); say which with --method NAME"
    assert "unknown method of agreement.py 'others': did you mean 'other'?" in submit(w2s, "--method", "others").refusal
    assert submit(w2s, "--method", "other").status == 0
    assert json.loads(Path("submissions/tiny/other/manifest.json").read_text())["method"] == "other"


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda text: "x = 1", (), "agreement.py: registers no method; `w2s new method NAME` shows how"),
        (lambda text: text.replace('"agreement"', '"ensemble"'), (), "duplicate method name 'ensemble'"),
        (lambda text: text.replace('"agreement"', '"ground_truth"'), (), "is reserved for a canary"),
        (
            lambda text: (
                text + "\nfrom support.made_up import Blobs\nfrom benchmark.api import register_task\n"
                "register_task(Blobs(name='tiny-three'))\n"
            ),
            (),
            "agreement.py: registers tasks too; a submission is a file with a method",
        ),
        (lambda text: text, ("--set", "epochs=9"), "--set epochs: suite 'tiny' says what it is"),
        (lambda text: text, ("--set", "nothing=9"), "unknown option 'nothing'"),
        (lambda text: text, ("--out", "results"), "results/agreement: is there and no submission"),
        (
            lambda text: text,
            ("--developed-on", " "),
            "--developed-on ' ': expected 1 to 200 characters that can be seen",
        ),
        (lambda text: text, ("--developed-on", "a\u202e"), "characters that can be seen"),
        (lambda text: text, ("--developed-on", "a" * 201), "expected 1 to 200 characters"),
    ],
    ids=["no method", "taken", "reserved", "task", "recipe", "option", "folder", "blank", "unseen", "long"],
)
def test_bad_input(w2s: CommandLine, change, arguments: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    Path("agreement.py").write_text(change(AGREEMENT))
    Path("results/agreement").mkdir()
    (Path("results/agreement") / "notes.txt").write_text("mine")
    assert message in submit(w2s, *arguments).refusal
    assert not Path("submissions").exists()
    assert not Path("runs").exists()


def test_a_task_that_is_not_here(w2s: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS["tiny-two"], "missing", lambda: "not installed: x; run: pip install x")
    assert submit(w2s).refusal.startswith("a submission needs every task of the suite, but tiny-two can't be run here")


def test_a_method_that_fails(w2s: CommandLine) -> None:
    Path("agreement.py").write_text(
        AGREEMENT.replace("return cross", "return np.nan * cross") + "\nimport numpy as np\n"
    )
    shown = submit(w2s)
    assert shown.status == 1
    assert f"nothing written: {RECORDS} of {RECORDS} records are missing" in shown.out
    assert not FOLDER.exists()
