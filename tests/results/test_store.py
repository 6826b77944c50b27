import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from benchmark.base.errors import Vanished, W2SError
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import Record, RecordKey, Versions, digest
from benchmark.results import store as results
from benchmark.results.contents import Contents, read_contents
from benchmark.results.layout import truth_file
from benchmark.results.store import ResultStore
from support.records import records, wrong
from support.synthetic import Task, entry, evaluation, fill

SEEDS = range(2)
MADE = Versions(ENGINE_VERSION, 1, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "suite"
    fill(ResultStore(root), [Task("a"), Task("b", num_classes=10, members=4)], ("naive", "raven"), SEEDS)
    return root


@pytest.fixture
def store(made: Path, tmp_path: Path) -> ResultStore:
    """Two tasks, two conditions, two methods, two seeds."""
    return ResultStore(shutil.copytree(made, tmp_path / "suite"))


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def a_record(**changes: Any) -> Record:
    task = Task("a")
    return entry(task, evaluation(task, "ood", SEEDS), "raven", 0, **changes)[0]


def complete(store: ResultStore, key: RecordKey, versions: Versions = MADE, fingerprint: str = "f" * 8) -> bool:
    return store.complete(key, versions, fingerprint)


# --- writing and reading ---------------------------------------------------------------------------------------------


def test_round_trip(store: ResultStore) -> None:
    contents = store.load()
    assert contents.problems == []
    assert len(contents.records) == len(contents.predictions) == 2 * 2 * 2 * 2
    for task in (Task("a"), Task("b", num_classes=10, members=4)):
        for condition in ("ood", "ind"):
            written, read = evaluation(task, condition, SEEDS), contents.evaluations[task.name, condition]
            assert read.model_dump() == written.model_dump()
            for seed in SEEDS:
                for name, value in vars(written.seeds[seed]).items():
                    np.testing.assert_array_equal(getattr(read.seeds[seed], name), value, strict=True)
                record, predictions = entry(task, written, "naive", seed)
                assert contents.records[record.key] == record
                np.testing.assert_array_equal(contents.predictions[record.key], predictions)
                assert contents.predictions[record.key].dtype == np.uint8
                assert contents.misfit(record) is None
                assert complete(store, record.key)


def test_layout(store: ResultStore) -> None:
    expected = {f"_tasks/{task}-{condition}.safetensors" for task in "ab" for condition in ("ood", "ind")}
    expected |= {f"{m}/{file}" for m in ("naive", "raven") for file in ("records.jsonl", "predictions.safetensors")}
    assert files(store.root).keys() == expected
    lines = (store.root / "naive" / "records.jsonl").read_text().splitlines()
    keys = [Record.model_validate_json(line).key for line in lines]
    assert keys == sorted(keys)
    names = load_file(store.root / "naive" / "predictions.safetensors")
    setting = keys[0].setting
    assert names[f"b/ood/{setting}/1"].shape == (4, 150)
    tensors = load_file(store.root / "_tasks" / "b-ood.safetensors")
    assert sorted(tensors)[:5] == [f"0/{name}" for name in ("ensemble", "groups", "labels", "majority", "supervisors")]


def test_bytes_do_not_depend_on_the_order_of_writing(store: ResultStore, tmp_path: Path) -> None:
    other = ResultStore(tmp_path / "other")
    with other.lock():
        for task in (Task("b", num_classes=10, members=4), Task("a")):
            for condition in ("ind", "ood"):
                for seed in reversed(SEEDS):
                    for method in ("raven", "naive"):
                        evaluated = evaluation(task, condition, range(seed, seed + 1))
                        other.write_unit(evaluated, [entry(task, evaluated, method, seed)])
    assert files(other.root) == files(store.root)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("group", [-1, 0, 255, 70_000, 2**40])
def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path, whole: bool, group: int) -> None:
    """Unknown labels, and groups of any size, or in none; bytes as small as they can be."""
    task, store = Task("a", whole=whole), ResultStore(tmp_path)
    task.groups[::3] = group
    evaluated = evaluation(task, "ood", range(2))
    for truth in evaluated.seeds.values():
        truth.labels[::7] = -1
    with store.lock():
        store.write_unit(evaluated, [])
    found = ResultStore(tmp_path).load()
    assert found.problems == []
    for seed, truth in found.evaluations["a", "ood"].seeds.items():
        for name, array in vars(evaluated.seeds[seed]).items():
            np.testing.assert_array_equal(getattr(truth, name), array)
        assert truth.sha256 == evaluated.seeds[seed].sha256
    stored = load_file(tmp_path / "_tasks" / "a-ood.safetensors")["0/groups"].dtype
    assert stored.itemsize == {-1: 4, 0: 2, 255: 2, 70_000: 4, 2**40: 8}[group]


