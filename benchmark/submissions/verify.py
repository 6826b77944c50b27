"""`w2s verify`: runs one published cell again and compares its predictions. Writes nothing into results."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmark.base.errors import NotAvailable, W2SError, unknown_name
from benchmark.base.notices import Say
from benchmark.core.records import Record, RecordKey, SeedEvaluation
from benchmark.core.registry import METHODS, load_plugin
from benchmark.core.suite import load_suite, suite_of_folder
from benchmark.results.contents import Contents
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


def verify(request: Request, results: Path, seed: int, say: Say) -> int:
    """Run one cell again; returns 0 if the predictions are equal or within the tolerance, else 1.

    Args:
        request: one method, task and condition; its suite may be empty: the one that the results are named after.
        results: what is published.

    Raises:
        W2SError: no such cell, a method that is not known here, or one of other versions or settings than published.
    """
    cell = RecordKey(request.tasks[0], request.conditions[0], request.methods[0], "", seed)
    source = results / cell.method / SOURCE
    for plugin in request.plugins:
        if plugin.is_file() and source.is_file() and plugin.read_bytes() != source.read_bytes():
            raise W2SError(f"--plugin {plugin}: is not the source that was submitted, {source}")
        load_plugin(plugin)
    store = ResultStore(results)
    store.require_current("only the commit that made it can run its cells again")
    published = store.load()
    records = _records_of(cell, published, results)
    name = request.suite or results.resolve().name
    suite = suite_of_folder(name) or load_suite(name)
    if cell.method not in METHODS:
        where = f"read {source}, and if you trust it add --plugin {source}"
        raise W2SError(
            f"method '{cell.method}' is not registered here, and code from submissions is never run unasked; "
            f"{where if source.is_file() else 'name it with --plugin'}"
        )
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
    evaluation = published.evaluations.get((task.name, cell.condition))
    if evaluation is None or (misfit := published.misfit(record)):
        raise W2SError(f"{record.key}: {misfit if evaluation else 'its published truth is missing'}")

    say(f"running {record.key}, on {run.setup.device}")
    training = Training((setting,), (seed,))
    result = execute(Unit(task.name, cell.condition, (training,), split=task.student.costly), run.setup)
    if not result.entries:
        raise W2SError("; ".join(result.failures))
    ((again, predictions),) = result.entries
    for line in _circumstances(record, again, evaluation.seeds[seed], result.evaluation.seeds[seed]):
        say(f"differs: {line}")
    return _compare(record, published.predictions[record.key], again, predictions, evaluation.metric, say)


def _records_of(cell: RecordKey, published: Contents, root: Path) -> list[Record]:
    """The published records of the cell, one for each setting."""
    records = published.records
    if not records:
        raise W2SError(f"{root}: no results there")
    for what, name in (("method", cell.method), ("task", cell.task)):
        if name not in (known := {getattr(key, what) for key in records}):
            raise unknown_name(f"{what} in {root}", name, known)
    if found := [record for key, record in sorted(records.items()) if key._replace(setting="") == cell]:
        return found
    has = sorted({(k.condition, k.seed) for k in records if (k.task, k.method) == (cell.task, cell.method)})
    there = ", ".join(f"{condition} {seed}" for condition, seed in has) or "none"
    raise W2SError(f"{cell}: not in {root}; conditions and seeds there: {there}")


def _circumstances(record: Record, again: Record, old: SeedEvaluation, new: SeedEvaluation) -> Iterator[str]:
    """What may explain a difference."""
    names, there, here = sorted(record.libraries | again.libraries), record.libraries, again.libraries
    pairs = [(name, there.get(name, "none"), here.get(name, "none")) for name in names]
    pairs += [(name, getattr(record, name), getattr(again, name)) for name in ("device", "commit", "data_fingerprint")]
    for what, then, now in pairs:
        if then != now:
            yield f"{what}: published {then}, here {now}"
    if old.supervisors.shape != new.supervisors.shape or (old.labels != new.labels).any():
        yield "the pool: other labels than published"
    elif old.sha256 != new.sha256:
        yield f"supervisors: {(old.supervisors != new.supervisors).mean():.2%} of their predictions"


def _compare(
    record: Record, published: NDArray[Any], again: Record, predictions: NDArray[Any], metric: str, say: Say
) -> int:
    if published.shape != predictions.shape:
        say(f"not reproduced: {record.key}: predictions {predictions.shape}, published are {published.shape}")
        return 1
    differ, then, now = published != predictions, record.metrics[metric], again.metrics[metric]
    if not differ.any():
        say(f"equal: {record.key}: all {predictions.size} predictions, {metric} {then:.4f}")
        return 0
    fits = differ.mean() <= DIFFERING and abs(now - then) <= SCORE
    say(
        f"{'within the tolerance' if fits else 'not reproduced'}: {record.key}: {differ.sum()} of {predictions.size} "
        f"predictions differ ({differ.mean():.2%}, allowed {DIFFERING:.0%}), {metric} {then:.4f}, here {now:.4f} "
        f"({100 * (now - then):+.2f} points, allowed {100 * SCORE:g})"
    )
    return 0 if fits else 1
