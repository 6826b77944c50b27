"""`w2s leaderboard --check`: what it finds in results and pages that are not as they were written; and the canaries."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from benchmark.analysis.cells import analyse
from benchmark.analysis.chance import Deviation, chance_deviation
from benchmark.base.errors import W2SError
from benchmark.base.text import escape
from benchmark.core.names import ENGINE_VERSION
from benchmark.core.records import digest, setting_hash
from benchmark.core.scoring import compute_metrics
from benchmark.reports.checks import canary_findings, check
from benchmark.reports.leaderboard import render
from benchmark.results.store import ResultStore
from support.markdown import section, tables
from support.snapshots import Snapshots
from support.synthetic import Task, default_tasks, entry, evaluation, fill, put, tuned

SEEDS = range(3)
TASKS = default_tasks()[:2]  # solar by balanced accuracy, digits by accuracy
Tamper = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small suite, its tuned results, and their page."""
    root = tmp_path_factory.mktemp("sound")
    fill(ResultStore(root / "small"), TASKS, ("naive", "raven", "random_supervision"), conditions=("ood",))
    tuned(ResultStore(root / "small-tuned"))
    (root / "page.md").write_text(render(*stores(root)))
    return root


def stores(root: Path) -> list[ResultStore]:
    return [ResultStore(root / "small"), ResultStore(root / "small-tuned")]


def findings(root: Path) -> list[str]:
    return [line.replace(f"{root}/", "") for line in check([s.root for s in stores(root)], root / "page.md")]


# --- ways to spoil them ----------------------------------------------------------------------------------------------


def edited(change: Callable[[dict[str, Any]], object], folder: str = "small/raven", line: int = 0) -> Tamper:
    """Change one record's JSON."""

    def tamper(root: Path) -> None:
        path = root / folder / "records.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        change(lines[line])
        path.write_text("".join(json.dumps(values, sort_keys=True) + "\n" for values in lines))

    return tamper


def set_to(*path: Any, value: Any, **where: Any) -> Tamper:
    """Set a value in one record: `path` leads to it."""

    def change(values: dict[str, Any]) -> None:
        *way, last = path
        for name in way:
            values = values[name]
        values[last] = value(values[last]) if callable(value) else value

    return edited(change, **where)


def of_tuned(*path: Any, value: Any) -> Tamper:
    return set_to(*path, value=value, folder="small-tuned/raven")


def drop_a_trial(values: dict[str, Any]) -> None:
    values["hyperparameters"]["trials"].pop()
    values["setting"] = setting_hash(values["hyperparameters"])


def without_options(values: dict[str, Any]) -> None:
    values["hyperparameters"]["trials"][2] = {"student": {}}
    values["setting"] = setting_hash(values["hyperparameters"])


def another_wrong_answer(root: Path) -> None:
    """A prediction that changes no score: it was wrong before."""
    path = root / "small" / "raven" / "predictions.safetensors"
    arrays = load_file(path)
    name = next(name for name in sorted(arrays) if name.startswith("digits/ood"))
    labels = stores(root)[0].load().evaluations["digits", "ood"].seeds[int(name.rpartition("/")[2])].labels
    wrong = int(np.flatnonzero(arrays[name][0] != labels)[0])
    arrays[name][0, wrong] = next(c for c in range(10) if c not in (labels[wrong], arrays[name][0, wrong]))
    save_file(arrays, path)


def another_label(root: Path) -> None:
    path = root / "small" / "_tasks" / "solar-ood.safetensors"
    with safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    arrays["0/labels"][0] = 1 - arrays["0/labels"][0]
    path.write_bytes(save(arrays, metadata))


def another_setting(root: Path) -> None:
    put(stores(root)[0], TASKS[0], "raven", range(1), ("ood",), hyperparameters={"tuned": True})


def another_page(change: Callable[[str], str]) -> Tamper:
    return lambda root: (root / "page.md").write_bytes(change((root / "page.md").read_text()).encode())


def removed(name: str) -> Tamper:
    return lambda root: (root / name).unlink()