def test_writing_again_changes_nothing(store: ResultStore) -> None:
    before = files(store.root)
    fill(store, [Task("a")], ("naive", "raven"), SEEDS)
    assert files(store.root) == before


def test_a_record_is_replaced_and_all_else_kept(store: ResultStore) -> None:
    task = Task("a")
    evaluated = evaluation(task, "ood", range(1))
    before = dict(store.load().records)
    new, predictions = entry(task, evaluated, "raven", 0, commit="newer")
    other, _ = entry(task, evaluated, "raven", 0, hyperparameters={"x": 1})
    store.write_unit(evaluated, [(new, predictions), (other, predictions)])
    after = ResultStore(store.root).load()
    assert after.problems == []
    assert after.records == {**before, new.key: new, other.key: other}


def test_seeds_are_merged(store: ResultStore) -> None:
    task = Task("a")
    evaluated = evaluation(task, "ood", range(2, 4))
    store.write_unit(evaluated, [entry(task, evaluated, "raven", seed) for seed in (2, 3)])
    after = ResultStore(store.root).load()
    assert sorted(after.evaluations["a", "ood"].seeds) == [0, 1, 2, 3]
    assert [after.misfit(record) for record in after.records.values()] == [None] * (16 + 2)


def test_an_evaluation_of_before_is_a_family_by_itself_until_it_is_written_again(store: ResultStore) -> None:
    path = store.root / truth_file("a", "ood")
    with safe_open(path, framework="np") as file:
        values = json.loads(file.metadata()["evaluation"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    del values["family"]
    save_file(arrays, path, metadata={"evaluation": json.dumps(values)})
    before = ResultStore(store.root).load()
    assert (before.problems, before.evaluations["a", "ood"].family) == ([], "a")
    evaluated = evaluation(Task("a", family="letters"), "ood", range(2, 3))
    store.write_unit(evaluated, [entry(Task("a"), evaluated, "raven", 2)])
    after = ResultStore(store.root).load().evaluations["a", "ood"]
    assert (after.family, sorted(after.seeds)) == ("letters", [0, 1, 2])


@pytest.mark.parametrize("changed", [{"version": 2}, {"fingerprint": "other"}])
def test_seeds_of_other_versions_or_data_are_dropped(store: ResultStore, changed: dict[str, Any]) -> None:
    task = Task("a", **changed)
    evaluated = evaluation(task, "ood", range(1))
    store.write_unit(evaluated, [entry(task, evaluated, "raven", 0)])
    after = ResultStore(store.root)
    contents = after.load()
    assert list(contents.evaluations["a", "ood"].seeds) == [0]
    stale = [key for key, record in contents.records.items() if contents.misfit(record)]
    assert {(key.task, key.condition) for key in stale} == {("a", "ood")}
    assert len(stale) == 3
    assert not any(complete(after, key) for key in stale)


@pytest.mark.parametrize(
    ("versions", "fingerprint"),
    [
        (MADE._replace(engine=9), "f" * 8),
        (MADE._replace(task=2), "f" * 8),
        (MADE._replace(method=2), "f" * 8),
        (MADE, "other"),
    ],
)
def test_other_versions_or_data_are_not_complete(store: ResultStore, versions: Versions, fingerprint: str) -> None:
    key = next(iter(store.load().records))
    assert complete(store, key)
    assert not complete(store, key, versions, fingerprint)


def test_an_unknown_key_is_not_complete(store: ResultStore) -> None:
    key = next(iter(store.load().records))
    for change in ({"seed": 9}, {"setting": "0" * 12}, {"method": "x"}, {"task": "x"}, {"condition": "x"}):
        assert not complete(store, key._replace(**change))


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    assert ResultStore(tmp_path / "nowhere").load() == Contents()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "z"}, r"raven on z/ood, seed 0: found in the unit a/ood"),
        ({"seed": 5}, "has no seed 5"),
        ({"n_test": 7}, "n_test 7"),
        ({"kind": "single"}, r"shape \(1, 150\).*expected \(3, 150\)"),
        ({"data_fingerprint": "x"}, "data_fingerprint: found x"),
        ({"task_version": 3}, "task_version: found 3"),
        ({"predictions_sha256": "0" * 64}, "predictions_sha256"),
    ],
)
def test_a_record_that_does_not_fit_is_not_written(store: ResultStore, change: dict[str, Any], message: str) -> None:
    task = Task("a")
    evaluated = evaluation(task, "ood", SEEDS)
    record, predictions = entry(task, evaluated, "raven", 0)
    before = files(store.root)
    with pytest.raises(W2SError, match=message):
        store.write_unit(evaluated, [(record.model_copy(update=change), predictions)])
    with pytest.raises(W2SError, match="found twice"):
        store.write_unit(evaluated, [(record, predictions)] * 2)
    assert files(store.root) == before


