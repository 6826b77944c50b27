"""`w2s validate`: an untouched submission passes; every kind of broken or tampered one is caught and named."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import Record, digest, setting_hash
from benchmark.core.registry import METHODS
from benchmark.core.scoring import compute_metrics
from benchmark.results.manifest import HASHED, Manifest, manifest_of
from benchmark.results.store import ResultStore, _evaluation_bytes
from benchmark.running import plan
from benchmark.submissions import validate as validate_module
from benchmark.submissions.findings import KINDS, Finding, report
from support.command_line import CommandLine
from support.tiny_suite import ASKED, RECORDS, as_process, tiny_suite

README = (
    "# Agreement\n\n- authors: A. Nonymous\n- link: https://example.org/paper\n\nIt weighs examples by agreement.\n"
)
Spoil = Callable[["Copy"], Any]
FOLDER, PUBLISHED = Path("submissions/tiny/agreement"), Path("results/tiny")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Published results, and a submission with its README filled in."""
    with tiny_suite(tmp_path_factory.mktemp("validate")) as command:
        assert as_process(command, *ASKED).status == 0
        (FOLDER / "README.md").write_text(README)
        yield command


class Copy:
    """A copy of a folder, to be spoiled. `rows` are its records and their predictions, in the order of results."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = shutil.copytree(source, folder)
        lines = [json.loads(line) for line in self["records.jsonl"].read_text().splitlines()]
        arrays = load_file(self["predictions.safetensors"])
        self.rows: list[list[Any]] = [[line, arrays[name_of(line)]] for line in lines]
        self.more: dict[str, Any] = {}  # tensors of no record

    def __getitem__(self, name: str) -> Path:
        return self.folder / name

    def write(self, seal: bool = True, **metadata: str) -> None:
        """Records and predictions, and a manifest that fits."""
        text = (json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for line, _ in self.rows)
        self["records.jsonl"].write_text("".join(f"{line}\n" for line in text))
        arrays = {name_of(line): array for line, array in self.rows if array is not None}
        save_file(arrays | self.more, self["predictions.safetensors"], metadata=metadata or None)
        if seal:
            self.seal()

    def seal(self) -> None:
        """A manifest that fits; for records that no manifest has, the old one with new hashes."""
        old = Manifest.model_validate_json(self["manifest.json"].read_bytes())
        files = {name: self[name].read_bytes() for name in HASHED}
        try:
            records = [Record.model_validate_json(line) for line in files["records.jsonl"].splitlines()]
            new = manifest_of(old.suite, old.citation, records, files, old.developed_on)
        except ValueError:
            new = old.model_copy(update={"files": {n: hashlib.sha256(d).hexdigest() for n, d in files.items()}})
        self["manifest.json"].write_text(new.to_text())

    def each(self, **changes: Any) -> None:
        """Other values in all records."""
        for line, _ in self.rows:
            line |= changes

    def set(self, **changes: dict[str, Any]) -> None:
        """Other hyperparameters in the last record, with their hash."""
        line = self.rows[-1][0]
        chosen = line["hyperparameters"]
        line["hyperparameters"] = {**chosen, **{part: {**chosen.get(part, {}), **new} for part, new in changes.items()}}
        line["setting"] = setting_hash(line["hyperparameters"])
        self.rows.sort(key=lambda row: name_of(row[0]))

    def rename(self, name: str) -> None:
        self.each(method=name)
        self.folder = self.folder.rename(self.folder.parent / name)


def name_of(line: dict[str, Any]) -> str:
    return f"{line['task']}/{line['condition']}/{line['setting']}/{line['seed']}"


@pytest.fixture
def copy(suite: CommandLine, tmp_path: Path) -> Copy:
    return Copy(FOLDER, tmp_path / "agreement")


def kinds(out: str) -> set[str]:
    *lines, last = out.splitlines()
    assert last.startswith(("valid: ", "not valid: "))
    assert all(re.match(r"\[[\w-]+\] ", line) or line.startswith("rebuilding ") for line in lines)
    return {line[1 : line.index("]")] for line in lines if line.startswith("[")}


def validate(suite: CommandLine, folder: Path, *more: str | Path) -> tuple[int, set[str], str]:
    shown = suite("validate", folder, "--suite", "tiny", *more)
    assert shown.err == ""
    return shown.status, kinds(shown.out), shown.out


def flip(array: Any) -> Any:
    """Other classes for five examples."""
    array = array.copy()
    array[0, :5] = (array[0, :5] + 1) % 3
    return array


def consistently(copy: Copy) -> None:
    """Predictions, and in the record their hash and the score, but not the manifest."""
    line, array = copy.rows[0]
    evaluation = ResultStore(PUBLISHED).load().evaluations[line["task"], line["condition"]]
    metrics = compute_metrics(evaluation, line["seed"], flip(array), line["method"])
    copy.rows[0] = [{**line, "predictions_sha256": digest(flip(array)), "metrics": metrics}, flip(array)]
    copy.write(seal=False)


def from_ensemble(copy: Copy) -> None:
    """Predictions, hashes and scores of `ensemble`, as if they were one's own."""
    theirs = Copy(PUBLISHED / "ensemble", copy.folder.parent / "theirs").rows
    for row, (line, array) in zip(copy.rows, theirs, strict=True):
        row[:] = {**row[0], **{name: line[name] for name in ("metrics", "predictions_sha256")}}, array


