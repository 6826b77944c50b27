"""The plan is what is missing: nothing that is there and valid, everything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from torch import Tensor

from benchmark.api import Task
from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError
from benchmark.core.canaries import CANARY_METHODS
from benchmark.core.data import Recipe
from benchmark.core.losses import cross_entropy
from benchmark.core.method import Batch, Method
from benchmark.core.names import CANARIES
from benchmark.core.problems import data_fingerprint
from benchmark.core.registry import METHODS, TASKS, register_method, register_task
from benchmark.core.suite import Recipes, load_suite, suite_names
from benchmark.results.store import ResultStore
from benchmark.results.trials import TRIALS
from benchmark.running import plan as plan_module
from benchmark.running.method_settings import MethodSetting
from benchmark.running.plan import Unit, make_plan, other_sources
from benchmark.running.runner import Report, execute
from support.made_up import Blobs, Columns, make_arrays, registries_restored
from support.units import RECIPE, run_of, setup_of

METHOD_NAMES = ("planned", "ground_truth")
SEEDS = (0, 1)


@dataclass(eq=False)
class Planned(Method):
    """CE(q, (1 - s) p + s / K)."""

    name = "planned"
    title = citation = "test"
    kind = "ensemble"
    family = "noisy-label loss"

    smoothing: float = 0.1

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        target = (1 - self.smoothing) * batch.soft_labels.mean(2) + self.smoothing / logits.shape[-1]
        return cross_entropy(logits, target)


def task_of(**changes: Any) -> ArrayTask:
    return ArrayTask(**{**make_arrays(60), **changes}, name="planned-task")


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    with registries_restored():
        register_method(Planned)
        register_task(task_of())
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is there."""
    folder = tmp_path_factory.mktemp("results")
    assert do(folder) == 1
    return folder


Shapes = list[tuple[str, str, tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]]]
EVERYTHING: Shapes = [("planned-task", "ood", ((METHOD_NAMES, SEEDS),))]


def units(folder: Path, task: Task | None = None, student: Recipes | Recipe = RECIPE, **changes: Any) -> list[Unit]:
    asked: dict[str, Any] = {"methods": METHOD_NAMES, "seeds": SEEDS, **changes}
    chosen = task or TASKS["planned-task"]
    available = [(chosen, data_fingerprint(chosen))]
    return make_plan(run_of(available, store=ResultStore(folder), setup=setup_of(folder / "cache", student), **asked))


def plan(folder: Path, task: Task | None = None, **changes: Any) -> Shapes:
    """Task, condition, and which methods with which seeds."""
    return [
        (u.task, u.condition, tuple((tuple(s.method for s in t.settings), t.seeds) for t in u.trainings))
        for u in units(folder, task, **changes)
    ]


def do(folder: Path, student: Recipes | Recipe = RECIPE, **changes: Any) -> int:
    """Run what is planned; the number of units."""
    store = ResultStore(folder)
    planned = units(folder, student=student, **changes)
    with store.lock():
        report = Report()
        execute(planned, setup_of(folder / "cache", student), store, report)
        assert report.failures == []
    return len(planned)


def test_all_is_planned_when_nothing_is_there_and_nothing_when_all_is(tmp_path: Path, done: Path) -> None:
    assert plan(tmp_path) == EVERYTHING
    assert plan(done) == []
    assert plan(done, seeds=(1,)) == []
    assert plan(done, methods=("planned",)) == []


def test_records_say_their_methods_family(done: Path) -> None:
    found = {(record.method, record.family) for record in ResultStore(done).load().records.values()}
    assert found == {(name, "noisy-label loss" if name == "planned" else None) for name in METHOD_NAMES}
    lines = [line for path in done.glob("*/records.jsonl") for line in path.read_text().splitlines()]
    assert sum('"family":' in line for line in lines) == len(SEEDS), "where there is none, there is no field"


def test_force_plans_all_again(done: Path) -> None:
    assert plan(done, force=True) == EVERYTHING


def test_seeds_and_methods_that_lack_are_planned_alone(done: Path) -> None:
    assert plan(done, seeds=(0, 1, 2, 3)) == [("planned-task", "ood", ((METHOD_NAMES, (2, 3)),))]
    assert plan(done, methods=("naive", "planned")) == [("planned-task", "ood", ((("naive",), SEEDS),))]
    both = plan(done, methods=("naive", "planned"), seeds=(0, 1, 2))
    assert both == [("planned-task", "ood", ((("naive",), (0, 1)), (("naive", "planned"), (2,))))]


@pytest.mark.parametrize(
    ("owner", "attribute"),
    [(plan_module, "ENGINE_VERSION"), (Planned, "version"), (CANARY_METHODS["ground_truth"], "version")],
    ids=["engine", "method", "canaries"],
)
def test_a_raised_version_is_planned_again(
    done: Path, monkeypatch: pytest.MonkeyPatch, owner: object, attribute: str
) -> None:
    monkeypatch.setattr(owner, attribute, getattr(owner, attribute) + 1)
    methods = METHOD_NAMES if attribute == "ENGINE_VERSION" else (owner.name,)  # type: ignore[attr-defined]
    assert plan(done) == [("planned-task", "ood", ((methods, SEEDS),))]