def test_a_record_changed_behind_the_schema_is_not_written(store: ResultStore) -> None:
    task = Task("a")
    evaluated = evaluation(task, "ood", SEEDS)
    record, predictions = entry(task, evaluated, "raven", 0)
    with pytest.raises(ValueError):
        store.write_unit(evaluated, [(record.model_copy(update={"metrics": {"accuracy": float("nan")}}), predictions)])


# --- what is broken is named and does not stop the rest --------------------------------------------------------------


@given(
    st.lists(records, min_size=1, max_size=4, unique_by=lambda record: record.key._replace(method="naive")), st.data()
)
def test_a_file_of_records_reads_as_written_and_a_wrong_line_names_file_line_and_field(
    written: list[Record], data: st.DataObject
) -> None:
    lines = [record.model_copy(update={"method": "naive"}).to_line() for record in written]
    at, field = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.sampled_from(sorted(Record.model_fields)))
    bad = json.dumps({**json.loads(lines[at]), field: data.draw(wrong(field))})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "naive" / "records.jsonl"
        path.parent.mkdir()
        path.write_bytes("\n".join(lines).encode())
        whole = read_contents(Path(folder))
        path.write_bytes("\n".join([*lines[:at], bad, *lines[at + 1 :]]).encode())
        part = read_contents(Path(folder))
    assert [record.to_line() for record in whole.records.values()] == lines
    assert whole.problems == []
    assert [record.to_line() for record in part.records.values()] == lines[:at] + lines[at + 1 :]
    (problem,) = part.problems
    assert problem.startswith(f"naive/records.jsonl:{at + 1}: ")
    assert field in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda r: {**r, "hyperparameters": {"x": 1}}, "setting: found"),
        (lambda r: {k: v for k, v in r.items() if k != "commit"}, "commit: Field required"),
        (lambda r: {**r, "extra": 1}, "extra: "),
        (lambda r: {**r, "method": "raven"}, "method: found 'raven', expected the folder's name"),
        (lambda r: [r], "Input should be an object"),
        (lambda r: "{torn", "Invalid JSON"),
        (lambda r: "\udcff", "Invalid JSON"),
    ],
)
def test_an_invalid_line_is_named_and_healed(store: ResultStore, edit: Any, problem: str) -> None:
    path = store.root / "naive" / "records.jsonl"
    lines = path.read_text().splitlines()
    changed = edit(json.loads(lines[2]))
    lines[2] = changed if isinstance(changed, str) else json.dumps(changed)
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    contents = ResultStore(store.root).load()
    assert len(contents.problems) == 1
    assert contents.problems[0].startswith("naive/records.jsonl:3: ")
    assert problem in contents.problems[0]
    assert "\n" not in contents.problems[0]
    assert len(contents.records) == 15
    # the next run finds it missing, and heals it
    fill(ResultStore(store.root), [Task("a"), Task("b", num_classes=10, members=4)], ("naive",), SEEDS)
    healed = ResultStore(store.root).load()
    assert healed.problems == []
    assert healed.records == store.load().records