CASES: dict[str, Tamper] = {
    "as it was written": lambda root: None,
    "a rounding difference": set_to("metrics", "accuracy", value=lambda x: x - 1e-12),
    "another task version": set_to("task_version", value=2),
    "other data": set_to("data_fingerprint", value="x"),
    "another number of examples": set_to("n_test", value=3),
    "an unknown seed": set_to("seed", value=9),
    "an impossible seed": set_to("seed", value=-9),
    "an invalid value": set_to("cost", value="cheap"),
    "a record twice": edited(lambda values: values.update(seed=1)),
    "a method's version was raised once": set_to("method_version", value=2),
    "the engine's version was raised once": set_to("engine_version", value=ENGINE_VERSION + 1),
    "a higher metric": set_to("metrics", "accuracy", value=lambda x: x - 0.1),
    "a slightly higher metric": set_to("metrics", "accuracy", value=lambda x: x - 1e-8),
    "a metric of its own": set_to("metrics", "f1", value=0.5),
    "another wrong answer": another_wrong_answer,
    "another label": another_label,
    "a second setting": another_setting,
    "no predictions": removed("small/raven/predictions.safetensors"),
    "no truth": removed("small/_tasks/digits-ood.safetensors"),
    "no records, as a kill leaves them": removed("small/raven/records.jsonl"),
    "tuned: another choice": of_tuned("diagnostics", "chosen", value=4.0),
    "tuned: the default instead": of_tuned("diagnostics", "chosen", value=0.0),
    "tuned: another agreement": of_tuned("diagnostics", "agreement", 6, value=0.95),
    "tuned: an impossible agreement": of_tuned("diagnostics", "agreement", 6, value=1.5),
    "tuned: fewer agreements": of_tuned("diagnostics", "agreement", value=[0.5]),
    "tuned: no diagnostics": of_tuned("diagnostics", value={}),
    "tuned: a better oracle": of_tuned("metrics", "oracle_accuracy", value=0.99),
    "tuned: a worse default": of_tuned("metrics", "default_accuracy", value=0.01),
    "tuned: a better metric": of_tuned("metrics", "accuracy", value=0.99),
    "tuned: no oracle": edited(lambda values: values["metrics"].pop("oracle_accuracy"), "small-tuned/raven"),
    "tuned: fewer trials": edited(drop_a_trial, "small-tuned/raven"),
    "tuned: a trial without options": edited(without_options, "small-tuned/raven"),
    "an edited table": another_page(lambda page: page.replace("`raven`  ", "`raven` x", 1)),
    "a page with another end": another_page(lambda page: page + "\n"),
    "a page with Windows' line ends": another_page(lambda page: page.replace("\n", "\r\n")),
    "an empty page": another_page(lambda page: ""),
    "no page": removed("page.md"),
}


def test_what_was_tampered_with_is_found(sound: Path, tmp_path: Path, snapshot: Snapshots) -> None:
    """The first findings of each case, and how many more there are."""
    shown = []
    for number, (what, tamper) in enumerate(CASES.items()):
        tamper(root := Path(shutil.copytree(sound, tmp_path / str(number))))
        found = findings(root)
        more = [f"  and {len(found) - 3} more"] * (len(found) > 3)
        shown += [what, *(f"  {line}" for line in found[:3] or ["nothing"]), *more]
    snapshot("findings.txt", "\n".join(shown) + "\n")


def test_what_is_not_used_is_listed_on_the_page(sound: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sound, tmp_path / "x"))
    CASES["an unknown seed"](root)
    page = render(*stores(root))
    assert escape("raven on digits/ood, seed 9: seed: _tasks/digits-ood.safetensors has no seed 9") in section(
        page, "## Problems"
    )
    (cells,) = tables(section(page, "### image, out of distribution (OOD)"))
    assert cells["raven"]["digits"].endswith(" †"), "a seed is missing"
    assert cells["raven"]["solar"][-1] != "†"


def test_results_keep_the_evaluation_that_they_were_scored_against(sound: Path, tmp_path: Path) -> None:
    """A method run where supervisors came out otherwise must not move the other methods' floor."""
    store = ResultStore(shutil.copytree(sound / "small", tmp_path / "small"))
    evaluated = store.load().evaluations["solar", "ood"]
    truth = evaluated.seeds[0]
    changed = replace(truth, supervisors=(truth.supervisors + 1) % evaluated.num_classes)
    before = (store.root / "_tasks" / "solar-ood.safetensors").read_bytes()
    with store.lock(), pytest.raises(W2SError, match=r"solar \(ood\): the supervisors' predictions differ .* --force"):
        store.write_unit(evaluated.model_copy(update={"seeds": {0: changed}}), [])
    assert (store.root / "_tasks" / "solar-ood.safetensors").read_bytes() == before