def as_float8(data: bytes) -> bytes:
    """A safetensors file whose first tensor says that it is of float8."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = data[8:end].replace(b'"U8"', b'"F8_E4M3"', 1)
    return len(header).to_bytes(8, "little") + header + data[end:]


def swapped(copy: Copy) -> None:
    """The predictions of two seeds."""
    one, two = copy.rows[:2]
    one[1], two[1] = two[1], one[1]


def two_settings(copy: Copy) -> None:
    also()(copy)
    copy.set(method={"sharpness": 9.0})


def linked(copy: Copy) -> None:
    copy["README.md"].unlink()
    copy["README.md"].symlink_to("/etc/hostname")


def called(name: str, title: str = "Agreement", **more: Any) -> Spoil:
    return lambda copy: (copy.rename(name), copy.each(title=title, **more))


def first(**changes: Any) -> Spoil:
    """Other values in the first record."""
    return lambda copy: copy.rows[0][0].update(changes)


def each(**changes: Any) -> Spoil:
    return lambda copy: copy.each(**changes)


def predicted(change: Callable[[Any], Any]) -> Spoil:
    """Other predictions of the first record."""
    return lambda copy: copy.rows[0].append(change(copy.rows[0].pop()))


def weights(*values: Any) -> Spoil:
    return first(diagnostics={"weights": values})


def lost(**where: Any) -> Spoil:
    def spoil(copy: Copy) -> None:
        copy.rows = [row for row in copy.rows if any(row[0][name] != value for name, value in where.items())]

    return spoil


def also(**changes: Any) -> Spoil:
    """The last record once more, with other values."""
    return lambda copy: copy.rows.append([{**copy.rows[-1][0], **changes}, copy.rows[-1][1]])


def more(name: str) -> Spoil:
    """A tensor of no record."""
    return lambda copy: copy.more.update({name: copy.rows[0][1]})


def without(name: str) -> Spoil:
    return lambda copy: copy[name].unlink()


def beside(name: str) -> Spoil:
    return lambda copy: copy[name].write_text("")


def edited(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    """The bytes of one file, and a manifest with their hash."""

    def spoil(copy: Copy) -> None:
        copy[name].write_bytes(change(copy[name].read_bytes()))
        if name != "manifest.json":
            copy.seal()

    return spoil


def stated(words: str | None) -> Spoil:
    """What the method was developed on."""

    def spoil(copy: Copy) -> None:
        values = json.loads(copy["manifest.json"].read_bytes()) | {"developed_on": words}
        text = json.dumps(values, sort_keys=True, indent=1, ensure_ascii=False)
        copy["manifest.json"].write_text(f"{text}\n")

    return spoil


# What is done to records and predictions, each with a manifest that fits; the kinds that are found, and what is said.
CONTENT: dict[str, tuple[Spoil, str, str]] = {
    "an edited score": (first(metrics={"accuracy": 0.123}), "edited-score", "metrics.accuracy: found 0.123"),
    "a metric more": (lambda c: c.rows[0][0]["metrics"].update(macro_f1=0.5), "edited-score", "macro_f1"),
    "an edited prediction": (predicted(flip), "misfit", "predictions_sha256"),
    "predictions of two seeds swapped": (swapped, "misfit", "predictions_sha256"),
    "other data": (each(data_fingerprint="0" * 64), "misfit", "data_fingerprint"),
    "other supervisors": (first(evaluation_sha256="0" * 64), "misfit", "evaluation_sha256"),
    "another number of test examples": (first(n_test=7), "misfit", "n_test 7"),
    "a class that the task doesn't have": (predicted(lambda x: x + 1), "misfit", "class id 3"),
    "too many replicas": (predicted(lambda x: np.repeat(x, 3, 0)), "misfit", "shape (3, "),
    "single with one replica": (each(kind="single"), "misfit", "expected (3, "),
    "too few examples": (predicted(lambda x: x[:, 1:].copy()), "misfit", "found shape"),
    "a record without predictions": (predicted(lambda x: None), "misfit", "its predictions are missing"),
    "a missing task": (lost(task="tiny-two"), "missing-record", "tiny-two (ood): no record of seeds 0, 1"),
    "a missing condition": (lost(task="tiny-two", condition="ind"), "missing-record", "tiny-two (ind)"),
    "a missing seed": (lost(task="tiny-one", condition="ood", seed=1), "missing-record", "seeds 1"),
    "a task of no suite": (also(task="zebra"), "foreign-record", "zebra"),
    "a seed that nobody else has": (also(seed=9), "foreign-record", "seed 9"),
    "predictions of no record": (more(f"a/ood/{0:012}/7"), "foreign-record", "on a/ood"),
    "a tensor of no record's form": (more("notes"), "unreadable", "notes"),
    "predictions that are numbers": (predicted(lambda x: x.astype("float32")), "unreadable", "found float32"),
    "predictions with NaN": (predicted(lambda x: np.full(x.shape, np.nan, "float32")), "unreadable", "nan"),
    "predictions below 0": (predicted(lambda x: x.astype("int8") - 1), "unreadable", "minimum -1"),
    "predictions of another type": (predicted(lambda x: x.astype("int64")), "not-canonical", "predictions.safetensors"),
    "NaN": (first(metrics={"accuracy": float("nan")}), "unreadable", "records.jsonl:1: metrics.accuracy"),
    "a score above 1": (first(metrics={"accuracy": 1.2}), "unreadable", "metrics.accuracy"),
    "a negative cost": (first(cost=-1), "unreadable", "cost"),
    "weights that are not a number": (weights(float("nan"), 0.5, 0.5), "unreadable", "diagnostics.weights"),
    "an infinite weight": (weights(float("inf"), 0.0, 0.0), "unreadable", "diagnostics.weights"),
    "a field that is unknown": (first(rank=1), "unreadable", "rank"),
    "a field that is missing": (lambda c: c.rows[0][0].pop("device"), "unreadable", "device"),
    "a schema of the future": (first(schema_version=2), "unreadable", "schema_version"),
    "a setting that is not its hash": (first(setting="0" * 12), "unreadable", "setting"),
    "a doubled record": (also(), "unreadable", "repeats line"),
    "a record with two scores": (also(metrics={"accuracy": 0.5}), "unreadable", "repeats line"),
    "records of another method": (each(method="ensemble"), "unreadable", "found 'ensemble'"),
    "one record of another method": (first(method="ensemble"), "unreadable", "records.jsonl:1: method"),
    "two settings": (two_settings, "doubled-record other-setting", "seeds 1"),
    "an unknown setting": (lambda c: c.set(method={"sharpness": 9.0}), "other-setting", "'sharpness': 9.0"),
    "a student that trained longer": (lambda c: c.set(student={"epochs": 5}), "other-setting", "'epochs': 5"),
    "a student in less precision": (lambda c: c.set(student={"precision": "bf16"}), "other-setting", "bf16"),
    "hyperparameters of a third kind": (lambda c: c.set(more={"a": 1}), "other-setting", "'more': {'a': 1}"),
    "a student that is another": (lambda c: c.set(student={"layers": 2}), "other-setting", "'layers': 2"),
    "more train examples": (first(n_train=10**12), "other-setting impossible-value", "1000000000000 examples"),
    "a cost that no training has": (first(cost=12345), "impossible-value", "cost 12345"),
    "no cost": (first(cost=0), "impossible-value", "cost 0"),
    "weights below 0": (weights(-0.5, 1.0, 0.5), "impossible-value", "weights"),
    "weights that don't sum to 1": (weights(0.5, 0.3, 0.1), "impossible-value", "weights"),
    "weights in lists": (weights(1.0, [0.0]), "impossible-value", "weights"),
    "no weights in their list": (weights(), "impossible-value", "weights"),
    "an engine of the future": (
        each(engine_version=99),
        "other-version",
        f"engine version 99, here it is {ENGINE_VERSION}",
    ),
    "another version of the task": (first(task_version=9), "other-version misfit", "task version 9, here it is 1"),
    "versions that are mixed": (first(method_version=2), "manifest-mismatch", "differ in method_version"),
    "a canary's kind": (each(kind="canary"), "manifest-mismatch", "kind"),
    "a method of the project": (called("raven"), "taken-name", "'raven'"),
    "one of a higher version": (called("naive", method_version=9), "taken-name other-version", "'naive'"),
    # scored as if it had seen the truth
    "a canary": (called("ground_truth"), "taken-name edited-score", "'ground_truth'"),
    "a reference row": (called("mean_supervisor"), "taken-name", "'mean_supervisor'"),
    "a published title": (called("mine", "RAVEN"), "taken-name", "that of 'raven'"),
    "a title in other case, forms and spaces": (called("mine", " ｒaven\u00a0 "), "taken-name bad-text", "of 'raven'"),
    "a title with more between its words": (called("mine", "Majority  VOTE "), "taken-name", "that of 'majority_vote'"),
    "a title with what is not seen in it": (called("mine", "RA\u200bVEN"), "taken-name bad-text", "of 'raven'"),
    "a reference row's title": (called("mine", "Supervisors' mean score"), "taken-name", "mean_superv"),
    "a title that no terminal shows": (called("mine", "Mine\u202e"), "bad-text", "u202e"),
    "a title of spaces": (called("mine", "  "), "bad-text", "' '"),
    "predictions of another method": (from_ensemble, "copied-predictions", "'ensemble'"),
}
# What is done to files.
FILES: dict[str, tuple[Spoil, str, str]] = {
    "an edited prediction, hash and score": (consistently, "manifest-mismatch", "records.jsonl: is not the file"),
    "an edited source": (lambda c: c["method.py"].write_text("# faster\n"), "manifest-mismatch", "method.py: is not"),
    **{f"no {name}": (without(name), "missing-file", name) for name in (*HASHED, "manifest.json", "README.md")},
    **{f"{name} too": (beside(name), "foreign-file", name) for name in ("a.bin", "replies.jsonl", "judgements.jsonl")},
    "a folder more": (lambda c: c["__pycache__"].mkdir(), "foreign-file", "__pycache__"),
    "a link": (linked, "foreign-file missing-file", "a link"),
    "a huge file": (edited("method.py", lambda d: b"#" * (2**20 + 1)), "foreign-file missing-file", "1048577 bytes"),
    "spaces after a manifest": (edited("manifest.json", lambda d: d + b"\n"), "not-canonical", "manifest.json"),
    "spaces in a line": (edited("records.jsonl", lambda d: d.replace(b"{", b"{ ", 1)), "not-canonical", "records"),
    "a field twice": (edited("records.jsonl", lambda d: d.replace(b"{", b'{"cost":1,', 1)), "not-canonical", "records"),
    "another order": (
        edited("records.jsonl", lambda d: b"".join(d.splitlines(True)[::-1])),
        "not-canonical",
        "records",
    ),
    "predictions of a type that numpy lacks": (edited("predictions.safetensors", as_float8), "unreadable", "float8"),
    "content hidden in the predictions": (lambda c: c.write(note="hidden"), "not-canonical", "predictions"),
    "a statement that no terminal shows": (stated("Mine\u202e"), "bad-text", "u202e"),
    "a statement of spaces": (stated(" "), "bad-text", "developed_on ' '"),
    "a statement that goes on": (stated("a" * 201), "manifest-mismatch", "developed_on"),
    "a statement of nothing": (stated(None), "not-canonical", "manifest.json"),
    "a link that is no address": (edited("README.md", lambda d: d.replace(b"https:", b"java:")), "readme", "'java:"),
    "a README that is not filled in": (lambda c: c["README.md"].write_text("# A\n"), "readme", "authors, link, descr"),
}
WARNINGS = {"predictions of another method", "a README that is not filled in"}
ELSEWHERE = {"no-manifest", "wrong-truth"}  # kinds with a test of their own


@pytest.mark.parametrize("what", [*CONTENT, *FILES])
def test_what_is_broken_or_tampered_with_is_named(suite: CommandLine, copy: Copy, what: str) -> None:
    spoil, expected, said = (CONTENT | FILES)[what]
    spoil(copy)
    if what in CONTENT:
        copy.write()
    status, found, out = validate(suite, copy.folder)
    assert found == set(expected.split()), out
    assert said in out
    assert status == (what not in WARNINGS)
    assert out.splitlines()[-1].startswith(f"{'not ' if status else ''}valid: {copy.folder.name}, ")
    assert ("] warning: " in out) == (what in WARNINGS)


def test_what_it_was_developed_on_may_be_stated(suite: CommandLine, copy: Copy) -> None:
    stated("the suite `development`, then these tests once")(copy)
    assert validate(suite, copy.folder)[:2] == (0, set())


def test_every_kind_has_a_case() -> None:
    tested = set(" ".join(kinds for _, kinds, _ in (CONTENT | FILES).values()).split())
    assert tested | ELSEWHERE == set(KINDS)
    assert not tested & ELSEWHERE
    with pytest.raises(ValueError, match="unknown kind"):
        Finding("nonsense", "")


def test_an_untouched_submission_is_valid(suite: CommandLine, copy: Copy) -> None:
    shown = suite("validate", copy.folder)
    assert (shown.status, shown.out) == (0, f"valid: agreement, {RECORDS} records, suite tiny\n")
    weights(0.0, 0.3334, 0.6667)(copy)
    copy.write()
    assert validate(suite, copy.folder)[:2] == (0, set())


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.sampled_from([*HASHED, "manifest.json"]), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_any_byte_that_is_flipped_and_any_file_that_is_cut_is_found(
    suite: CommandLine, tmp_path_factory: pytest.TempPathFactory, name: str, place: float, bits: int
) -> None:
    """All but what is anybody's to say: the README and the manifest's citation. Without bits to flip, it is cut."""
    copy = Copy(FOLDER, tmp_path_factory.mktemp("flipped") / "agreement")
    content = bytearray(copy[name].read_bytes())
    position, citation = int(place * len(content)), re.search(rb'\n "citation".*', content)
    assume(not (bits and citation and citation.start() <= position < citation.end()))
    if bits:
        content[position] ^= bits
    copy[name].write_bytes(content if bits else content[:position])
    status, found, out = validate(suite, copy.folder)
    assert (status, bool(found)) == (1, True), out


@pytest.mark.parametrize("module", [plan, validate_module])
def test_a_stale_engine(suite: CommandLine, copy: Copy, monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setattr(module, "ENGINE_VERSION", ENGINE_VERSION + 1)
    expected = {"other-version"} if module is validate_module else set()
    assert validate(suite, copy.folder)[:2] == (int(bool(expected)), expected)


def test_a_suite_that_is_not_published_whole(suite: CommandLine, copy: Copy, tmp_path: Path) -> None:
    shutil.copytree(PUBLISHED, tmp_path / "tiny")
    for folder in tmp_path.glob("tiny/[!_.]*"):
        shutil.rmtree(folder)
    asked = ("--results", tmp_path / "tiny")
    assert validate(suite, copy.folder, *asked)[:2] == (0, set())
    copy.set(student={"epochs": 5})
    copy.write()
    assert validate(suite, copy.folder, *asked)[:2] == (1, {"other-setting"})
    (tmp_path / "tiny/_tasks/tiny-two-ood.safetensors").unlink()
    status, found, out = validate(suite, copy.folder, *asked)
    assert (status, found) == (1, {"misfit", "other-setting"})
    assert out.count("_tasks/tiny-two-ood.safetensors is missing") == 2


def test_methods_of_the_project_need_no_manifest(suite: CommandLine, tmp_path: Path) -> None:
    for name in ("ensemble", "naive", "ground_truth"):
        shown = suite("validate", PUBLISHED / name)
        assert (shown.status, kinds(shown.out)) == (0, {"no-manifest"})
    copy = Copy(PUBLISHED / "ensemble", tmp_path / "ensemble")
    for name in ("replies.jsonl", "judgements.jsonl"):
        copy[name].write_text("")
    assert validate(suite, copy.folder)[:2] == (0, {"no-manifest"})
    first(metrics={"accuracy": 0.123})(copy)
    copy.write(seal=False)
    assert validate(suite, copy.folder)[:2] == (1, {"no-manifest", "edited-score"})
    lost(seed=1)(copy)
    copy.write(seal=False)
    assert validate(suite, copy.folder)[:2] == (1, {"no-manifest", "edited-score", "missing-record"})


@pytest.mark.parametrize("field", sorted(Manifest.model_fields.keys() - {"schema_version", "citation", "developed_on"}))
def test_a_manifest_says_what_the_other_files_do(suite: CommandLine, copy: Copy, field: str) -> None:
    values = json.loads(copy["manifest.json"].read_text())
    other = {"kind": "single", "ablation_of": "naive", "options": {}, "files": {}, "cells": [], "environments": []}
    if field in other:
        values[field] = other[field]
    else:
        values[field] = "another" if isinstance(values[field], str) else values[field] + 1
    copy["manifest.json"].write_text(Manifest.model_validate_json(json.dumps(values)).to_text())
    status, found, out = validate(suite, copy.folder)
    assert (status, "manifest-mismatch" in found) == (1, True), out


def test_a_name_that_is_published_needs_the_same_source_or_a_higher_version(
    suite: CommandLine, copy: Copy, tmp_path: Path
) -> None:
    results = tmp_path / "published" / "tiny"
    shutil.copytree(PUBLISHED, results)
    shutil.copytree(copy.folder, results / "agreement")
    asked = ("--results", results)
    assert validate(suite, results / "agreement", *asked)[:2] == (0, set())
    assert validate(suite, copy.folder, *asked)[:2] == (0, set())
    copy["method.py"].write_text("# somebody else's\n")
    copy.seal()
    assert validate(suite, copy.folder, *asked)[:2] == (1, {"taken-name"})
    copy.each(method_version=2)
    copy.write()
    assert validate(suite, copy.folder, *asked)[:2] == (0, set())


def test_rebuilding_the_published_truth(suite: CommandLine, copy: Copy, tmp_path: Path) -> None:
    status, found, out = validate(suite, copy.folder, "--rebuild")
    assert (status, found) == (0, set())
    assert out.count("rebuilding tiny-") == RECORDS
    shutil.copytree(PUBLISHED, tmp_path / "tiny")
    store = ResultStore(tmp_path / "tiny")
    evaluation = store.load().evaluations["tiny-one", "ood"]
    for changed, examples, kind in (("labels", 2, True), ("supervisors", 20, True), ("supervisors", 1, False)):
        array = getattr(evaluation.seeds[0], changed)
        before = array.copy()
        array[..., :examples] = (array[..., :examples] + 1) % 3
        (tmp_path / "tiny/_tasks/tiny-one-ood.safetensors").write_bytes(_evaluation_bytes(evaluation))
        array[:] = before
        status, found, out = validate(suite, copy.folder, "--results", tmp_path / "tiny", "--rebuild")
        (line,) = [line for line in out.splitlines() if line.startswith("[wrong-truth]")]
        assert ("labels" in line, "warning" not in line) == (changed == "labels", kind)
        assert (status, found) == (1, {"wrong-truth", "misfit"})


def test_nothing_is_imported(suite: CommandLine, copy: Copy) -> None:
    copy["method.py"].write_text("open('imported', 'w')")
    copy.seal()
    assert validate(suite, copy.folder)[:2] == (0, set())
    assert not Path("imported").exists()
    assert "agreement" not in METHODS.names()


def test_what_a_submission_says_stays_one_harmless_line(suite: CommandLine, copy: Copy) -> None:
    copy.each(title="\x1b]0;owned\x07\x1b[31m::error::Agreement\nvalid: \u202e")
    copy.write(seal=False)
    lines = suite("validate", copy.folder).out.splitlines()
    assert all(line.startswith(("[", "not valid: ")) for line in lines)
    assert all(line.isprintable() for line in lines)
    assert "owned" in " ".join(lines)


def test_many_findings_of_a_kind_are_counted() -> None:
    lines = report("it", [*(Finding("misfit", f"{i}") for i in range(25)), Finding("readme", "", warning=True)])
    assert (len(lines), *lines[10:]) == (
        13,
        "[misfit] and 15 more",
        "[readme] warning: ",
        "not valid: it: 25 misfit; 1 warnings",
    )


def test_what_is_no_submission(suite: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("nowhere", "agreement.py", tmp_path / "empty"):
        assert "no submission" in suite("validate", path).refusal
    assert "no published truth" in suite("validate", FOLDER, "--results", "nowhere").refusal
    assert "unknown suite" in suite("validate", FOLDER, "--suite", "tinny").refusal