def test_a_doubled_line_is_named(store: ResultStore) -> None:
    path = store.root / "raven" / "records.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]) + "\n")
    contents = ResultStore(store.root).load()
    assert contents.problems == ["raven/records.jsonl:9: repeats line 1"]
    assert contents.records == store.load().records


def test_a_truncated_file_is_one_clear_line(store: ResultStore) -> None:
    for name in ("naive/predictions.safetensors", "_tasks/b-ood.safetensors"):
        path = store.root / name
        whole = path.read_bytes()
        for keep in (0, 5, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:keep])
            contents = ResultStore(store.root).load()
            assert len(contents.problems) == 1
            assert contents.problems[0].startswith(f"{name}: not a readable safetensors file (")
            lacking = [key for key, record in contents.records.items() if contents.misfit(record)]
            assert len(lacking) == (8 if name.startswith("naive") else 4)
            assert not any(complete(ResultStore(store.root), key) for key in lacking)
        path.write_bytes(whole)
    assert ResultStore(store.root).load().problems == []


def test_what_a_tensor_file_must_hold(store: ResultStore) -> None:
    path = store.root / "_tasks" / "a-ood.safetensors"
    whole, tensors = path.read_bytes(), load_file(path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    described = json.loads(metadata["evaluation"])

    def problem(change: dict[str, np.ndarray], **about: Any) -> str:
        save_file({**tensors, **change}, path, {"evaluation": json.dumps({**described, **about})})
        problems = ResultStore(store.root).load().problems
        path.write_bytes(whole)
        assert len(problems) == 1
        return problems[0]

    assert "0/labels: found float64, expected integers" in problem({"0/labels": np.zeros(150)})
    assert "seed 0: groups: found shape (150,), expected (9,)" in problem({"0/labels": np.zeros(9, np.int32)})
    assert "'7/groups' is missing" in problem({"7/labels": np.zeros(150, np.int32)})
    assert "num_classes: " in problem({}, num_classes=1)
    assert "holds c/ood, which is not what its name says" in problem({}, task="c")
    save_file(tensors, path)
    assert ResultStore(store.root).load().problems == ["_tasks/a-ood.safetensors: 'evaluation' is missing"]
    strange = store.root / "naive" / "predictions.safetensors"
    save_file({"no-slashes": np.zeros((1, 2), np.uint8)}, strange)
    assert ResultStore(store.root).load().problems[-1].startswith("naive/predictions.safetensors: ")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda p: p[:, :-1], "shape"),
        (lambda p: p[:1], "shape"),
        (lambda p: p + np.uint8(9), "found class id 10, expected 0..1"),
        (lambda p: p[::-1], "not those that the record was written with"),
        (lambda p: p.astype(np.float32), "class ids must be integers"),
    ],
)
def test_edited_predictions_are_noticed(store: ResultStore, edit: Any, reason: str) -> None:
    path = store.root / "naive" / "predictions.safetensors"
    key = next(key for key in store.load().records if key.method == "naive" and key.task == "a")
    arrays = load_file(path)
    name = f"{key.task}/{key.condition}/{key.setting}/{key.seed}"
    save_file({**arrays, name: np.ascontiguousarray(edit(arrays[name]))}, path)
    contents = ResultStore(store.root).load()
    found = [*contents.problems, contents.misfit(contents.records[key]) or ""]
    assert any(reason in text for text in found)
    assert not complete(ResultStore(store.root), key)


def test_nothing_is_pickled(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.root / "naive" / "predictions.safetensors").write_bytes(b"\x80\x04K\x01.")  # pickle.dumps(1)
    assert "not a readable safetensors file" in ResultStore(store.root).load().problems[0]


# --- locks and kills -------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused(store: ResultStore) -> None:
    with store.lock():
        with pytest.raises(W2SError, match=f"{store.root}: another run is writing here.*--results"), store.lock():
            pass
        code = "import sys; from benchmark.results.store import ResultStore\nwith ResultStore(sys.argv[1]).lock(): pass"
        process = subprocess.run([sys.executable, "-c", code, store.root], capture_output=True, text=True)
        assert "another run is writing here" in process.stderr
    with store.lock():
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ResultStore(tmp_path / "file" / "suite")
    with pytest.raises(W2SError, match="file/suite: results can't be written here"), store.lock():
        pass


