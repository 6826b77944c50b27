"""`w2s verify`: a published cell is run again and compared; nothing of a submission runs unasked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.core.records import digest
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.scoring import compute_metrics
from benchmark.results.store import ResultStore, method_files
from benchmark.submissions import verify as verify_module
from support.command_line import CommandLine
from support.tiny_suite import ASKED, as_process, tiny_suite

ROOT = Path("results/tiny")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Published results with a submission among them."""
    with tiny_suite(tmp_path_factory.mktemp("verify")) as command:
        assert as_process(command, *ASKED).status == 0
        shutil.copytree("submissions/tiny/agreement", "results/tiny/agreement")
        yield command


@pytest.fixture
def published(suite: CommandLine, tmp_path: Path) -> Path:
    """A copy of the results that a test may change."""
    return shutil.copytree(ROOT, tmp_path / "tiny")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def alter(folder: Path, method: str, count: int) -> None:
    """So many right predictions of (tiny-one, ood, 0) are published as others, with hashes and scores that fit."""
    store = ResultStore(folder)
    found = store.load()
    (key,) = [
        key
        for key in found.records
        if (key.task, key.condition, key.method, key.seed) == ("tiny-one", "ood", method, 0)
    ]
    array = found.predictions[key]
    evaluation = found.evaluations["tiny-one", "ood"]
    right = np.flatnonzero(array == evaluation.seeds[0].labels)[:count]
    array.reshape(-1)[right] = (array.reshape(-1)[right] + 1) % 3
    found.records[key] = found.records[key].model_copy(
        update={"predictions_sha256": digest(array), "metrics": compute_metrics(evaluation, 0, array, key.method)}
    )
    records = [record for key, record in found.records.items() if key.method == method]
    for name, content in method_files(records, found.predictions).items():
        (folder / method / name).write_bytes(content)


@pytest.mark.parametrize("method", ["ensemble", "naive", "ground_truth"])
@pytest.mark.parametrize(("condition", "seed"), [("ood", "0"), ("ind", "1")])
def test_a_cell_is_reproduced_and_results_are_left_alone(
    suite: CommandLine, method: str, condition: str, seed: str
) -> None:
    before = contents(Path("results"))
    shown = suite("verify", method, "tiny-one", "--condition", condition, "--seed", seed, "--results", ROOT)
    assert (shown.status, shown.err) == (0, "")
    *_, last = shown.out.splitlines()
    assert last.startswith(f"equal: {method} on tiny-one/{condition}, seed {seed}: all ")
    assert contents(Path("results")) == before


def test_predictions_that_did_not_come_from_the_method(suite: CommandLine, published: Path) -> None:
    alter(published, "ensemble", 25)
    assert suite("validate", published / "ensemble", "--suite", "tiny", "--results", published).status == 0
    shown = suite("verify", "ensemble", "tiny-one", "--results", published)
    assert shown.status == 1
    assert "not reproduced: ensemble on tiny-one/ood, seed 0: 25 of " in shown.out
    assert suite("verify", "ensemble", "tiny-one", "--results", published, "--seed", "1").status == 0


def test_a_few_predictions_may_differ_on_another_machine(
    suite: CommandLine, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(published, "ensemble", 1)
    monkeypatch.setattr(verify_module, "DIFFERING", 0.1)
    monkeypatch.setattr(verify_module, "SCORE", 0.1)
    shown = suite("verify", "ensemble", "tiny-one", "--results", published)
    assert shown.status == 0
    assert "within the tolerance: ensemble on tiny-one/ood, seed 0: 1 of " in shown.out
    monkeypatch.setattr(verify_module, "SCORE", 0.0001)
    assert suite("verify", "ensemble", "tiny-one", "--results", published).status == 1


def test_what_may_explain_a_difference_is_listed(suite: CommandLine, published: Path) -> None:
    path = published / "ensemble" / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["libraries"] = {**line["libraries"], "numpy": "1.0", "gone": "3"}
        line["device"] = "a GPU"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = suite("verify", "ensemble", "tiny-one", "--results", published).out.splitlines()
    assert "differs: gone: published 3, here none" in shown
    assert any(line.startswith("differs: numpy: published 1.0, here ") for line in shown)
    assert "differs: device: published a GPU, here cpu" in shown


def test_other_supervisors_are_said(suite: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = TASKS["tiny-one"]
    others = [type(s)(type(s.model)(s.model.temperature + 3), s.domains, size=30) for s in task._supervisors]
    monkeypatch.setattr(task, "_supervisors", others)
    shown = suite("verify", "ensemble", "tiny-one", "--results", ROOT, "--cache", tmp_path / "cache")
    assert any(line.startswith("differs: supervisors: ") for line in shown.out.splitlines())
    assert any(line.startswith("differs: data_fingerprint: ") for line in shown.out.splitlines())


def test_a_submission_runs_only_when_its_file_is_named(suite: CommandLine, tmp_path: Path) -> None:
    asked = ("verify", "agreement", "tiny-one", "--results", ROOT)
    refusal = suite(*asked).refusal
    assert refusal == (
        "method 'agreement' is not registered here, and code from submissions is never run unasked; read "
        "results/tiny/agreement/method.py, and if you trust it add --plugin results/tiny/agreement/method.py"
    )
    assert "agreement" not in METHODS.names()
    shown = as_process(suite, *asked, "--plugin", ROOT / "agreement" / "method.py")
    assert shown.status == 0
    assert "equal: agreement on tiny-one/ood, seed 0" in shown.out
    other = tmp_path / "other.py"
    other.write_text("open('imported', 'w')")
    assert as_process(suite, *asked, "--plugin", other).refusal == (
        f"--plugin {other}: is not the source that was submitted, results/tiny/agreement/method.py"
    )
    assert not Path("imported").exists()


def test_invented_predictions_of_a_submission(suite: CommandLine, published: Path) -> None:
    alter(published, "agreement", 40)
    shown = as_process(
        suite, "verify", "agreement", "tiny-one", "--results", published, "--plugin", ROOT / "agreement/method.py"
    )
    assert shown.status == 1
    assert "not reproduced: " in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ensembel", "tiny-one"), "unknown method in results/tiny 'ensembel': did you mean 'ensemble'?"),
        (("ensemble", "tiny-on"), "unknown task in results/tiny 'tiny-on': did you mean 'tiny-one'?"),
        (("ensemble", "tiny-one", "--seed", "7"), "conditions and seeds there: ind 0, ind 1, ood 0, ood 1"),
        (("ensemble", "tiny-one", "--condition", "odd"), "not in results/tiny; conditions and seeds there"),
        (("ensemble", "tiny-one", "--suite", "tinny"), "unknown suite 'tinny'"),
        (("ensemble", "tiny-one", "--plugin", "nowhere.py"), "nowhere.py: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input(suite: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    assert message in suite("verify", *arguments, "--results", ROOT).refusal


def test_a_stale_cell_or_another_setting_is_not_compared(suite: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert suite("verify", "ensemble", "tiny-one", "--results", "nowhere").refusal == "nowhere: no results there"
    suites = Path("suites/other.toml")
    suites.write_text(Path("suites/tiny.toml").read_text().replace("epochs = 2", "epochs = 3"))
    refusal = suite("verify", "ensemble", "tiny-one", "--results", ROOT, "--suite", "other").refusal
    assert "here it would be run with" in refusal
    suites.unlink()
    monkeypatch.setattr(METHODS["ensemble"], "version", 2)
    refusal = suite("verify", "ensemble", "tiny-one", "--results", ROOT).refusal
    assert "is stale (ensemble version 1, now 2)" in refusal
