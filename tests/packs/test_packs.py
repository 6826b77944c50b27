"""Feature packs: they give the very problems that they were made from, and whatever isn't as it was is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from benchmark.api import Task
from benchmark.arrays import ArrayTask
from benchmark.base import files
from benchmark.base.errors import NotAvailable, W2SError
from benchmark.core.pools import VERSION
from benchmark.core.problems import build_problem, data_fingerprint
from benchmark.core.registry import TASKS, register_task
from benchmark.packs import hub, write
from benchmark.packs.read import PackSource, PackTask
from benchmark.packs.sheet import FORMAT, expected_files, read_sheet
from benchmark.packs.write import write_pack
from benchmark.store.cache import Cache
from support.made_up import Blobs, make_arrays, registries_restored
from support.packs import reseal

FILES = ["pack.json", *expected_files(["ind", "ood"], [0, 1])]


def pack(task: Task, out: Path, *, wanted: tuple[str, ...] = (), seeds: int = 2) -> PackTask:
    write_pack(task, wanted, range(seeds), out, Cache(out.parent / "cache"), "cpu", lambda line: None)
    return PackTask(out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of `Blobs`, both conditions, seeds 0 and 1; not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "pack"
    pack(Blobs(), folder)
    return folder


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    """The same pack, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "mine"))


def refusal(folder: Path) -> str:
    with pytest.raises(W2SError) as caught:
        PackTask(folder)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"pack {folder}: ")
    return str(caught.value)