def test_the_lock_clears_and_reads_anew(store: ResultStore) -> None:
    store.load()
    torn = store.root / "naive" / ".writing-00.tmp"
    torn.write_bytes(b"torn")
    other = ResultStore(store.root)
    fill(other, [Task("c")], ("naive",), SEEDS)
    assert not torn.exists()
    with store.lock():
        assert ("c", "ood") in store.load().evaluations


@pytest.mark.parametrize("gone", ["", "_tasks", "naive", ".lock"])
def test_nothing_is_written_where_files_have_vanished(store: ResultStore, gone: str) -> None:
    task = Task("c")
    evaluated = evaluation(task, "ood", SEEDS)
    entries = [entry(task, evaluated, "raven", seed) for seed in SEEDS]
    with store.lock():
        store.load()
        shutil.rmtree(store.root / gone) if gone != ".lock" else (store.root / gone).unlink()
        left = files(store.root)
        with pytest.raises(Vanished, match=f"{store.root}: files in it were removed, or it was replaced"):
            store.write_unit(evaluated, entries)
        assert files(store.root) == left
    with store.lock():
        store.write_unit(evaluated, entries)
    assert all(store.load().misfit(store.load().records[record.key]) is None for record, _ in entries)


def test_nothing_is_written_into_another_folder_of_that_name(store: ResultStore, tmp_path: Path) -> None:
    with store.lock():
        store.root.rename(tmp_path / "away")
        fill(ResultStore(store.root), [Task("a")], ("naive",), SEEDS)
        with pytest.raises(Vanished):
            store.drop([])


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("written", range(7))
def test_a_folder_that_vanishes_while_a_unit_is_written_is_not_made_again(
    store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int, removed: bool
) -> None:
    """Renamed, the unit is written to its end where the folder is now."""
    task, away, write, left = Task("c"), tmp_path / "away", results.atomic_write, written
    evaluated = evaluation(task, "ood", SEEDS)
    entries = [entry(task, evaluated, method, seed) for method in ("naive", "raven") for seed in SEEDS]

    def vanish(path: Path, data: bytes, folder: int | None = None) -> None:
        nonlocal left
        if left == 0:
            store.root.rename(away)
            if removed:
                shutil.rmtree(away)
        left -= 1
        write(path, data, folder)

    monkeypatch.setattr(results, "atomic_write", vanish)
    with store.lock():
        if removed and written < 6:
            with pytest.raises(Vanished):
                store.write_unit(evaluated, entries)
        else:
            store.write_unit(evaluated, entries)
        if written == 6:
            vanish(tmp_path / "last", b"")
        with pytest.raises(Vanished):
            store.present()
    assert not store.root.exists()
    if not removed:
        found = ResultStore(away).load()
        assert {record.key for record, _ in entries} < found.records.keys()
        assert [found.misfit(record) for record in found.records.values()] == [None] * len(found.records)
        assert not list(away.glob(".unit*"))


@pytest.mark.parametrize("fault", [None, "torn", "empty", "outside", "of other supervisors"])
def test_a_unit_that_was_being_written_is_finished_or_said_and_dropped(
    store: ResultStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str | None,
) -> None:
    task, write, path = Task("a"), results.atomic_write, store.root / ".unit.safetensors"
    evaluated = evaluation(task, "ood", range(3))
    if fault == "of other supervisors":  # whom the results of raven, which stay, were not made with
        own = {s: dataclasses.replace(e, supervisors=1 - e.supervisors) for s, e in evaluated.seeds.items()}
        evaluated = evaluated.model_copy(update={"seeds": own})

    def stop(path: Path, data: bytes, folder: int | None = None) -> None:
        write(path, data, folder)
        raise Killed

    with monkeypatch.context() as killed:
        killed.setattr(results, "atomic_write", stop)
        with pytest.raises(Killed):
            ResultStore(tmp_path / "other").write_unit(
                evaluated, [entry(task, evaluated, "naive", s) for s in range(3)]
            )
    before = files(store.root)
    data = (tmp_path / "other" / path.name).read_bytes()
    path.write_bytes(data[:-9] if fault == "torn" else data)
    if fault in ("empty", "outside"):
        save_file({"../../outside": np.zeros(3, np.uint8)} if fault == "outside" else {}, path)
    with store.lock():
        assert not path.exists()
        assert complete(store, entry(task, evaluated, "naive", 2)[0].key) == (fault is None)
    assert ("of no use any more" in capsys.readouterr().err) == (fault is not None)
    assert (files(store.root) == before) == (fault is not None)
    assert not (tmp_path.parent / "outside").exists()


