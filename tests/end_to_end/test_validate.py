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
from safetensors.numpy import load_file, save_file
from support.command_line import CommandLine
from support.tiny_suite import ASKED, RECORDS, as_process, tiny_suite

from benchmark.core.records import Record, digest, setting_hash
from benchmark.core.registry import METHODS
from benchmark.core.scoring import compute_metrics
from benchmark.results.store import ResultStore, _evaluation_bytes
from benchmark.running import plan
from benchmark.submissions import scores
from benchmark.submissions.findings import KINDS, Finding, verdicts
from benchmark.submissions.manifest import Manifest, manifest_of
from benchmark.submissions.reading import LIMITS

Lines = list[dict[str, Any]]
README = (
    "# Agreement\n\n- authors: A. Nonymous\n- link: https://example.org/paper\n\nIt weighs examples by agreement.\n"
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Published results, and a submission with its README filled in."""
    with tiny_suite(tmp_path_factory.mktemp("validate")) as command:
        assert as_process(command, *ASKED).status == 0
        Path("submissions/tiny/agreement/README.md").write_text(README)
        yield command


@pytest.fixture
def folder(suite: CommandLine, tmp_path: Path) -> Path:
    """A copy of the submission."""
    shutil.copytree("submissions/tiny/agreement", tmp_path / "agreement")
    return tmp_path / "agreement"


# ---- how submissions are tampered with


def edit(folder: Path, change: Callable[[Lines], Lines | None]) -> None:
    """Change the lines of the records, as JSON."""
    path = folder / "records.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = change(lines) or lines
    written = (json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for line in lines)
    path.write_text("".join(f"{line}\n" for line in written))


def edit_predictions(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "predictions.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)


def name_of(line: dict[str, Any]) -> str:
    return f"{line['task']}/{line['condition']}/{line['setting']}/{line['seed']}"


def reseal(folder: Path) -> None:
    """The manifest that w2s would write for what is here."""
    records = [Record.model_validate_json(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    old = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "manifest.json").write_text(manifest_of(old.suite, old.citation, records, files).to_text())


def reseal_files(folder: Path) -> None:
    """Only the manifest's hashes of files; what it says of the records stays."""
    path = folder / "manifest.json"
    manifest = Manifest.model_validate_json(path.read_bytes())
    fresh = {name: manifest_hash(folder / name) for name in manifest.files}
    path.write_text(manifest.model_copy(update={"files": fresh}).to_text())


def manifest_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    manifest = Manifest.model_validate_json(path.read_bytes())
    path.write_text(manifest.model_copy(update=changes).to_text())


def all_lines(**changes: Any) -> Callable[[Lines], Lines]:
    return lambda lines: [{**line, **changes} for line in lines]


def first_line(**changes: Any) -> Callable[[Lines], Lines]:
    return lambda lines: [{**lines[0], **changes}, *lines[1:]]


def without(**where: Any) -> Callable[[Path], None]:
    """Records and predictions of these are gone, and the manifest is written anew."""

    def tamper(folder: Path) -> None:
        gone: list[str] = []

        def drop(lines: Lines) -> Lines:
            lost = [line for line in lines if all(line[k] == v for k, v in where.items())]
            gone.extend(map(name_of, lost))
            return [line for line in lines if line not in lost]

        edit(folder, drop)
        edit_predictions(folder, remove(lambda arrays: gone))
        reseal(folder)

    return tamper


def remove(names: Callable[[dict[str, Any]], list[str]]) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        for name in names(arrays):
            del arrays[name]

    return change


def records(change: Callable[[Lines], Lines | None]) -> Callable[[Path], None]:
    """Changed records, and a manifest that fits them."""

    def tamper(folder: Path) -> None:
        edit(folder, change)
        reseal(folder)

    return tamper


def unreadable(change: Callable[[Lines], Lines | None]) -> Callable[[Path], None]:
    """Changed records that no reader takes, and a manifest with their hash."""

    def tamper(folder: Path) -> None:
        edit(folder, change)
        reseal_files(folder)

    return tamper


def predictions(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        edit_predictions(folder, change)
        reseal_files(folder)

    return tamper


def text(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A file's bytes, and a manifest with their hash."""

    def tamper(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        if name != "manifest.json":
            reseal_files(folder)

    return tamper


def weights(*values: Any) -> Callable[[Path], None]:
    return unreadable(first_line(diagnostics={"weights": values}))


def raise_score(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "metrics": {"accuracy": min(1.0, line["metrics"]["accuracy"] + 0.05)}}


def edited_score(folder: Path) -> None:
    edit(folder, lambda lines: [raise_score(lines[0]), *lines[1:]])


def flip(arrays: dict[str, Any]) -> None:
    name = min(arrays)
    arrays[name] = arrays[name].copy()
    arrays[name][0, :5] = (arrays[name][0, :5] + 1) % 3


def edited_consistently(folder: Path) -> None:
    """Predictions, their hash in the record and the score; all but the manifest."""
    edit_predictions(folder, flip)
    arrays = load_file(folder / "predictions.safetensors")
    evaluations = ResultStore(Path("results/tiny")).load().evaluations

    def follow(lines: Lines) -> Lines:
        (line,) = [line for line in lines if name_of(line) == min(arrays)]
        found = arrays[min(arrays)]
        line["predictions_sha256"] = digest(found)
        line["metrics"] = compute_metrics(evaluations[line["task"], line["condition"]], line["seed"], found)
        return lines

    edit(folder, follow)


def swap_predictions(arrays: dict[str, Any]) -> None:
    one, two = sorted(arrays)[:2]
    arrays[one], arrays[two] = arrays[two], arrays[one]


def swap_seeds_of_records(lines: Lines) -> Lines:
    lines[0]["seed"], lines[1]["seed"] = lines[1]["seed"], lines[0]["seed"]
    return [lines[1], lines[0], *lines[2:]]


def with_options(line: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    chosen = {**line["hyperparameters"], part: {**line["hyperparameters"][part], **values}}
    return {**line, "hyperparameters": chosen, "setting": setting_hash(chosen)}


def another_setting(part: str, *, add: bool, keep_manifest: bool = False, **values: Any) -> Callable[[Path], None]:
    """The first record with other options, in its place or beside it; with predictions."""

    def tamper(folder: Path) -> None:
        names: list[str] = []

        def change(lines: Lines) -> Lines:
            other = with_options(lines[0], part, **values)
            names.extend((name_of(lines[0]), name_of(other)))
            return sorted([other, *lines[0 if add else 1 :]], key=lambda line: line["setting"] if add else "")

        edit(folder, change)
        edit(folder, lambda lines: sorted(lines, key=lambda x: (x["task"], x["condition"], x["setting"], x["seed"])))

        def rename(arrays: dict[str, Any]) -> None:
            arrays[names[1]] = arrays[names[0]]
            if not add:
                del arrays[names[0]]

        edit_predictions(folder, rename)
        reseal_files(folder)

    return tamper


def another_name(name: str, title: str = "Agreement") -> Callable[[Path], None]:
    """The whole folder under another method's name."""

    def tamper(folder: Path) -> None:
        edit(folder, all_lines(method=name, title=title))
        reseal(folder)
        folder.rename(folder.parent / name)

    return tamper


def copied_from_ensemble(folder: Path) -> None:
    """Predictions, hashes and scores of `ensemble`, as if they were one's own."""
    lines = [json.loads(line) for line in Path("results/tiny/ensemble/records.jsonl").read_text().splitlines()]
    theirs = {(line["task"], line["condition"], line["seed"]): line for line in lines}
    arrays = load_file("results/tiny/ensemble/predictions.safetensors")
    names = {}

    def change(own: Lines) -> None:
        for line in own:
            other = theirs[line["task"], line["condition"], line["seed"]]
            line |= {name: other[name] for name in ("metrics", "predictions_sha256")}
            names[name_of(line)] = arrays[name_of(other)]

    edit(folder, change)
    save_file(names, folder / "predictions.safetensors")
    reseal(folder)


def truncated_to(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(share * len(data))]


def symlink(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")


def too_large(folder: Path) -> None:
    with (folder / "method.py").open("ab") as file:
        file.truncate(LIMITS["method.py"] + 1)


def extra_file(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"\0")


def extra_folder(folder: Path) -> None:
    (folder / "__pycache__").mkdir()


def cast(kind: str) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[min(arrays)] = arrays[min(arrays)].astype(kind)

    return change


def put(name: str, value: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name or min(arrays)] = value(arrays[min(arrays)])

    return change


def wrong_class(array: Any) -> Any:
    changed = array.copy()
    changed[0, 0] = 3
    return changed


def hidden_in_the_file(folder: Path) -> None:
    path = folder / "predictions.safetensors"
    save_file(load_file(path), path, metadata={"note": "hidden"})
    reseal_files(folder)


UNKNOWN = "0" * 64
CASES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "an edited score": (edited_score, {"edited-score", "edited-file"}),
    "an edited score, manifest made anew": (
        records(lambda lines: [raise_score(lines[0]), *lines[1:]]),
        {"edited-score"},
    ),
    "a metric more": (records(first_line(metrics={"accuracy": 0.5, "macro_f1": 0.5})), {"edited-score"}),
    "an edited prediction": (lambda f: edit_predictions(f, flip), {"edited-prediction", "edited-file"}),
    "an edited prediction, manifest made anew": (predictions(flip), {"edited-prediction"}),
    "edited predictions with their hash and score, the manifest as it was": (edited_consistently, {"edited-file"}),
    "predictions of two seeds swapped": (predictions(swap_predictions), {"swapped-seeds"}),
    "records of two seeds swapped": (records(swap_seeds_of_records), {"swapped-seeds"}),
    "a missing task": (without(task="tiny-two"), {"missing-task"}),
    "a missing condition": (without(task="tiny-two", condition="ind"), {"missing-condition"}),
    "a missing seed": (without(task="tiny-one", condition="ood", seed=1), {"missing-seed"}),
    "a task of no suite": (
        records(lambda lines: [*lines, {**lines[-1], "task": "zebra"}]),
        {"foreign-task"},
    ),
    "a seed that nobody else has": (
        records(lambda lines: [*lines, {**lines[-1], "seed": 9}]),
        {"foreign-seed"},
    ),
    "other data": (records(all_lines(data_fingerprint=UNKNOWN)), {"foreign-data"}),
    "other supervisors": (records(first_line(evaluation_sha256=UNKNOWN)), {"foreign-supervisors"}),
    "NaN": (unreadable(first_line(metrics={"accuracy": float("nan")})), {"impossible-value"}),
    "a score above 1": (unreadable(first_line(metrics={"accuracy": 1.2})), {"impossible-value"}),
    "a negative cost": (unreadable(first_line(cost=-1)), {"impossible-value"}),
    "a cost that no training has": (records(first_line(cost=12345)), {"wrong-cost"}),
    "no cost": (records(first_line(cost=0)), {"wrong-cost"}),
    "weights below 0": (weights(-0.5, 1.0, 0.5), {"impossible-value"}),
    "weights that don't sum to 1": (weights(0.5, 0.3, 0.1), {"impossible-value"}),
    "weights that are not a number": (weights(float("nan"), 0.5, 0.5), {"impossible-value"}),
    "an infinite weight": (weights(float("inf"), 0.0, 0.0), {"impossible-value"}),
    "weights in lists": (weights([0.5, 0.5], [0.5, 0.5]), {"impossible-value"}),
    "no weights in their list": (weights(), {"impossible-value"}),
    "a doubled record": (unreadable(lambda lines: [lines[0], *lines]), {"doubled-record"}),
    "a record with two scores": (
        unreadable(lambda lines: [*lines, raise_score(lines[0])]),
        {"doubled-record"},
    ),
    "a cut predictions file": (text("predictions.safetensors", truncated_to(0.9)), {"broken-predictions"}),
    "an empty predictions file": (text("predictions.safetensors", lambda data: b""), {"broken-predictions"}),
    "a cut line": (text("records.jsonl", truncated_to(0.97)), {"broken-record"}),
    "a field that is unknown": (unreadable(first_line(rank=1)), {"schema"}),
    "a field that is missing": (unreadable(lambda lines: lines[0].pop("device") and None), {"schema"}),
    "a schema of the future": (unreadable(first_line(schema_version=2)), {"schema"}),
    "a setting that is not its hash": (unreadable(first_line(setting="0" * 12)), {"setting-hash"}),
    "an unknown setting": (another_setting("method", add=False, sharpness=9.0), {"unknown-setting"}),
    "two settings": (another_setting("method", add=True, sharpness=9.0), {"unknown-setting", "several-settings"}),
    "a student that trained longer": (
        another_setting("student", add=False, epochs=5),
        {"foreign-student", "wrong-cost"},
    ),
    "a student trained in less precision": (
        another_setting("student", add=False, precision="bf16"),
        {"foreign-student"},
    ),
    "a class that the task doesn't have": (predictions(put("", wrong_class)), {"wrong-class"}),
    "too many replicas": (predictions(put("", lambda x: np.repeat(x, 3, 0))), {"wrong-replicas"}),
    "single with one replica": (records(all_lines(kind="single")), {"wrong-replicas"}),
    "too few examples": (predictions(put("", lambda x: x[:, 1:].copy())), {"wrong-size"}),
    "another number of train examples": (records(first_line(n_train=64)), {"wrong-size"}),
    "predictions that are numbers": (predictions(cast("float32")), {"wrong-type"}),
    "predictions with NaN": (
        predictions(put("", lambda x: np.full(x.shape, np.nan, np.float32))),
        {"wrong-type"},
    ),
    "predictions of another type": (predictions(cast("int64")), {"not-canonical"}),
    "predictions without a record": (
        predictions(put(f"tiny-two/ood/{'0' * 12}/7", lambda x: x)),
        {"missing-record"},
    ),
    "a tensor of no record's form": (predictions(put("notes", lambda x: x)), {"missing-record"}),
    "a record without predictions": (
        predictions(remove(lambda arrays: [min(arrays)])),
        {"missing-predictions"},
    ),
    "a method of the project": (another_name("raven"), {"taken-name"}),
    "a published title": (another_name("mine", "RAVEN"), {"taken-name"}),
    "a published title in other case, forms and spaces": (
        another_name("mine", " ｒaven\u00a0 "),
        {"taken-name", "bad-title"},
    ),
    "a title of two words with more between them": (another_name("mine", "Majority  VOTE "), {"taken-name"}),
    "a title with nothing to be seen in it": (another_name("mine", "RA\u200bVEN"), {"taken-name", "bad-title"}),
    "a reference row's title": (another_name("mine", "Supervisors' mean score: the weak floor"), {"taken-name"}),
    "a title that no terminal shows": (another_name("mine", "Mine\u202e"), {"bad-title"}),
    "a title of spaces": (another_name("mine", "  "), {"bad-title"}),
    "a canary": (another_name("ground_truth"), {"reserved-name"}),
    "a canary's kind": (unreadable(all_lines(kind="canary")), {"manifest-mismatch"}),
    "records of another method": (records(all_lines(method="ensemble")), {"other-method"}),
    "one record of another method": (
        unreadable(first_line(method="ensemble")),
        {"other-method", "manifest-mismatch"},
    ),
    "an edited source": (
        lambda f: (f / "method.py").write_text((f / "method.py").read_text() + "# faster\n") and None,
        {"edited-source"},
    ),
    "a version of the future": (records(all_lines(engine_version=99)), {"newer-version"}),
    "versions that are mixed": (unreadable(first_line(method_version=2)), {"manifest-mismatch"}),
    "a file more": (extra_file, {"foreign-file"}),
    "replies": (lambda f: (f / "replies.jsonl").write_text("") and None, {"foreign-file"}),
    "judgements": (lambda f: (f / "judgements.jsonl").write_text("") and None, {"foreign-file"}),
    "a folder more": (extra_folder, {"foreign-file"}),
    "a link": (symlink, {"symlink", "missing-file"}),
    "a huge file": (too_large, {"too-large", "missing-file"}),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), {"missing-file"}),
    "no source": (lambda f: (f / "method.py").unlink(), {"missing-file"}),
    "no records": (lambda f: (f / "records.jsonl").unlink(), {"missing-file"}),
    "no predictions": (lambda f: (f / "predictions.safetensors").unlink(), {"missing-file"}),
    "a manifest that is no JSON": (text("manifest.json", truncated_to(0.5)), {"broken-manifest"}),
    "a manifest of another commit": (lambda f: edit_manifest(f, environments=()), {"manifest-mismatch"}),
    "a manifest of other truth": (lambda f: edit_manifest(f, cells=()), {"manifest-mismatch"}),
    "a manifest of another suite": (lambda f: edit_manifest(f, suite="smoke"), {"manifest-mismatch"}),
    "a manifest with spaces": (text("manifest.json", lambda data: data + b"\n"), {"not-canonical"}),
    "a line with spaces": (text("records.jsonl", lambda data: data.replace(b"{", b"{ ", 1)), {"not-canonical"}),
    "a field twice in a line": (
        text("records.jsonl", lambda data: data.replace(b'"cost":', b'"cost":1,"cost":', 1)),
        {"not-canonical"},
    ),
    "lines in another order": (text("records.jsonl", lambda d: b"".join(d.splitlines(True)[::-1])), {"not-canonical"}),
    "content hidden in the predictions": (hidden_in_the_file, {"not-canonical"}),
    "a link that is no address": (
        text("README.md", lambda data: data.replace(b"https://example.org/paper", b"javascript:alert(1)")),
        {"bad-link"},
    ),
}
WARNINGS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a README that is not filled in": (
        lambda f: (f / "README.md").write_text("# Agreement\n") and None,
        {"placeholder"},
    ),
    "predictions of another method": (copied_from_ensemble, {"copied-predictions"}),
}
ELSEWHERE = {"stale-version", "unpublished", "no-manifest", "foreign-truth"}  # kinds with a test of their own


def kinds(out: str) -> set[str]:
    *lines, last = out.splitlines()
    assert last.startswith(("valid: ", "not valid: "))
    assert all(re.match(r"\[[\w-]+\] ", line) or line.startswith("rebuilding ") for line in lines)
    return {line[1 : line.index("]")] for line in lines if line.startswith("[")}


def validate(suite: CommandLine, folder: Path, *more: str) -> tuple[int, set[str], str]:
    shown = suite("validate", folder, "--suite", "tiny", *more)
    assert shown.err == ""
    return shown.status, kinds(shown.out), shown.out


def test_an_untouched_submission_is_valid(suite: CommandLine, folder: Path) -> None:
    shown = suite("validate", folder)
    assert (shown.status, shown.out) == (0, f"valid: agreement, {RECORDS} records, suite tiny\n")


def test_weights_that_sum_to_1_are_valid(suite: CommandLine, folder: Path) -> None:
    weights(0.0, 0.3334, 0.6667)(folder)
    assert validate(suite, folder)[:2] == (0, set())


@pytest.mark.parametrize("what", CASES)
def test_what_is_broken_or_tampered_with_is_named(suite: CommandLine, folder: Path, what: str) -> None:
    tamper, expected = CASES[what]
    tamper(folder)
    (left,) = folder.parent.iterdir()
    status, found, out = validate(suite, left)
    assert found == expected, out
    assert status == 1
    assert out.splitlines()[-1].startswith(f"not valid: {left.name}, ")


@pytest.mark.parametrize("what", WARNINGS)
def test_what_a_reviewer_should_look_at_is_a_warning(suite: CommandLine, folder: Path, what: str) -> None:
    tamper, expected = WARNINGS[what]
    tamper(folder)
    status, found, out = validate(suite, folder)
    assert (status, found) == (0, expected), out
    assert "] warning: " in out


def test_every_kind_has_a_case() -> None:
    tested = set().union(*(expected for _, expected in (CASES | WARNINGS).values()))
    assert tested | ELSEWHERE == set(KINDS)
    assert not tested & ELSEWHERE
    assert len(CASES) >= 15
    with pytest.raises(ValueError, match="unknown kind"):
        Finding("nonsense", "")


@pytest.mark.parametrize("module", [plan, scores])
def test_a_stale_engine(suite: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    monkeypatch.setattr(module, "ENGINE_VERSION", 2)
    expected = {"stale-version"} if module is scores else set()
    assert validate(suite, folder)[:2] == (int(bool(expected)), expected)


def test_a_suite_that_is_not_published_whole(suite: CommandLine, folder: Path, tmp_path: Path) -> None:
    shutil.copytree("results/tiny", tmp_path / "tiny")
    (tmp_path / "tiny/_tasks/tiny-two-ood.safetensors").unlink()
    assert validate(suite, folder, "--results", str(tmp_path / "tiny"))[:2] == (1, {"unpublished"})


def test_published_methods_and_canaries_without_a_manifest(suite: CommandLine) -> None:
    for name in ("ensemble", "naive", "ground_truth"):
        shown = suite("validate", f"results/tiny/{name}")
        assert (shown.status, kinds(shown.out)) == (0, {"no-manifest"})


def test_published_methods_may_have_replies_and_judgements(suite: CommandLine, tmp_path: Path) -> None:
    shutil.copytree("results/tiny/ensemble", tmp_path / "ensemble")
    for name in ("replies.jsonl", "judgements.jsonl"):
        (tmp_path / "ensemble" / name).write_text("")
    assert validate(suite, tmp_path / "ensemble")[:2] == (0, {"no-manifest"})


@pytest.mark.parametrize(("name", "kind"), [("ensemble", "taken-name"), ("ground_truth", "reserved-name")])
def test_a_manifest_makes_no_submission_of_a_shipped_row(
    suite: CommandLine, folder: Path, tmp_path: Path, name: str, kind: str
) -> None:
    shutil.copytree(f"results/tiny/{name}", tmp_path / name)
    for added in ("manifest.json", "method.py", "README.md"):
        shutil.copy(folder / added, tmp_path / name)
    edit_manifest(tmp_path / name, method=name, method_version=99, title="Another")
    status, found, out = validate(suite, tmp_path / name)
    assert (status, kind in found) == (1, True), out


def test_a_published_method_that_was_tampered_with(suite: CommandLine, tmp_path: Path) -> None:
    shutil.copytree("results/tiny/ensemble", tmp_path / "ensemble")
    edited_score(tmp_path / "ensemble")
    assert validate(suite, tmp_path / "ensemble")[:2] == (1, {"no-manifest", "edited-score"})


def test_a_name_that_is_published_needs_the_same_source_or_a_higher_version(
    suite: CommandLine, folder: Path, tmp_path: Path
) -> None:
    results = tmp_path / "published" / "tiny"
    shutil.copytree("results/tiny", results)
    shutil.copytree(folder, results / "agreement")
    asked = ("--results", str(results))
    assert validate(suite, results / "agreement", *asked)[:2] == (0, set())
    assert validate(suite, folder, *asked)[:2] == (0, set())
    (folder / "method.py").write_text("# somebody else's\n")
    reseal(folder)
    assert validate(suite, folder, *asked)[:2] == (1, {"taken-name"})
    edit(folder, all_lines(method_version=2))
    reseal(folder)
    assert validate(suite, folder, *asked)[:2] == (0, set())


def test_rebuilding_the_published_truth(suite: CommandLine, folder: Path, tmp_path: Path) -> None:
    status, found, out = validate(suite, folder, "--rebuild")
    assert (status, found) == (0, set())
    assert out.count("rebuilding tiny-") == RECORDS
    shutil.copytree("results/tiny", tmp_path / "tiny")
    path = tmp_path / "tiny/_tasks/tiny-one-ood.safetensors"
    store = ResultStore(tmp_path / "tiny")
    evaluation = store.load().evaluations["tiny-one", "ood"]
    for changed, kind in (("labels", "foreign-truth"), ("supervisors", "foreign-supervisors")):
        array = getattr(evaluation.seeds[0], changed)
        before = array.copy()
        array[..., 0] = (array[..., 0] + 1) % 3
        array[..., 1] = (array[..., 1] + 1) % 3
        with store.lock():
            path.write_bytes(_evaluation_bytes(evaluation))
        array[:] = before
        status, found, _ = validate(suite, folder, "--results", str(tmp_path / "tiny"), "--rebuild")
        assert status == 1
        assert kind in found


def test_nothing_is_imported(suite: CommandLine, folder: Path) -> None:
    (folder / "method.py").write_text("open('imported', 'w')")
    reseal(folder)
    assert validate(suite, folder)[:2] == (0, set())
    assert not Path("imported").exists()
    assert "agreement" not in METHODS.names()


def test_what_a_submission_says_stays_one_harmless_line(suite: CommandLine, folder: Path) -> None:
    edit(folder, all_lines(title="\x1b[31m::error::Agreement\nvalid: "))
    lines = suite("validate", folder).out.splitlines()
    assert all(line.startswith(("[", "not valid: ")) for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_many_findings_of_a_kind_are_counted() -> None:
    lines = verdicts([Finding("schema", f"{i}") for i in range(25)])
    assert (len(lines), lines[-1]) == (11, "[schema] and 15 more")


def test_what_is_no_submission(suite: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in ("nowhere", "agreement.py", str(tmp_path / "empty")):
        shown = suite("validate", path)
        assert shown.status == 2
        assert "no submission" in shown.refusal
    assert "no published truth" in suite("validate", "submissions/tiny/agreement", "--results", "nowhere").refusal