def assert_identical(a: Any, b: Any) -> None:
    """Of all fields; arrays bit by bit."""
    assert type(a) is type(b)
    if is_dataclass(a):
        for field in fields(a):
            assert_identical(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()
    else:
        assert a == b


# ---- what a pack gives


@pytest.mark.parametrize("options", [{}, {"ratings": True}, {"group_size": 3, "unused": 0.1}], ids=str)
def test_the_problems_are_those_that_it_was_made_from(tmp_path: Path, options: dict[str, Any]) -> None:
    task = Blobs(**options)
    packed = pack(task, tmp_path / "pack", seeds=3)
    assert (packed.name, packed.version, packed.card) == (task.name, task.version, task.card)
    assert data_fingerprint(packed) == data_fingerprint(task)
    assert packed.conditions == task.conditions == ("ind", "ood")
    for condition in ("ind", "ood"):
        for seed in range(3):
            ours = build_problem(packed, condition, seed, Cache(tmp_path / "unused"))
            assert ours.source_scores is not None
            assert_identical(ours, build_problem(task, condition, seed, Cache(tmp_path / "cache"), scored=True))
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("ratings", [False, True])
def test_an_example_is_stored_once_whatever_seeds_use_it(tmp_path: Path, ratings: bool) -> None:
    pack(Blobs(ratings=ratings), tmp_path / "pack", seeds=4)
    for condition in ("ind", "ood"):
        table = load_file(tmp_path / "pack" / condition / "features.safetensors")
        assert list(table) == ["all", "first two"], "every output: bootstrapping needs them"
        ids = table["all"][:, 0]
        assert len(set(ids)) == len(ids)
        used = [
            load_file(tmp_path / "pack" / condition / f"supervision-{seed}.safetensors")[f"examples/{split}"]
            for seed in range(4)
            for split in ("train", "val", "test")
        ]
        assert set(np.concatenate([rows.ravel() for rows in used])) == set(range(len(ids)))


def test_the_truth_is_in_files_of_its_own(made: Path) -> None:
    for path in made.rglob("*.safetensors"):
        assert any(name.startswith("labels/") for name in load_file(path)) == path.name.startswith("truth-")


def test_packing_again_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    pack(Blobs(), tmp_path / "pack")
    for name in FILES:
        assert (tmp_path / "pack" / name).read_bytes() == (made / name).read_bytes()


def test_one_condition_alone(tmp_path: Path) -> None:
    """The source scores come from the other one."""
    packed = pack(Blobs(), tmp_path / "pack", wanted=("ood",), seeds=1)
    assert packed.conditions == ("ood",)
    assert packed.problem("ood", 0, Cache()).source_scores is not None
    assert not (tmp_path / "pack" / "ind").exists()


def test_a_task_without_source_scores_is_packed_without(tmp_path: Path) -> None:
    """Its in-distribution pool can't be dealt."""
    packed = pack(Blobs((12, 12, 300)), tmp_path / "pack", wanted=("ood",), seeds=1)
    assert packed.problem("ood", 0, Cache()).source_scores is None


def test_the_sheet_says_where_it_comes_from(made: Path) -> None:
    sheet = read_sheet(made)
    assert (sheet.format, sheet.protocol, sheet.encoder) == (FORMAT, VERSION, "columns")
    assert sheet.outputs == ("first two", "all")
    assert sheet.supervisors[1][0].recipe["size"] == 40
    assert sheet.supervisors[0][2].name == "3 (left+right)"
    assert sheet.may_share
    assert {"torch", "numpy"} <= set(sheet.libraries)


def test_the_readme_has_a_hubs_head_and_says_what_the_truth_is_for(tmp_path: Path) -> None:
    for licence, expected in (("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"), ("MIT (or so): see below", "other")):
        task = Blobs()
        task.card = replace(task.card, licence=licence)
        pack(task, tmp_path / expected, seeds=1)
        text = (tmp_path / expected / "README.md").read_text()
        head = yaml.safe_load(text.split("---\n")[1])
        assert head["license"] == expected
        assert licence in text
        assert "truth is in it for scoring only" in text


@pytest.mark.parametrize(("wanted", "seed"), [("ood", 2), ("odd", 0)])
def test_what_it_lacks_is_said_with_what_it_has(made: Path, wanted: str, seed: int) -> None:
    message = "has no seed 2, only 0, 1" if seed else "has no condition 'odd', only ind, ood"
    with pytest.raises(W2SError, match=message):
        build_problem(PackTask(made), wanted, seed, Cache(Path("unused")))


# ---- what is refused


@pytest.mark.parametrize("name", FILES)
def test_an_altered_byte_a_cut_or_a_missing_file(mine: Path, name: str) -> None:
    path = mine / name
    data = path.read_bytes()
    for at in (0, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        message = refusal(mine)
        assert name in message
    path.write_bytes(data[: len(data) // 2])
    assert name in refusal(mine)
    path.write_bytes(data + b" ")
    assert name in refusal(mine)
    path.unlink()
    assert name in refusal(mine)
    path.write_bytes(data)
    PackTask(mine)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, each in inside for leaf in leaves(each, (*path, key)))]


def test_any_edit_of_the_sheet(mine: Path) -> None:
    text = (mine / "pack.json").read_text()
    whole = json.loads(text)
    paths = [path for path in leaves(whole) if path]
    assert len(paths) > 80
    for path in paths:
        edited = json.loads(text)
        inner = edited
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "edited" if path != ("format",) else FORMAT + 1
        (mine / "pack.json").write_text(json.dumps(edited, sort_keys=True, indent=1, ensure_ascii=False) + "\n")
        assert "was altered" in refusal(mine) or path == ("format",)
    for other in (
        json.dumps(whole),
        text + "\n",
        text.replace("{\n", '{\n "extra": 1,\n', 1),
        text.replace("{\n", '{\n "seeds": [0],\n', 1),  # twice; the last one would count
    ):
        assert other != text
        (mine / "pack.json").write_text(other)
        assert "was altered" in refusal(mine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": FORMAT + 1}, f"pack.json has format {FORMAT + 1}, this version of w2s-bench reads {FORMAT}"),
        ({"protocol": VERSION - 1}, f"was dealt by protocol {VERSION - 1}, this version of w2s-bench has {VERSION}"),
        ({"extra": 1}, "pack.json: extra: Extra inputs are not permitted"),
        ({"task": "../../etc"}, "pack.json: task: "),
        ({"seeds": ["0", "1"]}, "pack.json: seeds.0: "),
        ({"conditions": ["ood"]}, "files: ind/features.safetensors is no part of a pack"),
        ({"seeds": [0, 1, 2]}, "is not listed"),
        ({"supervisors": []}, "supervisors: of 0 seeds, expected 2"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_a_sheet_of_another_version_or_program(mine: Path, changes: dict[str, Any], message: str) -> None:
    reseal(mine, lambda content: content.update(changes))
    assert message in refusal(mine)


def test_a_sealed_sheet_without_a_field(mine: Path) -> None:
    reseal(mine, lambda content: content.pop("commit"))
    assert "pack.json: commit: Field required" in refusal(mine)


STRANGE: dict[str, tuple[str, str, Any, str]] = {
    "rows below 0": ("supervision-0", "examples/train", -1, r"rows -1\.\."),
    "rows beyond the table": ("supervision-0", "examples/train", 10_000, "too small"),
    "NaN features": ("features", "all", np.nan, "features/train hold NaN"),
    "negative soft labels": ("supervision-0", "soft_labels/test", -0.5, "NaN, infinity or negative"),
    "labels of another K": ("truth-0", "labels/val", 3, "labels/val are .*3, expected 0..2"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_sealed_arrays_that_w2s_would_not_write(mine: Path, what: str) -> None:
    name, tensor, value, message = STRANGE[what]
    path = mine / "ood" / f"{name}.safetensors"
    arrays = load_file(path)
    arrays[tensor] = arrays[tensor].copy()
    arrays[tensor].reshape(-1)[:8] = value
    save_file(arrays, path)
    reseal(mine, lambda content: None)
    with pytest.raises(W2SError, match=message):
        PackTask(mine).problem("ood", 0, Cache())
    PackTask(mine).problem("ind", 0, Cache())


def test_sealed_arrays_of_another_type_or_shape(mine: Path) -> None:
    path = mine / "ood" / "supervision-0.safetensors"
    good = load_file(path)
    for tensor, value in (
        ("soft_labels/val", good["soft_labels/val"].astype(np.float64)),
        ("soft_labels/val", good["soft_labels/val"][:, :2]),
        ("examples/val", good["examples/val"][:0]),
        ("examples/val", np.stack([good["examples/val"]] * 2, 1)),
    ):
        save_file({**good, tensor: np.ascontiguousarray(value)}, path)
        reseal(mine, lambda content: None)
        with pytest.raises(W2SError, match=r"/val is .*, expected "):
            PackTask(mine).problem("ood", 0, Cache())
    scores = good["source_scores"]
    for value in (scores[:2], scores.astype(np.float64), scores + 1, scores - 1, scores * np.float32(np.nan)):
        save_file({**good, "source_scores": value}, path)
        reseal(mine, lambda content: None)
        with pytest.raises(W2SError, match=r"source_scores are float.*, expected float32 \(3,\) from 0 to 1"):
            PackTask(mine).problem("ood", 0, Cache())
    save_file({name: x for name, x in good.items() if name != "examples/val"}, path)
    reseal(mine, lambda content: None)
    with pytest.raises(W2SError, match="a tensor is missing"):
        PackTask(mine).problem("ood", 0, Cache())


def test_no_pack_at_all(tmp_path: Path) -> None:
    assert "a pack is a folder made by `w2s pack`" in refusal(tmp_path)
    for text in ("", "[]", '{"task": "blobs"}', "\xff"):
        (tmp_path / "pack.json").write_text(text, encoding="latin-1")
        assert "pack.json" in refusal(tmp_path)


# ---- beside the installed tasks


def test_it_takes_the_place_of_the_installed_task(made: Path) -> None:
    with registries_restored():
        register_task(Blobs())
        for _ in range(2):
            PackSource(made).register({})
            assert isinstance(TASKS["blobs"], PackTask)
            assert TASKS.registered_by(str(made)) == ["blobs"]


def test_an_unknown_task_is_self_contained(made: Path) -> None:
    with registries_restored():
        PackSource(made).register({})
        assert TASKS["blobs"].card == Blobs().card


@pytest.mark.parametrize(("packed", "installed", "mend"), [(1, 2, "make it again"), (2, 1, "update w2s-bench")])
def test_another_version_of_the_task(tmp_path: Path, packed: int, installed: int, mend: str) -> None:
    task = Blobs()
    task.version = packed
    pack(task, tmp_path / "pack", seeds=1)
    task.version = installed
    with registries_restored():
        register_task(task)
        with pytest.raises(W2SError) as caught:
            PackSource(tmp_path / "pack").register({})
        assert str(caught.value) == (
            f"pack {tmp_path}/pack: was made from version {packed} of task 'blobs', installed is version {installed}; "
            f"{mend}"
        )
        assert TASKS["blobs"] is task


# ---- where it is written


def test_what_is_there_is_left_alone(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out, message in (
        (mine, "is there already; name another folder, or delete it first"),
        (tmp_path / "file", "is there already"),
        (tmp_path / "file" / "inside", "cannot be written"),
    ):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(W2SError, match=message):
            pack(Blobs(), out)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_of_two_at_once_one_is_refused(tmp_path: Path) -> None:
    with write._beside(tmp_path / "pack") as folder:
        (folder / "file").touch()
        with pytest.raises(W2SError, match="another `w2s pack` is writing there"):
            pack(Blobs(), tmp_path / "pack")
    assert [path.name for path in (tmp_path / "pack").iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


@pytest.mark.parametrize("name", ["features.safetensors", "truth-1.safetensors", "README.md", "pack.json"])
def test_stopped_at_any_file_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    out = tmp_path / "pack"
    atomic_write = files.atomic_write

    def stop(path: Path, data: bytes) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        atomic_write(path, data)

    monkeypatch.setattr(files, "atomic_write", stop)
    with pytest.raises(KeyboardInterrupt):
        pack(Blobs(), out)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "atomic_write", full)
    with pytest.raises(W2SError, match=r"supervision-0\.safetensors: cannot be written: .*No space left"):
        pack(Blobs(), tmp_path / "pack")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_what_a_killed_one_left_is_no_part_of_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".pack.packing" / "ood"
    left.mkdir(parents=True)
    (left / "features-old.safetensors").write_bytes(b"torn")
    pack(Blobs(), tmp_path / "pack")
    found = sorted(str(p.relative_to(tmp_path / "pack")) for p in (tmp_path / "pack").rglob("*") if p.is_file())
    assert found == sorted(FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "pack"]


def test_tasks_that_cannot_be_packed(tmp_path: Path) -> None:
    with pytest.raises(W2SError, match="task 'arrays' is made from given arrays"):
        pack(ArrayTask(**make_arrays()), tmp_path / "pack")
    with pytest.raises(W2SError, match="task 'blobs' has no condition 'odd', only ind, ood"):
        pack(Blobs(), tmp_path / "pack", wanted=("odd",))
    task = Blobs()
    task.missing = lambda: "run: make data"  # type: ignore[method-assign]
    with pytest.raises(NotAvailable, match="not packed: blobs: run: make data"):
        pack(task, tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


# ---- from a hub


def test_a_folder_goes_before_an_id(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def snapshot(*arguments: Any) -> Path:
        asked.append(arguments)
        return made

    monkeypatch.setattr(hub, "snapshot", snapshot)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "here").mkdir(parents=True)
    assert hub.find_pack("user/here") == tmp_path / "user" / "here"
    assert asked == []
    assert hub.find_pack("user/there") == made
    assert hub.find_pack("user/there@v1.0") == made
    only = ("pack.json", "README.md", "*/*.safetensors")  # whatever else the data set may hold
    assert asked == [("user/there", "dataset", only, None), ("user/there", "dataset", only, "v1.0")]
    for argument in ("nowhere", "./no/where", "/no/where", "a/b/c", "user/there@"):
        with pytest.raises(W2SError, match=r"no such folder, and no data-set id \(user/name"):
            hub.find_pack(argument)
    assert len(asked) == 2
