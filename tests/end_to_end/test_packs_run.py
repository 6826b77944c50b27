"""Feature packs from the command line: records from a pack are those of the full pipeline."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from benchmark.base.errors import NotAvailable
from benchmark.base.paths import data_root, settings
from benchmark.core.names import CANARIES
from benchmark.core.registry import METHODS, TASKS, register_task
from benchmark.results.store import ResultStore
from support.command_line import CommandLine, without_untrained
from support.forked_runs import Forker
from support.made_up import Blobs, Columns

QUICK = ("--suite", "smoke", "--methods", "ensemble,naive,bootstrapping,ground_truth")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a results folder but the lock."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def blobs(w2s: CommandLine) -> Blobs:
    """Registered."""
    task = Blobs()
    register_task(task)
    return task


@pytest.fixture
def packed(w2s: CommandLine, blobs: Blobs) -> Path:
    """Its pack, with seeds 0 and 1."""
    shown = w2s("pack", "blobs", "--seeds", "2", "--out", "pack")
    assert (shown.status, shown.err) == (0, "")
    return Path("pack")


def test_records_are_those_of_the_full_pipeline(w2s: CommandLine, packed: Path, blobs: Blobs) -> None:
    asked = ("run", *QUICK, "--conditions", "ind,ood", "--seeds", "2")
    assert w2s(*asked, "--tasks", "blobs", "--results", "full").status == 0
    shutil.rmtree("cache")
    blobs.loads.clear()
    done = w2s("run", "--pack", "pack", *QUICK, "--results", "from-pack")
    assert (done.status, without_untrained(done.err), done.out) == (0, "", "2 units run, results in from-pack\n")
    assert contents(Path("from-pack")) == contents(Path("full"))
    assert len(contents(Path("full"))) == 2 + 2 * 4
    assert blobs.loads == []
    assert not Path("cache").exists(), "nothing was made anew"


def test_half_from_the_pack_and_half_from_the_full_pipeline(w2s: CommandLine, packed: Path) -> None:
    task = TASKS["blobs"]
    asked = ("run", *QUICK, "--conditions", "ind,ood", "--seeds", "2", "--tasks", "blobs")
    assert w2s(*asked, "--results", "full").status == 0
    assert w2s("run", "--pack", "pack", *QUICK, "--conditions", "ood", "--results", "mixed").status == 0
    TASKS.replace("blobs", task, "this test")
    rest = w2s(*asked, "--results", "mixed")
    assert (rest.status, rest.out) == (0, "1 units run, results in mixed\n")
    assert contents(Path("mixed")) == contents(Path("full"))
    again = w2s("run", "--pack", "pack", *QUICK, "--results", "mixed")
    assert (again.status, again.out) == (0, "nothing to do: all is in mixed\n")


def test_by_default_all_that_the_pack_has_is_run_with_the_suites_results(w2s: CommandLine, packed: Path) -> None:
    asked = ("run", "--pack", "pack", "--methods", "ensemble", "--dry-run")
    assert w2s(*asked).out.splitlines() == [
        "blobs (ind): ensemble (seeds 0, 1)",
        "blobs (ood): ensemble (seeds 0, 1)",
        "2 units to run, results in runs/default",
    ]
    assert w2s(*asked, "--conditions", "ood", "--seeds", "1").out.startswith("blobs (ood): ensemble (seeds 0)\n1 units")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pack", "pack", "--seeds", "3"], "pack/: has no seed 2, only 0, 1; ask for those, or pack the others too"),
        (["--pack", "pack", "--conditions", "odd"], "unknown condition 'odd'"),
        (["--pack", "pack", "--tasks", "blobs"], "--tasks: not with --arrays or --pack"),
        (["--pack", "pack", "--arrays", "mine.npz"], "--pack: not with --arrays"),
        (["--pack", "pack", "--split-by-group"], "--split-by-group: only with --arrays"),
        (["--pack", "nowhere"], "--pack nowhere: no such folder, and no data-set id (user/name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input(w2s: CommandLine, packed: Path, arguments: list[str], message: str) -> None:
    refusal = w2s("run", *arguments).refusal
    assert message.replace("pack/", str(Path("pack").absolute())) in refusal
    assert not Path("runs").exists()


def test_a_condition_that_the_pack_lacks(w2s: CommandLine, blobs: Blobs) -> None:
    assert w2s("pack", "blobs", "--conditions", "ood", "--seeds", "1", "--out", "pack").status == 0
    assert "has no condition 'ind', only ood" in w2s("run", "--pack", "pack", "--conditions", "ind,ood").refusal
    assert w2s("run", "--pack", "pack", "--methods", "ensemble", "--dry-run").out.startswith("blobs (ood)")


def test_an_altered_pack_is_refused_before_anything_runs(w2s: CommandLine, packed: Path) -> None:
    path = packed / "ind" / "supervision-1.safetensors"
    *data, last = path.read_bytes()
    path.write_bytes(bytes([*data, last ^ 1]))
    refusal = w2s("run", "--pack", "pack", "--conditions", "ood", "--seeds", "1").refusal
    assert "ind/supervision-1.safetensors was altered" in refusal
    assert not Path("runs").exists()
    shown = w2s("describe", "pack").out
    assert "ind/supervision-1.safetensors was altered" in shown


def test_pack_says_what_it_wrote_and_under_which_licence(w2s: CommandLine, blobs: Blobs) -> None:
    shown = w2s("pack", "blobs", "--seeds", "1", "--out", "packs/one").out.splitlines()
    sha256 = json.loads(Path("packs/one/pack.json").read_text())["sha256"]
    assert shown[:2] == ["blobs (ind): seed 0", "blobs (ood): seed 0"]
    assert shown[2].startswith("wrote packs/one: ind, ood, 1 seeds, 0.")
    assert shown[2].endswith(f" {sha256}")
    assert shown[3:] == ["licence: none; the pack may be shared under these terms"]


PRIVATE = """
from dataclasses import replace
from support.made_up import Blobs
from benchmark.api import register_task