def test_tasks_with_the_same_data_share_their_resamples(sound: Path) -> None:
    contents = ResultStore(sound / "small").load()
    twin = contents.evaluations["solar", "ood"].model_copy(update={"task": "twin", "data_fingerprint": "zz"})
    others = {seed: replace(truth, groups=truth.groups + 1) for seed, truth in twin.seeds.items()}
    stranger = twin.model_copy(update={"task": "stranger", "seeds": others})
    contents.evaluations |= {("twin", "ood"): twin, ("stranger", "ood"): stranger}
    floor = {task: cell.samples["mean_supervisor"].replicates for (task, _), cell in analyse(contents).cells.items()}
    np.testing.assert_array_equal(floor["twin"], floor["solar"])
    assert not np.array_equal(floor["stranger"], floor["solar"])


# --- canaries --------------------------------------------------------------------------------------------------------


def guess(store: ResultStore, tasks: Sequence[Task], leaked: float = 0.0) -> None:
    """`random_supervision` with uniform predictions, of which a share is replaced by the truth."""
    with store.lock():
        for task in tasks:
            for condition in ("ood", "ind"):
                evaluated, entries = evaluation(task, condition, SEEDS), []
                for seed in SEEDS:
                    rng = np.random.default_rng([seed, *task.name.encode(), condition == "ood"])
                    guesses = rng.integers(task.num_classes, size=(1, task.test))
                    guesses = np.where(rng.random(task.test) < leaked, evaluated.seeds[seed].labels, guesses)
                    metrics, own = compute_metrics(evaluated, seed, guesses, "random_supervision"), digest(guesses)
                    changes = {"metrics": metrics, "predictions_sha256": own}
                    entries.append((entry(task, evaluated, "random_supervision", seed, **changes)[0], guesses))
                store.write_unit(evaluated, entries)


def test_chance_does_not_depend_on_the_classes_shares(tmp_path: Path) -> None:
    """Random predictions on a pool where 90% are of one class are right 1 time in K, not 9 times in 10."""
    tasks = []
    for i, (classes, metric) in enumerate([(2, "accuracy"), (10, "accuracy"), (2, "balanced_accuracy")] * 2):
        task = Task(f"t{i}", "text", metric, classes)
        task.labels = np.where(np.random.default_rng(i).random(task.pool) < 0.9, 0, task.labels)
        tasks.append(task)
    store = ResultStore(tmp_path)
    guess(store, tasks)
    deviation = chance_deviation(analyse(store.load()))
    assert deviation is not None
    assert deviation.runs == 6 * 2 * 3
    assert abs(deviation.mean) < 3 * deviation.standard_error
    assert canary_findings(store) == []


def test_accuracy_stands_in_for_a_metric_without_a_chance_level(tmp_path: Path) -> None:
    """Uniform guesses have a macro-F1 far below 1/K where one class is frequent."""
    store, tasks = ResultStore(tmp_path), [Task(f"t{i}", "text", "macro_f1", 10) for i in range(4)]
    for task in tasks:
        task.labels = np.where(task.ease < 1.3, 0, task.labels)
    guess(store, tasks)
    deviation = chance_deviation(analyse(store.load()))
    assert deviation is not None
    stored = [record.metrics["accuracy"] for record in store.load().records.values()]
    assert deviation.mean == pytest.approx(np.mean(stored) - 0.1)
    assert canary_findings(store) == []


def test_a_leak_into_random_supervision_is_found(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "demo")
    guess(store, [Task(f"t{i}") for i in range(6)], leaked=0.1)
    (finding,) = canary_findings(store)
    assert finding.startswith("canary: random_supervision is +")
    assert finding.endswith("the truth leaks, or the harness is at fault")
    assert finding in check([store.root], store.root / "none.md")


def test_false_alarms_are_rare_also_with_few_runs() -> None:
    """Under chance the rule fires in about 0.27% of cases for any number of runs; three standard errors would not."""
    rng = np.random.default_rng(0)
    for runs in (3, 6, 130):
        draws = rng.normal(0, 0.05, (20_000, runs))
        ratio = np.abs(draws.mean(1)) / (draws.std(1, ddof=1) / np.sqrt(runs))
        assert np.mean(ratio > Deviation(0.0, 1.0, runs).allowed) == pytest.approx(0.0027, abs=0.0015)


def test_a_task_and_its_broken_variant_count_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    guess(store, [Task("tweets")])
    alone = chance_deviation(analyse(store.load()))
    contents = store.load()
    for key, record in list(contents.records.items()):
        evaluated = contents.evaluations[key.task, key.condition].model_copy(update={"task": "twin"})
        contents.evaluations["twin", key.condition] = evaluated
        twin = record.model_copy(update={"task": "twin"})
        contents.records[twin.key], contents.predictions[twin.key] = twin, contents.predictions[key]
    assert alone is not None
    assert alone.runs == 6
    assert chance_deviation(analyse(contents)) == alone