def test_a_raised_task_version_is_planned_again(done: Path) -> None:
    task = task_of()
    task.version = 2
    assert plan(done, task) == EVERYTHING


@pytest.mark.parametrize("name", ["features", "soft_labels", "labels"])
def test_results_of_other_data_are_replaced_only_when_that_is_asked_for(done: Path, name: str) -> None:
    """Also by methods that are not there yet: the evaluation would be replaced all the same."""
    array = make_arrays(60)[name]
    array[0] = array[np.flatnonzero((array != array[0]).reshape(len(array), -1).any(1))[0]]
    task, ways = task_of(**{name: array}), "name another folder with --results, or replace them with --force"
    for methods in (METHOD_NAMES, ("naive",)):
        with pytest.raises(W2SError) as refused:
            plan(done, task, methods=methods)
        held = f"{done}: holds 4 results of task 'planned-task' (ood) from other data than those of this run"
        assert str(refused.value) == f"{held}; {ways}"
    assert plan(done, task, force=True) == EVERYTHING
    task.version = 2
    assert plan(done, task) == EVERYTHING, "a raised version says that they are others"
    assert plan(done, task_of()) == [], "equal data made anew are the same"


def test_another_source_of_the_same_version_is_planned_again_and_said(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that do not say their source are left as they are."""
    chosen = TASKS["planned-task"]
    asked = [(chosen, data_fingerprint(chosen))], METHOD_NAMES, ResultStore(copy)
    run = run_of(*asked, seeds=SEEDS, setup=setup_of(copy / "cache", RECIPE))
    assert other_sources(run) == []
    monkeypatch.setattr("benchmark.running.method_settings.source_of", lambda method: "a" * 64)
    line = "source of method 'planned' changed since its records were made (same version 1): running again"
    assert other_sources(run) == [line]
    assert plan(copy) == lacking("planned")
    path = copy / "planned" / "records.jsonl"
    records = [json.loads(record) for record in path.read_text().splitlines()]
    assert all(len(record.pop("source_sha256")) == 64 for record in records)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    assert plan(copy) == []
    assert other_sources(run_of(*asked[:2], ResultStore(copy), seeds=SEEDS, setup=run.setup)) == []


def test_a_changed_setting_is_planned_beside_what_is_there(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for change in ({"epochs": 2}, {"batch_size": 16}, {"learning_rate": 0.5}):
        assert plan(done, student=Recipes(replace(RECIPE, **change))) == EVERYTHING
    monkeypatch.setattr(Planned.__init__, "__defaults__", (0.2,))
    monkeypatch.setattr(Planned, "version", 2)
    assert plan(done) == [("planned-task", "ood", ((("planned",), SEEDS),))]


def test_a_changed_default_of_the_same_version_is_refused(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planned.__init__, "__defaults__", (0.2,))
    with pytest.raises(W2SError, match=r"holds 'planned' with other options, {'smoothing': 0.1}; name another folder"):
        plan(done)
    assert plan(done, methods=("ground_truth",)) == [], "other methods go on"


def test_the_setting_hash_holds_every_option_and_the_students_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MethodSetting.of("planned", RECIPE).hyperparameters == {
        "method": {"smoothing": 0.1},
        "student": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 32},
    }
    assert (
        MethodSetting.of("planned", replace(RECIPE, precision="bf16")).hyperparameters["student"]["precision"] == "bf16"
    )
    assert MethodSetting.of("ground_truth", RECIPE).hyperparameters == {"method": {}, "student": RECIPE.chosen()}
    for precision, held in (("float32", False), ("bf16", True)):
        tried = MethodSetting.of("naive", replace(RECIPE, precision=precision), tune=True).hyperparameters[TRIALS]
        assert {"precision" in trial["student"] for trial in tried} == {held}
    before = MethodSetting.of("planned", RECIPE).hash
    assert before == MethodSetting.of("planned", Recipe(epochs=1, batch_size=32)).hash
    monkeypatch.setattr(Planned.__init__, "__defaults__", (0.2,))
    assert MethodSetting.of("planned", RECIPE).hash != before


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of the full folder, to be damaged."""
    for path in done.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(done)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def lacking(*methods: str, seeds: tuple[int, ...] = SEEDS) -> Shapes:
    return [("planned-task", "ood", ((methods, seeds),))]


def test_a_lost_or_invalid_record_is_planned_again(copy: Path) -> None:
    path = copy / "planned" / "records.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(second + "\n")
    assert plan(copy) == lacking("planned", seeds=(0,))
    path.write_text(f"{first}\n{second[:-20]}\n")
    assert plan(copy) == lacking("planned", seeds=(1,))
    path.write_text(f"{first}\n{second}\n")
    assert plan(copy) == []
    path.unlink()
    assert plan(copy) == lacking("planned")


def test_lost_or_edited_predictions_are_planned_again(copy: Path) -> None:
    path = copy / "planned" / "predictions.safetensors"
    whole = path.read_bytes()
    arrays = load_file(path)
    name = next(name for name in sorted(arrays) if name.endswith("/1"))
    arrays[name] = (arrays[name] + 1) % 3
    save_file(arrays, path)
    assert plan(copy) == lacking("planned", seeds=(1,))
    path.write_bytes(whole[:-5])
    assert plan(copy) == lacking("planned")
    path.unlink()
    assert plan(copy) == lacking("planned")


def test_a_lost_or_broken_evaluation_plans_the_unit_again_and_the_run_mends_it(copy: Path, done: Path) -> None:
    path = copy / "_tasks" / "planned-task-ood.safetensors"
    path.write_bytes(path.read_bytes()[:-30])
    assert plan(copy) == EVERYTHING
    path.unlink()
    assert plan(copy) == EVERYTHING
    assert do(copy) == 1
    assert plan(copy) == []
    for name in ("_tasks/planned-task-ood.safetensors", "planned/records.jsonl", "planned/predictions.safetensors"):
        assert (copy / name).read_bytes() == (done / name).read_bytes()


def test_a_forced_run_replaces_and_adds_nothing(copy: Path, done: Path) -> None:
    assert do(copy, force=True) == 1
    for name in ("planned/records.jsonl", "ground_truth/records.jsonl", "planned/predictions.safetensors"):
        assert (copy / name).read_bytes() == (done / name).read_bytes()


def test_a_raised_version_replaces_the_records(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Planned, "version", 2)
    assert do(copy) == 1
    assert plan(copy) == []
    records = [record for record in ResultStore(copy).load().records.values() if record.method == "planned"]
    assert [record.method_version for record in records] == [2, 2]


def test_changed_data_replace_the_evaluation(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(labels=make_arrays(60, seed=1)["labels"])
    monkeypatch.setitem(TASKS._items, "planned-task", task)
    assert do(copy, seeds=(0,), force=True) == 1
    contents = ResultStore(copy).load()
    assert contents.evaluations["planned-task", "ood"].data_fingerprint == task.fingerprint
    assert list(contents.evaluations["planned-task", "ood"].seeds) == [0], "seeds of other data are gone"
    assert plan(copy) == lacking(*METHOD_NAMES, seeds=(1,))


def test_units_are_tasks_times_conditions(tmp_path: Path) -> None:
    tasks = [(task, data_fingerprint(task)) for task in (Blobs(), task_of(), Blobs(name="other"))]
    made = make_plan(run_of(tasks, ["planned"], ResultStore(tmp_path), conditions=["ood", "ind"]))
    assert [(unit.task, unit.condition) for unit in made] == [
        ("blobs", "ood"),
        ("planned-task", "ood"),
        ("other", "ood"),
        ("blobs", "ind"),
        ("other", "ind"),
    ]
    assert made[0].label == "blobs (ood)"


def test_planning_encodes_and_trains_nothing(tmp_path: Path) -> None:
    Columns.calls.clear()
    task = Blobs()
    assert plan(tmp_path, task, conditions=("ood", "ind"))
    assert Columns.calls == []
    assert task.loads == []


def test_a_condition_that_no_task_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(W2SError, match="no task here has the condition 'ind', only ood"):
        plan(tmp_path, conditions=("ind",))


def test_suites_name_tasks_and_methods_that_are_there() -> None:
    assert {"default", "smoke"} <= set(suite_names())
    for name in suite_names():
        suite = load_suite(name)
        assert suite.name == name
        assert suite.description
        assert suite.seeds >= 1
        assert set(suite.conditions) <= {"ind", "ood"}
        assert METHODS.select(list(suite.methods))
        if name != "paper":
            assert TASKS.select(list(suite.tasks))


def test_the_default_suite_is_everything_with_ten_seeds() -> None:
    suite = load_suite("default")
    shipped = {name for name in TASKS.names() if not isinstance(TASKS[name], ArrayTask)}
    assert len(TASKS.select(list(suite.tasks))) == 46
    assert set(TASKS.select(list(suite.tasks))) <= shipped
    assert set(METHODS.select(list(suite.methods))) == {*METHODS.names(), *CANARIES}
    assert (set(suite.conditions), suite.seeds) == ({"ind", "ood"}, 10)


def test_the_smoke_suite_has_a_task_of_each_modality() -> None:
    suite = load_suite("smoke")
    assert sorted(TASKS[name].card.modality for name in TASKS.select(list(suite.tasks))) == [
        "image",
        "preference",
        "text",
    ]
    assert suite.seeds == 2


def test_an_unknown_suite_suggests_the_nearest() -> None:
    with pytest.raises(W2SError, match=r"unknown suite 'defualt': did you mean 'default'\?"):
        load_suite("defualt")