task = Blobs(name="private-blobs")
task.card = replace(task.card, licence="own terms", redistribution="its terms forbid derived works")
register_task(task)
"""


def test_a_licence_that_forbids_sharing_is_said_on_creation_in_the_sheet_and_in_the_readme(w2s: CommandLine) -> None:
    Path("private.py").write_text(PRIVATE)
    line = (
        "licence: own terms; THE PACK MUST NOT BE SHARED: its terms forbid derived works; it is for your own use only"
    )
    shown = w2s("pack", "private-blobs", "--seeds", "1", "--out", "pack", "--plugin", "private.py")
    assert (shown.status, shown.out.splitlines()[-1]) == (0, line)
    assert not json.loads(Path("pack/pack.json").read_text())["may_share"]
    assert line[1:] in Path("pack/README.md").read_text()
    assert line in w2s("describe", "pack").out
    assert "not to be handed on: its terms forbid" in w2s("describe", "private-blobs").out
    assert w2s("run", "--pack", "pack", *QUICK).status == 0, "for one's own use"


def test_describe_prints_the_sheet(w2s: CommandLine, packed: Path) -> None:
    shown = w2s("describe", "pack")
    assert shown.status == 0
    assert shown.out.startswith("pack: feature pack of blobs, image task, version 1\n")
    for row in ("conditions   ind, ood", "seeds        0, 1", "files        complete and unaltered", "centroids"):
        assert row in shown.out
    (packed / "pack.json").write_text("{}")
    assert "pack.json has format None" in w2s("describe", "pack").refusal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["blbos", "--out", "pack"], "unknown task 'blbos': did you mean 'blobs'?"),
        (["blobs", "--out", "pack", "--conditions", "odd"], "task 'blobs' has no condition 'odd', only ind, ood"),
        (
            ["blobs", "--out", "pack", "--device", "gpu"],
            "--device gpu: expected auto, cpu or cuda (Apple's mps is untried)",
        ),
        (
            ["blobs", "--out", "."],
            "--out .: is there already; name another folder, or delete it first",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_of_pack(w2s: CommandLine, blobs: Blobs, arguments: list[str], message: str) -> None:
    Path("thesis.tex").write_text("mine")
    assert w2s("pack", *arguments).refusal == message
    assert [path.name for path in Path().iterdir()] == ["thesis.tex"]


class Remote(Blobs):
    """Data to be downloaded, a model that is fetched where that is allowed, and an encoder to choose."""

    options: ClassVar[Mapping[str, str]] = {"encoder": "its name"}

    def __init__(self) -> None:
        super().__init__(name="remote")
        self.here: list[tuple[str | None, str]] = []

    def configured(self, options: Mapping[str, Any]) -> Remote:
        task = copy.copy(self)
        if "encoder" in options:
            task.encoder = Columns(name=str(options["encoder"]), fingerprint=f"columns-{options['encoder']}")
        return task

    def missing(self) -> str | None:
        lacking = ["no data; run: w2s download"] * (not self.here)
        lacking += ["no model; run with --download"] * (not settings().download)
        return "; ".join(lacking) or None

    def download(self, mirror: str | None, say: Callable[[str], None]) -> None:
        if mirror == "http://broken":
            raise NotAvailable("could not download")
        self.here.append((mirror, str(data_root())))


@pytest.fixture
def remote(w2s: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """Registered."""
    task = Remote()
    register_task(task)
    return task


def test_pack_downloads_when_asked_into_the_data_root(w2s: CommandLine, remote: Remote) -> None:
    asked = ("pack", "remote", "--seeds", "1", "--out", "pack", "--data-root", "data")
    assert w2s(*asked).refusal == "not packed: remote: no data; run: w2s download; no model; run with --download"
    assert w2s(*asked, "--mirror", "http://mirror").refusal == "--mirror: only with --download"
    assert remote.here == []
    done = w2s(*asked, "--download", "--mirror", "http://mirror")
    assert (done.status, done.err) == (0, "")
    assert remote.here == [("http://mirror", str(Path("data").absolute()))]


def test_nothing_is_downloaded_for_a_pack_that_cannot_be_made(w2s: CommandLine, remote: Remote) -> None:
    refusal = w2s("pack", "remote", "--conditions", "odd", "--out", "pack", "--download").refusal
    assert "has no condition 'odd'" in refusal
    assert remote.here == []


def test_options_of_the_packed_task(w2s: CommandLine, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("pack", "remote", "--seeds", "1", "--out", "pack", "--download")
    assert w2s(*asked, "--set", "encoder=other").status == 0
    sheet = json.loads(Path("pack/pack.json").read_text())
    assert (sheet["encoder"], sheet["encoder_fingerprint"]) == ("other", "columns-other")
    assert w2s(*asked, "--set", "encodr=other").refusal == "unknown option 'encodr': did you mean 'encoder'?"
    assert w2s(*asked, "--set", "encoder").refusal == "--set encoder: expected name=value"
    assert "unknown option 'epochs'" in w2s(*asked, "--set", "epochs=3").refusal, "the student's, which no pack holds"


def test_download_fetches_data_and_models_and_says_what_is_still_missing(w2s: CommandLine, remote: Remote) -> None:
    failed = w2s("download", "remote", "--mirror", "http://broken")
    assert (failed.status, failed.out) == (1, "remote: could not download\n")
    done = w2s("download", "remote", "--data-root", "data")
    assert (done.status, done.out) == (0, "remote: all is here\n")
    assert remote.here == [(None, str(Path("data").absolute()))]


def test_without_a_network_one_line_says_so_soon(forker: Forker, tmp_path: Path) -> None:
    """The real library, in a process of its own as it reads its settings once."""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}
    reasons = {
        ("--download",): "could not be downloaded (",
        (): "is not on this machine; run with --download, or ",
        ("--download", "--dry-run"): "is not on this machine; run with --download, or ",
    }
    for arguments, reason in reasons.items():
        start = time.monotonic()
        done = forker.run("run", "--pack", "user/name", *arguments, folder=str(tmp_path), environment=nowhere)
        assert time.monotonic() - start < 60
        assert (done.status, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert line.startswith(f"error: --pack user/name: no such folder, and the data set {reason}")
        assert line.endswith("download it elsewhere and give its folder")


@pytest.mark.slow
def test_a_shipped_task_with_all_methods(forker: Forker, smoke_results: Path, tmp_path: Path) -> None:
    """Texts, encoder, supervisors and the user's ordinary cache; from the pack with an empty one."""
    name, run = "sentiment-to-tweets", ("run", "--suite", "smoke", "--pack", "pack", "--results", "from-pack")
    for arguments in (
        ("pack", name, "--seeds", "2", "--conditions", "ood", "--out", "pack", "--device", "cpu"),
        (*run, "--device", "cpu", "--cache", "empty"),
    ):
        done = forker.run(*arguments, folder=str(tmp_path))
        assert done.status == 0, done
    full, found = ResultStore(smoke_results).load(), ResultStore(tmp_path / "from-pack").load()
    expected = {key: record for key, record in full.records.items() if key.task == name}
    assert found.records == expected
    assert {key.method for key in expected} == {*METHODS.select(["*"]), *CANARIES}
    for key in expected:
        np.testing.assert_array_equal(found.predictions[key], full.predictions[key])
    truth = f"_tasks/{name}-ood.safetensors"
    assert (tmp_path / "from-pack" / truth).read_bytes() == (smoke_results / truth).read_bytes()
    assert not (tmp_path / "empty").exists()
