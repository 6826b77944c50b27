"""Which records are stale: made by a lower version of the engine, their task or their method than the code has now, or
from another source of their method.

Only versions and sources are looked at, so no data are loaded. What a folder holds from a method that is not registered
here (an outside submission) is compared by engine and task alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from benchmark.base.errors import W2SError
from benchmark.base.text import plain
from benchmark.core.code_hash import source_findings, source_of
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import Record, RecordKey
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Suite, suite_of_folder
from benchmark.results.contents import no_results
from benchmark.results.layout import MANIFEST, OLDER, SOURCE, TUNED
from benchmark.results.store import ResultStore

_SHOWN = 3


class Place(NamedTuple):
    """Where a record stands, whatever its setting."""

    task: str
    condition: str
    method: str
    seed: int

    @classmethod
    def of(cls, key: RecordKey) -> Self:
        return cls(key.task, key.condition, key.method, key.seed)


def raised(record: Record) -> list[str]:
    """What has been raised since a record was made, each as 'engine version 1, now 2', or else that its method's source
    changed; empty if it is current."""
    known = [("engine", record.engine_version, ENGINE_VERSION)]
    if record.task in TASKS.names():
        known.append((record.task, record.task_version, TASKS[record.task].version))
    if record.method in METHODS:
        known.append((record.method, record.method_version, METHODS[record.method].version))
    found = [f"{what} version {then}, now {now}" for what, then, now in known if then < now]
    same = record.method in METHODS and record.method_version == METHODS[record.method].version
    if not found and same and not record.of_source(source_of(METHODS[record.method])):
        found.append(f"source of {record.method} changed")
    return found


def stale_records(records: Iterable[Record]) -> list[Record]:
    """Those of which something has been raised since, by key."""
    return sorted((record for record in records if raised(record)), key=lambda record: record.key)


def stale_findings(store: ResultStore) -> list[str]:
    """A finding for each method with stale records: how many, what was raised, the command that redoes them. Of a
    folder that says itself that it is older, that must be true."""
    if store.older is not None:
        current = not stale_records(store.load().records.values())
        return [f"{store.root}/{OLDER}: nothing here is older than the code; remove it"] * current
    return [
        f"{store.root}: {method}: {len(records)} stale records ({_why(records)}); "
        f"run `{_redo(store, method, _suite(store))}`"
        for method, records in _by_method(stale_records(store.load().records.values()))
    ]


def _by_method(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Each method, by name, with its records by key."""
    by_method: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.key):
        by_method[record.method].append(record)
    return sorted(by_method.items())


def _suite(store: ResultStore) -> Suite | None:
    """The suite that a folder of results is named after."""
    return suite_of_folder(store.root.resolve().name.removesuffix(TUNED))


def _option(suite: Suite | None) -> str:
    return f"--suite {suite.name}{' --full' * suite.full}" if suite else "--suite SUITE"


def _redo(store: ResultStore, method: str, suite: Suite | None) -> str:
    """The command that runs a method's stale records again, or makes the submission again whose manifest names them."""
    if _submitted(store, method):
        return f"w2s submit {store.root / method / SOURCE} {_option(suite)}"
    tune = " --tune" * store.root.resolve().name.endswith(TUNED)
    plugin = "" if method in METHODS else " --plugin FILE"
    return f"w2s run --stale {_option(suite)}{tune} --results {store.root}{plugin}"


def _submitted(store: ResultStore, method: str) -> bool:
    return (store.root / method / MANIFEST).exists()


@dataclass(frozen=True)
class StaleRun:
    """What `w2s run --stale` redoes: the places of records, with the settings that their methods have now."""

    places: frozenset[Place]
    left_out: tuple[str, ...]  # a line for each task and method that is not registered here, or a submission

    def among(self, key: RecordKey) -> bool:
        return Place.of(key) in self.places

    def superseded(self, store: ResultStore) -> list[RecordKey]:
        """Stale records, of settings that are no more, in the places where a new one is now."""
        records = store.load().records
        old = {record.key for record in stale_records(records.values())}
        new = {Place.of(key) for key in records.keys() - old}
        return sorted(key for key in old if self.among(key) and Place.of(key) in new)


def stale_run(
    store: ResultStore,
    suite: Suite,
    tasks: Sequence[str],
    methods: Sequence[str],
    conditions: Sequence[str],
    seeds: int | None,
) -> StaleRun:
    """The stale records of a folder, of these tasks, methods (globs; all when empty), conditions and number of seeds.

    Raises:
        W2SError: an unknown name, or the folder holds another suite's results: its recipe would give other settings.
    """
    named = _suite(store)
    if named and named.folder != suite.folder:
        other = f"{store.root} holds results of another suite than '{suite.folder}'"
        raise W2SError(f"--stale: {other}; add {_option(named)}")
    places = {Place.of(record.key) for record in stale_records(store.load().records.values())}
    if tasks:
        chosen = TASKS.select(tasks)
        places = {at for at in places if at.task in chosen}
    if methods:
        chosen = METHODS.select(methods)
        places = {at for at in places if at.method in chosen}
    places = {at for at in places if at.condition in conditions and (seeds is None or at.seed < seeds)}
    submitted = {at.method for at in places if _submitted(store, at.method)}
    places = {at for at in places if at.method not in submitted}
    unknown = {f"task '{at.task}'" for at in places if at.task not in TASKS.names()}
    unknown |= {f"method '{at.method}'" for at in places if at.method not in METHODS}
    lines = [
        f"not redone: method '{method}' is a submission; run `{_redo(store, method, suite)}` and put its folder here"
        for method in sorted(submitted)
    ]
    lines += [f"not redone: {what} is not registered here; name its file with --plugin" for what in sorted(unknown)]
    known = {at for at in places if not {f"task '{at.task}'", f"method '{at.method}'"} & unknown}
    return StaleRun(frozenset(known), tuple(lines))


def overview(store: ResultStore) -> list[str]:
    """The rows of a results folder: records, settings, and how many records are stale and why; then what is wrong.

    Raises:
        W2SError: there are none.
    """
    contents = store.load()
    if not contents.records and not contents.problems:
        raise no_results(store.root)
    rows = []
    for method, records in _by_method(contents.records.values()):
        stale = stale_records(records)
        settings = len({record.setting for record in records})
        rows.append([method, str(len(records)), str(settings), f"{len(stale)}: {_why(stale)}" if stale else "0"])
    table = plain(["method", "records", "settings", "stale"], rows)
    return [*table.splitlines(), *contents.problems, *source_findings(contents.records.values())]


def _why(records: Iterable[Record]) -> str:
    """What was raised, the first few of it."""
    found = list(dict.fromkeys(reason for record in records for reason in raised(record)))
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
