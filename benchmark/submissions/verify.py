"""`w2s verify`: runs one published cell again and compares its predictions. Writes nothing into results."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmark.base.errors import NotAvailable, W2SError, unknown_name
from benchmark.base.notices import Say
from benchmark.core.records import Record, RecordKey, SeedEvaluation
from benchmark.core.registry import METHODS, load_plugin
from benchmark.core.suite import load_suite, suite_of_folder
from benchmark.results.layout import SOURCE
from benchmark.results.store import ResultStore
from benchmark.running.plan import Training, Unit
from benchmark.running.request import Request, resolve
from benchmark.running.stale import raised
from benchmark.running.unit import execute

# Share of predictions that may differ, and by how much the score may. With other arithmetic (no vector instructions,
# MKL's most compatible kernels; for one of three tasks features and supervisors anew too) 3 of 114 records differed
# from the published, by at most 0.6% and 0.3 points, and no supervisor did. Two methods differ by 15% in the median; of
# pairs of methods in a cell, 0.6% differ by less than 1%.
DIFFERING, SCORE = 0.01, 0.01


def tolerated(share: float) -> bool:
    """Whether so many predictions may differ on another machine."""
    return share <= DIFFERING


def verify(request: Request, results: Path, seed: int, say: Say) -> int:
    """Run one cell again; returns 0 if the predictions are equal or within the tolerance, else 1.

    Args:
        request: one method, task and condition; its suite may be empty: the one that the results are named after.
        results: what is published.

    Raises:
        W2SError: no such cell, a method that is not known here, or one of other versions or settings than published.
    """
    store = ResultStore(results)
    cell = RecordKey(request.tasks[0], request.conditions[0], request.methods[0], "", seed)
    for plugin in request.plugins:
        _check_source(plugin, store.root / cell.method / SOURCE)
        load_plugin(plugin)
    records = _published(store, cell)
    name = request.suite or results.resolve().name
    suite = suite_of_folder(name) or load_suite(name)
    _check_known(store, cell.method)
    run = resolve(replace(request, suite=suite.name, full=suite.full), say)
    (task,) = run.tasks
    if run.lacking:
        raise NotAvailable(f"{task.name} can't be run here: {run.lacking[task.name]}")
    (setting,) = run.settings(task)
    record = next((record for record in records if record.setting == setting.hash), None)
    if record is None:
        raise W2SError(
            f"{records[0].key}: published with {records[0].hyperparameters}, here it would be run with "
            f"{setting.hyperparameters}; name the suite with --suite, or use the commit that the results were made with"
        )
    if old := raised(record):
        raise W2SError(f"{record.key}: is stale ({', '.join(old)}): run it again instead (w2s run --stale)")
    evaluation = store.load().evaluations.get((record.task, record.condition))
    if evaluation is None or (reason := store.load().misfit(record)):
        raise W2SError(f"{record.key}: {reason if evaluation else 'its published truth is missing'}")

    say(f"running {record.key}, on {run.setup.device}")
    training = Training((setting,), (seed,))
    result = execute(Unit(task.name, cell.condition, (training,), split=task.student.costly), run.setup)
    if not result.entries:
        raise W2SError("; ".join(result.failures))
    ((again, predictions),) = result.entries
    for line in _circumstances(record, again):
        say(line)
    _say_supervisors(evaluation.seeds[record.seed], result.evaluation.seeds[record.seed], say)
    return _compare(record, store.load().predictions[record.key], again, predictions, evaluation.metric, say)


def _published(store: ResultStore, cell: RecordKey) -> list[Record]:
    """The published records of the cell, one for each setting."""
    records = store.load().records
    if not records:
        raise W2SError(f"{store.root}: no results there")
    for kind, name, known in (
        ("method", cell.method, {key.method for key in records}),
        ("task", cell.task, {key.task for key in records}),
    ):
        if name not in known:
            raise unknown_name(f"{kind} in {store.root}", name, known)
    if found := [record for key, record in sorted(records.items()) if key._replace(setting="") == cell]:
        return found
    has = sorted({(k.condition, k.seed) for k in records if (k.task, k.method) == (cell.task, cell.method)})
    there = ", ".join(f"{condition} {seed}" for condition, seed in has) or "none"
    raise W2SError(f"{cell}: not in {store.root}; conditions and seeds there: {there}")


def _check_known(store: ResultStore, method: str) -> None:
    """Code from a submission runs only when it is named."""
    if method in METHODS:
        return
    source = store.root / method / SOURCE
    where = f"read {source}, and if you trust it add --plugin {source}" if source.is_file() else "name it with --plugin"
    raise W2SError(f"method '{method}' is not registered here, and code from submissions is never run unasked; {where}")


def _check_source(plugin: Path, submitted: Path) -> None:
    if plugin.is_file() and submitted.is_file():
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (plugin, submitted)]
        if hashes[0] != hashes[1]:
            raise W2SError(f"--plugin {plugin}: is not the source that was submitted, {submitted}")


def _circumstances(record: Record, again: Record) -> list[str]:
    """A line for each thing that may explain a difference."""
    here, there = again.libraries, record.libraries
    pairs = [(name, there.get(name, "none"), here.get(name, "none")) for name in sorted(here.keys() | there.keys())]
    pairs += [(name, getattr(record, name), getattr(again, name)) for name in ("device", "commit", "data_fingerprint")]
    return [f"differs: {what}: published {then}, here {now}" for what, then, now in pairs if then != now]


def _say_supervisors(published: SeedEvaluation, here: SeedEvaluation, say: Say) -> None:
    if published.sha256 == here.sha256:
        return
    if published.supervisors.shape != here.supervisors.shape or (published.labels != here.labels).any():
        say("differs: the test split: other labels than published")
        return
    share = (published.supervisors != here.supervisors).mean()
    say(f"differs: supervisors: {share:.2%} of their test predictions")


def _compare(
    record: Record, published: NDArray[Any], again: Record, predictions: NDArray[Any], metric: str, say: Say
) -> int:
    if published.shape != predictions.shape:
        say(f"not reproduced: {record.key}: predictions {predictions.shape}, published are {published.shape}")
        return 1
    count, share = int((published != predictions).sum()), float((published != predictions).mean())
    if not count:
        say(f"equal: {record.key}: all {predictions.size} predictions, {metric} {record.metrics[metric]:.4f}")
        return 0
    change = again.metrics[metric] - record.metrics[metric]
    fits = tolerated(share) and abs(change) <= SCORE
    say(
        f"{'within the tolerance' if fits else 'not reproduced'}: {record.key}: {count} of {predictions.size} "
        f"predictions differ ({share:.2%}, allowed {DIFFERING:.0%}), {metric} {record.metrics[metric]:.4f}, here "
        f"{again.metrics[metric]:.4f} ({100 * change:+.2f} points, allowed {100 * SCORE:g})"
    )
    return 0 if fits else 1