def test_what_a_full_disk_refused_does_not_count_as_written(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, write = Task("c"), results.atomic_write
    evaluated = evaluation(task, "ood", SEEDS)
    entries = [entry(task, evaluated, method, seed) for method in ("naive", "raven") for seed in SEEDS]

    def full(path: Path, data: bytes, folder: int | None = None) -> None:
        if path.parent.name == "raven":
            raise OSError(28, "No space left on device")
        write(path, data, folder)

    monkeypatch.setattr(results, "atomic_write", full)
    with store.lock():
        with pytest.raises(OSError, match="No space left"):
            store.write_unit(evaluated, entries)
        held = store.load()
        assert held.records.keys() == ResultStore(store.root).load().records.keys()
        assert {record.method for record in held.records.values() if record.task == "c"} == {"naive"}
        for name in "de":  # what does not need the room that lacks is written, once there is room all is
            another = evaluation(Task(name), "ood", SEEDS)
            store.write_unit(another, [entry(Task(name), another, "naive", 0)])
            assert {record.method for record in store.load().records.values() if record.task == name} == {"naive"}
            monkeypatch.setattr(results, "atomic_write", write)
        assert {record.method for record in store.load().records.values() if record.task == "c"} == {"naive", "raven"}
    assert all(store.load().misfit(record) is None for record in ResultStore(store.root).load().records.values())


class Killed(BaseException):
    """As a kill would: nothing after it runs."""


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("after", range(6))
def test_a_kill_between_files_loses_nothing_else(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch, after: int, changed: bool
) -> None:
    """Killed after each number of files: every record is whole or missing, and what was being written is finished."""
    task = Task("a", fingerprint="new" if changed else "f" * 8)
    seeds = SEEDS if changed else range(4)
    evaluated = evaluation(task, "ood", seeds)
    entries = [entry(task, evaluated, m, seed, commit="2") for m in ("naive", "raven") for seed in seeds]
    before = store.load()
    whole = ResultStore(shutil.copytree(store.root, store.root.parent / "undisturbed"))
    whole.write_unit(evaluated, entries)

    write, count = results.atomic_write, 0

    def stop(path: Path, data: bytes, folder: int | None = None) -> None:
        nonlocal count
        if count == after:
            raise Killed
        count += 1
        write(path, data, folder)

    monkeypatch.setattr(results, "atomic_write", stop)
    with pytest.raises(Killed):
        ResultStore(store.root).write_unit(evaluated, entries)
    monkeypatch.setattr(results, "atomic_write", write)

    again = ResultStore(store.root)
    left = again.load()
    assert left.problems == []
    for key, record in before.records.items():
        if (key.task, key.condition) != ("a", "ood"):
            assert left.records[key] == record
            assert left.misfit(record) is None
    wanted = {record.key: record for record, _ in entries}
    for key, record in left.records.items():  # nothing counts as done that is not
        if complete(again, key, fingerprint=task.fingerprint) and key in wanted:
            assert record.metrics == wanted[key].metrics
    with again.lock():
        if after:  # the first file holds the whole unit
            assert files(again.root) == files(whole.root)
        again.write_unit(evaluated, entries)
    assert files(again.root) == files(whole.root)


def test_predictions_of_another_run_do_not_count_as_the_records(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forced run is killed between the two files: the old record must not vouch for the new predictions."""
    task = Task("a")
    evaluated = evaluation(task, "ood", SEEDS)
    record, predictions = entry(task, evaluated, "raven", 0)
    write = results.atomic_write

    def stop(path: Path, data: bytes, folder: int | None = None) -> None:
        if path.name == "records.jsonl":
            raise Killed
        write(path, data, folder)

    monkeypatch.setattr(results, "atomic_write", stop)
    other = np.roll(predictions, 1, 1)  # the same number of each class: a metric alone might not tell
    with pytest.raises(Killed):
        store.write_unit(evaluated, [(record.model_copy(update={"predictions_sha256": digest(other)}), other)])
    assert not complete(ResultStore(store.root), record.key)
