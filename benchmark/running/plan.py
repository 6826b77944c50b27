"""What a run has to do: all that was asked for less what the results folder already holds."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from benchmark.base.errors import W2SError
from benchmark.core.abilities import as_policy
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import RecordKey, Versions
from benchmark.core.task import Task
from benchmark.results.replies import read_replies
from benchmark.results.store import ResultStore
from benchmark.results.trials import is_tuned
from benchmark.running.method_settings import MethodSetting
from benchmark.running.request import Run


@dataclass(frozen=True)
class Training:
    """A part of a unit: methods (canaries included), and the seeds that lack all of them."""

    settings: tuple[MethodSetting, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """One task x condition (and seed, where students are costly): what is still to be trained. The unit of work, of
    writing, and of what a kill can lose."""

    task: str
    condition: str
    trainings: tuple[Training, ...]
    split: bool = False  # whether it is of one seed only

    @property
    def label(self) -> str:
        return f"{self.task} ({self.condition}{f', seed {self.trainings[0].seeds[0]}' if self.split else ''})"

    def __str__(self) -> str:
        trainings = (
            f"{', '.join(s.method for s in training.settings)} (seeds {', '.join(map(str, training.seeds))})"
            for training in self.trainings
        )
        return f"{self.label}: {'; '.join(trainings)}"


def make_plan(run: Run) -> list[Unit]:
    """The units with anything missing in the run's results, or all of them where they are to be replaced.

    Raises:
        W2SError: no task has any of the wanted conditions, or the folder holds results that must not be mixed with
            these.
    """
    _refuse_mixture(run)
    if not run.force and (lines := other_data(run)):
        raise W2SError(f"{lines[0]}; name another folder with --results, or replace them with --force")
    units = _units(run, run.available, _enough_replies(run.store, run.setup.replies))
    has = sorted({c for task, _ in run.available for c in task.conditions})
    if run.available and not set(has) & set(run.conditions):
        raise W2SError(f"no task here has the condition '{', '.join(run.conditions)}', only {', '.join(has)}")
    return units


def other_data(run: Run) -> list[str]:
    """A line for each (task, condition) of which the folder holds results from other data than the run has."""
    lines = []
    contents = run.store.load()
    for condition, (task, data) in product(run.conditions, run.available):
        there = contents.evaluations.get((task.name, condition))
        if there and there.task_version == task.version and there.data_fingerprint != data:
            unit = (task.name, condition, there.data_fingerprint)
            count = sum((r.task, r.condition, r.data_fingerprint) == unit for r in contents.records.values())
            what = f"{count} results of task '{task.name}' ({condition}) from other data"
            lines += [f"{run.store.root}: holds {what} than those of this run"] * bool(count)
    return lines


def other_sources(run: Run) -> list[str]:
    """A line for each method of which the folder holds results from another source than it has now."""
    lines: dict[str, None] = {}
    records = run.store.load().records
    for condition, (task, _) in product(run.conditions, run.available):
        for s, seed in product(run.settings(task), run.seeds):
            record = records.get(RecordKey(task.name, condition, s.method, s.hash, seed))
            if record and record.method_version == s.version and not record.of_source(s.source):
                same = f"(same version {s.version})"
                lines[f"source of method '{s.method}' changed since its records were made {same}: running again"] = None
    return list(lines)


def absent_units(run: Run) -> list[Unit]:
    """The units of the tasks that can't be run here: of all that was asked for, as nothing is known of their data."""
    return _units(run, [(task, "not here") for task in run.tasks if task.name in run.lacking], lambda key: True)


def _units(run: Run, tasks: Sequence[tuple[Task, str]], enough: Callable[[RecordKey], bool]) -> list[Unit]:
    """The units of tasks with the fingerprints of their data, condition by condition."""
    units: list[Unit] = []
    for condition, (task, data) in product(run.conditions, tasks):
        if condition not in task.conditions:
            continue
        settings = run.settings(task)
        trainings: dict[tuple[MethodSetting, ...], list[int]] = {}
        for seed in run.seeds:
            keys = {s: RecordKey(task.name, condition, s.method, s.hash, seed) for s in settings}
            lacking = tuple(
                setting
                for setting, key in keys.items()
                if run.outdated is None or run.outdated.among(key)
                if run.force
                or not run.store.complete(
                    key, Versions(ENGINE_VERSION, task.version, setting.version), data, setting.source
                )
                or (as_policy(task.student) and not enough(key))
            )
            if lacking:
                trainings.setdefault(lacking, []).append(seed)
        if task.student.costly:
            apart = sorted((seed, own) for own, seeds in trainings.items() for seed in seeds)
            units += [Unit(task.name, condition, (Training(own, (seed,)),), split=True) for seed, own in apart]
        elif trainings:
            whole = tuple(Training(own, tuple(seeds)) for own, seeds in trainings.items())
            units.append(Unit(task.name, condition, whole))
    return units


def _refuse_mixture(run: Run) -> None:
    """Tuned results and others in one folder, or a method's current version with two choices of options, would be
    several settings of one method."""
    records, root = run.store.load().records.values(), run.store.root
    if any(is_tuned(record) != run.setup.tune for record in records):
        holds, wants = ("results without --tune", "tuned ones") if run.setup.tune else ("tuned results", "others")
        raise W2SError(f"{root}: holds {holds}; name another folder with --results for {wants}")
    for setting in () if run.setup.tune else run.settings(run.tasks[0]):
        here, wanted = (setting.method, setting.version), setting.hyperparameters["method"]
        for record in records:
            found = record.hyperparameters.get("method")
            if (record.method, record.method_version) == here and found != wanted:
                raise W2SError(f"{root}: holds '{setting.method}' with other options, {found}; name another folder")


def _enough_replies(store: ResultStore, wanted: int) -> Callable[[RecordKey], bool]:
    """Whether the policies of a record in the store have replied to so many prompts, or to all that there are."""
    if not wanted:
        return lambda key: True
    prompts = {(key.record, key.example) for key in read_replies(store.root)[0]}
    counts = Counter(record for record, _ in prompts)
    records = store.load().records
    return lambda key: counts[key] >= min(wanted, records[key].n_test)
