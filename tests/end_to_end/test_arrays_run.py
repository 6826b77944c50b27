"""Bring your own arrays, from the file to the table: what is recorded, and that it is the same each time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmark.arrays import ArrayTask
from benchmark.core.names import CANARIES
from benchmark.core.registry import METHODS
from benchmark.results.store import ResultStore
from benchmark.store.cache import Cache
from support.command_line import CommandLine, command_line
from support.made_up import make_arrays
from support.rounding import assert_trained_alike

# sorted, as the plan has them; one of several stages, one with diagnostics, canaries
NAMES = ("bootstrapping", "ensemble", "ground_truth", "naive", "random_supervision", "raven")
ASKED = ("--seeds", "2", "--methods", ",".join(NAMES))
STUDENT = {"learning_rate": 1e-3, "epochs": 30, "batch_size": 128, "min_steps": 250}  # of the default suite
N, TRAIN, TEST = 600, 420, 120


def grouped_arrays() -> dict[str, NDArray[Any]]:
    """Every fourth label unknown; four groups, one of them in the test split with unknown labels only."""
    arrays = make_arrays(N)
    arrays["groups"] = np.arange(N) % 4
    arrays["labels"][arrays["groups"] == 3] = -1
    return arrays


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mine.npz` and what `w2s run --arrays` made of it; not to be changed."""
    folder = tmp_path_factory.mktemp("base")
    with command_line(folder) as w2s:
        np.savez("mine.npz", **grouped_arrays())
        done = w2s("run", "--arrays", "mine.npz", *ASKED)
        assert (done.status, done.err) == (0, "")
        assert done.out == "1 units run, results in runs/arrays-mine\n"
    return folder


@pytest.fixture
def mine(base: Path, w2s: CommandLine, tmp_path: Path) -> Path:
    """The same file, in the test's own folder."""
    shutil.copy(base / "mine.npz", tmp_path)
    return tmp_path


def results(folder: Path) -> Path:
    return folder / "runs" / "arrays-mine"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a results folder but the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def records(folder: Path, method: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / method / "records.jsonl").read_text().splitlines()]


def assert_same_but_for_rounding(found: Path, expected: Path, methods: tuple[str, ...] = NAMES) -> None:
    """Another plan gives the same predictions and metrics, and the same diagnostics but for rounding."""
    for method in methods:
        name = f"{method}/predictions.safetensors"
        assert (found / name).read_bytes() == (expected / name).read_bytes()
        ours, theirs = records(found, method), records(expected, method)
        for a, b in zip(ours, theirs, strict=True):
            one, two = a.pop("diagnostics"), b.pop("diagnostics")
            assert a == b
            assert one.keys() == two.keys()
            for key in one:
                assert_trained_alike([one[key]], [two[key]], [np.zeros_like(two[key])], 90 * 200)
    for path in sorted((expected / "_tasks").iterdir()):
        assert (found / "_tasks" / path.name).read_bytes() == path.read_bytes()


# ---- what is recorded


def test_results_are_laid_out_as_promised(base: Path) -> None:
    files = {f"{method}/{name}" for method in NAMES for name in ("records.jsonl", "predictions.safetensors")}
    assert contents(results(base)).keys() == files | {"_tasks/mine-ood.safetensors"}
    for method in NAMES:
        lines = records(results(base), method)
        assert [(r["task"], r["condition"], r["method"], r["seed"]) for r in lines] == [
            ("mine", "ood", method, seed) for seed in (0, 1)
        ]
        for record in lines:
            own = {"accuracy", "worst_group_accuracy"}
            assert record["metrics"].keys() == {*own, *(f"test_{name}" for name in own)}
            assert record["hyperparameters"]["student"] == STUDENT
            assert (record["n_train"], record["n_test"]) == (TRAIN, TEST)
            assert record["device"] == "cpu"
        arrays = load_file(results(base) / method / "predictions.safetensors")
        assert set(arrays) == {f"mine/ood/{r['setting']}/{r['seed']}" for r in lines}
        replicas = 3 if method in ("naive", "bootstrapping") else 1
        assert {array.shape for array in arrays.values()} == {(replicas, N)}


def test_metrics_follow_from_the_predictions_and_unknown_labels_never_count(base: Path) -> None:
    truth = load_file(results(base) / "_tasks" / "mine-ood.safetensors")
    for method in NAMES:
        predictions = load_file(results(base) / method / "predictions.safetensors")
        for record in records(results(base), method):
            labels, groups, splits = (truth[f"{record['seed']}/{name}"] for name in ("labels", "groups", "splits"))
            hits = predictions[f"mine/ood/{record['setting']}/{record['seed']}"] == labels
            for prefix in ("", "test_"):
                on_test = prefix or method == "ground_truth"
                known = (labels >= 0) & (splits == 2) if on_test else labels >= 0
                assert 0 < known.sum() < (TEST if on_test else N)
                assert record["metrics"][f"{prefix}accuracy"] == pytest.approx(hits[:, known].mean())
                assert set(groups) == {0, 1, 2, 3}
                worst = [min(row[known & (groups == group)].mean() for group in (0, 1, 2)) for row in hits]
                assert record["metrics"][f"{prefix}worst_group_accuracy"] == pytest.approx(np.mean(worst))


def test_the_whole_pool_is_stored_in_the_problems_order(base: Path) -> None:
    """Truth, supervisors and predictions alike: in another order predictions would be right by chance alone."""
    arrays, truth = grouped_arrays(), load_file(results(base) / "_tasks" / "mine-ood.safetensors")
    task = ArrayTask(**arrays, name="mine")
    for seed in (0, 1):
        problem = task.problem("ood", seed, Cache())
        expected = {
            "labels": problem.truth.labels,
            "groups": problem.truth.groups,
            "supervisors": {split: p.argmax(-1) for split, p in problem.soft_labels.items()},
            "ensemble": {split: p.mean(1).argmax(-1) for split, p in problem.soft_labels.items()},
            "splits": {split: np.full(len(y), i) for i, (split, y) in enumerate(problem.truth.labels.items())},
        }
        assert list(problem.truth.labels) == ["train", "val", "test"]
        for name, by_split in expected.items():
            np.testing.assert_array_equal(truth[f"{seed}/{name}"], np.concatenate([*by_split.values()]).T)
        (record,) = [r for r in records(results(base), "ground_truth") if r["seed"] == seed]
        predictions = load_file(results(base) / "ground_truth/predictions.safetensors")
        hits = predictions[f"mine/ood/{record['setting']}/{seed}"][0] == truth[f"{seed}/labels"]
        for i in range(3):
            assert hits[(truth[f"{seed}/splits"] == i) & (truth[f"{seed}/labels"] >= 0)].mean() > 0.8


def test_what_is_recorded_is_sane(base: Path) -> None:
    mean = {m: np.mean([r["metrics"]["accuracy"] for r in records(results(base), m)]) for m in NAMES}
    assert mean["ground_truth"] > 0.9
    assert mean["random_supervision"] < 0.6
    assert mean["ensemble"] > 0.8
    weights = np.array([r["diagnostics"]["weights"] for r in records(results(base), "raven")])
    assert weights.shape == (2, 3)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


def test_bootstrapping_trains_twice_on_the_same_features(base: Path) -> None:
    (cost,) = {r["cost"] for r in records(results(base), "bootstrapping")}
    (once,) = {r["cost"] for r in records(results(base), "naive")}
    assert (cost, once) == (2 * 84 * 3 * 3, 84 * 3 * 3)  # stages x epochs (250 steps at least) x steps x heads


def test_every_method_and_canary_runs_on_pairs(w2s: CommandLine, tmp_path: Path) -> None:
    np.savez("duels.npz", **make_arrays(400, K=2, pairs=True))
    done = w2s("run", "--arrays", "duels.npz", "--seeds", "1")
    assert (done.status, done.err) == (0, "")
    found = ResultStore(Path("runs/arrays-duels")).load()
    assert not found.problems
    assert {r.method for r in found.records.values()} == {*METHODS.names(), *CANARIES}
    assert found.evaluations["duels", "ood"].modality == "preference"
    accuracy = {r.method: r.metrics["accuracy"] for r in found.records.values()}
    assert accuracy["ground_truth"] > 0.8
    assert {frozenset(r.metrics) for r in found.records.values()} == {frozenset({"accuracy", "test_accuracy"})}


def test_safetensors_and_npz_give_the_same(mine: Path, base: Path, w2s: CommandLine) -> None:
    save_file(grouped_arrays(), "mine.safetensors")
    assert w2s("run", "--arrays", "mine.safetensors", *ASKED, "--results", "elsewhere").status == 0
    assert contents(mine / "elsewhere") == contents(results(base))
    assert not (mine / "runs").exists()


def test_split_by_group_keeps_groups_whole(w2s: CommandLine) -> None:
    arrays = {**make_arrays(N), "groups": np.arange(N) // 8}
    np.savez("grouped.npz", **arrays)
    asked = ("run", "--arrays", "grouped.npz", "--seeds", "2", "--methods", "ensemble", "--results")
    assert w2s(*asked, "loose").status == 0
    whole = w2s(*asked, "whole", "--split-by-group")
    assert (whole.status, whole.out) == (0, "1 units run, results in whole\n")
    sizes = {}
    for folder in ("loose", "whole"):
        truth = load_file(f"{folder}/_tasks/grouped-ood.safetensors")
        tests = [truth[f"{seed}/groups"][truth[f"{seed}/splits"] == 2] for seed in (0, 1)]
        sizes[folder] = [np.unique(groups, return_counts=True)[1] for groups in tests]
    assert all((counts == 8).all() for counts in sizes["whole"])
    assert not any((counts == 8).all() for counts in sizes["loose"])


# ---- the same each time

DRAWING = '''
from dataclasses import dataclass
import torch
from benchmark.api import Method, cross_entropy, register_method

@register_method
@dataclass(eq=False)
class Drawing(Method):
    """CE(q, sum_m w_m p_m), w drawn by each replica."""
    name = "drawing"
    title = citation = "this test"
    kind = "ensemble"

    def start(self, supervision):
        M = supervision.soft_labels.shape[2]
        self.w = torch.stack([torch.rand(M, generator=own) for own in supervision.generators])
        self.w /= self.w.sum(1, keepdim=True)

    def loss(self, logits, batch):
        return cross_entropy(logits, (self.w[:, None, :, None] * batch.soft_labels).sum(2))

    def diagnostics(self):
        return {"weights": self.w}
'''


def test_the_same_run_gives_the_same_bytes_in_another_folder(mine: Path, base: Path, w2s: CommandLine) -> None:
    np.random.seed(12345)  # noqa: NPY002 (the global state must not matter)
    assert w2s("run", "--arrays", "mine.npz", *ASKED).status == 0
    found, expected = contents(results(mine)), contents(results(base))
    assert found.keys() == expected.keys()
    for name, data in expected.items():
        assert found[name] == data, name


def test_running_again_does_nothing_and_force_does_all_with_the_same_bytes(
    mine: Path, base: Path, w2s: CommandLine
) -> None:
    shutil.copytree(results(base), results(mine))
    before = {path: path.stat().st_mtime_ns for path in results(mine).rglob("*.*")}
    again = w2s("run", "--arrays", "mine.npz", *ASKED)
    assert (again.status, again.out) == (0, "nothing to do: all is in runs/arrays-mine\n")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    forced = w2s("run", "--arrays", "mine.npz", *ASKED, "--force")
    assert (forced.status, forced.out) == (0, "1 units run, results in runs/arrays-mine\n")
    written = [path for path in before if path.name != ".lock"]
    assert all(path.stat().st_mtime_ns > before[path] for path in written)
    assert contents(results(mine)) == contents(results(base))


@pytest.mark.parametrize("alone", NAMES)
def test_a_method_alone_predicts_as_it_does_among_others(mine: Path, base: Path, w2s: CommandLine, alone: str) -> None:
    assert w2s("run", "--arrays", "mine.npz", "--seeds", "2", "--methods", alone).status == 0
    assert {path.name for path in results(mine).iterdir()} == {".lock", "_tasks", alone}
    assert_same_but_for_rounding(results(mine), results(base), (alone,))


def test_methods_and_seeds_added_later_give_what_one_run_gives(mine: Path, base: Path, w2s: CommandLine) -> None:
    steps = [
        (("naive", "raven"), "1", "mine (ood): naive, raven (seeds 0)"),
        (NAMES[:4], "1", "mine (ood): bootstrapping, ensemble, ground_truth (seeds 0)"),
        (NAMES[:4], "2", "mine (ood): bootstrapping, ensemble, ground_truth, naive (seeds 1)"),
        (NAMES, "2", "mine (ood): random_supervision (seeds 0); random_supervision, raven (seeds 1)"),
    ]
    for methods, seeds, planned in steps:
        asked = ("run", "--arrays", "mine.npz", "--methods", ",".join(methods), "--seeds", seeds)
        assert w2s(*asked, "--dry-run").out.startswith(planned)
        assert w2s(*asked).status == 0
    assert_same_but_for_rounding(results(mine), results(base))


def test_a_methods_own_random_draws_do_not_depend_on_the_plan(mine: Path, w2s: CommandLine) -> None:
    Path("drawing.py").write_text(DRAWING)
    asked = ("run", "--arrays", "mine.npz", "--plugin", "drawing.py")
    for folder, plans in (
        ("once", [("drawing", "3")]),
        ("later", [("drawing,ensemble,naive", "1"), ("drawing", "2"), ("drawing,raven", "3")]),
    ):
        for methods, seeds in plans:
            assert w2s(*asked, "--methods", methods, "--seeds", seeds, "--results", folder).status == 0
    weights = [record["diagnostics"]["weights"] for record in records(mine / "once", "drawing")]
    assert len({tuple(own) for own in weights}) == 3
    assert_same_but_for_rounding(mine / "later", mine / "once", ("drawing",))


def test_a_changed_file_replaces_only_with_force(mine: Path, base: Path, w2s: CommandLine) -> None:
    shutil.copytree(results(base), results(mine))
    arrays = grouped_arrays()
    arrays["features"][0, 0] += 1
    np.savez("mine.npz", **arrays)
    held = "runs/arrays-mine: holds 12 results of task 'mine' (ood) from other data than those of this run"
    ways = "name another folder with --results, or replace them with --force"
    assert w2s("run", "--arrays", "mine.npz", *ASKED).refusal == f"{held}; {ways}"
    assert contents(results(mine)) == contents(results(base))
    done = w2s("run", "--arrays", "mine.npz", *ASKED, "--force").out
    assert done == f"{held}: replacing them (--force)\n1 units run, results in runs/arrays-mine\n"
    old, new = records(results(base), "raven"), records(results(mine), "raven")
    assert len(new) == len(old)
    assert {r["data_fingerprint"] for r in new}.isdisjoint({r["data_fingerprint"] for r in old})


# ---- the table


@pytest.fixture
def published(mine: Path, base: Path, w2s: CommandLine) -> Path:
    """A copy of the results with its leaderboard."""
    shutil.copytree(results(base), results(mine))
    done = w2s("leaderboard", "--results", "runs/arrays-mine")
    assert done.status == 0
    for name in ("ground_truth", "raven", "naive"):
        title = METHODS[name].title if name in METHODS.names() else name
        assert title in done.out or name in done.out
    return results(mine)


def test_the_leaderboard_is_the_same_bytes_each_time_and_checks_out(published: Path, w2s: CommandLine) -> None:
    table = published / "LEADERBOARD.md"
    first = table.read_bytes()
    assert w2s("leaderboard", "--results", "runs/arrays-mine").status == 0
    assert table.read_bytes() == first
    table.unlink()
    assert w2s("leaderboard", "--results", "runs/arrays-mine").status == 0
    assert table.read_bytes() == first
    checked = w2s("leaderboard", "--results", "runs/arrays-mine", "--check")
    assert (checked.status, checked.out) == (0, "runs/arrays-mine: all adds up, LEADERBOARD.md is current\n")
    assert table.read_bytes() == first


def test_check_notices_an_edited_table(published: Path, w2s: CommandLine) -> None:
    table = published / "LEADERBOARD.md"
    text = table.read_text()
    digit = re.search(r"\d\d\.\d", text)
    assert digit
    edited = text[: digit.start()] + "99.9" + text[digit.end() :]
    assert edited != text
    for content in (edited, text + "\n", text[:-1], ""):
        table.write_text(content)
        checked = w2s("leaderboard", "--results", "runs/arrays-mine", "--check")
        assert checked.status == 1
        assert "LEADERBOARD.md: stale: line " in checked.out
        assert table.read_text() == content, "--check writes nothing"
    table.unlink()
    checked = w2s("leaderboard", "--results", "runs/arrays-mine", "--check")
    assert checked.status == 1
    assert "LEADERBOARD.md: missing" in checked.out


def test_check_notices_an_edited_result(published: Path, w2s: CommandLine) -> None:
    path = published / "raven" / "records.jsonl"
    text = path.read_text()
    lines = text.splitlines()
    better = json.loads(lines[1])
    better["metrics"]["accuracy"] = 0.999
    edits = {
        "metric": "\n".join([lines[0], json.dumps(better)]) + "\n",
        "torn line": text[:-40],
        "lost line": lines[0] + "\n",
        "doubled line": text + lines[1] + "\n",
        "renamed seed": text.replace('"seed":1', '"seed":7'),
    }
    for what, content in edits.items():
        assert content != text
        path.write_text(content)
        checked = w2s("leaderboard", "--results", "runs/arrays-mine", "--check")
        assert checked.status == 1, what
        if what == "metric":
            assert re.search(r"raven.*accuracy.*0\.999", checked.out)
    path.write_text(text)
    assert w2s("leaderboard", "--results", "runs/arrays-mine", "--check").status == 0


def test_check_notices_edited_predictions(published: Path, w2s: CommandLine) -> None:
    path = published / "raven" / "predictions.safetensors"
    arrays = load_file(path)
    name = sorted(arrays)[0]
    arrays[name] = arrays[name].copy()
    arrays[name][0, 0] = (arrays[name][0, 0] + 1) % 3
    save_file(arrays, path)
    assert w2s("leaderboard", "--results", "runs/arrays-mine", "--check").status == 1


# ---- plug-ins

MIXED = '''
from dataclasses import dataclass
from benchmark.api import Method, cross_entropy, hard, register_method

@register_method
@dataclass(eq=False)
class Sharpened(Method):
    """CE(q, (1 - a) p + a hard(p)), p the mean of the supervisors."""
    name = "sharpened"
    title = "Sharpened mean"
    citation = "this test"
    kind = "ensemble"
    alpha: float = 0.5

    def loss(self, logits, batch):
        p = batch.soft_labels.mean(2)
        return cross_entropy(logits, (1 - self.alpha) * p + self.alpha * hard(p))
'''

FAILING = '''
import sys
from dataclasses import dataclass
import torch
from benchmark.api import Method, cross_entropy, register_method

@register_method
@dataclass(eq=False)
class Failing(Method):
    """Fails in its own way."""
    name = "failing"
    title = citation = "this test"
    kind = "ensemble"

    def start(self, supervision):
        self.R, self.M = len(supervision.soft_labels), supervision.soft_labels.shape[2]

    def loss(self, logits, batch):
        {loss}
        return cross_entropy(logits, batch.soft_labels.mean(2))

    def diagnostics(self):
        {diagnostics}
        return {{}}
'''
FAULTS: dict[str, tuple[str, str, str]] = {
    "raises": ("raise ValueError('not\\nnow')", "", "method 'failing': ValueError: not now"),
    "raises late": ("if batch.epoch == 3: raise KeyError('late')", "", "method 'failing': KeyError: 'late'"),
    "exits": ("sys.exit(0)", "", "method 'failing': SystemExit: 0"),
    "gives another shape": ("return logits", "", "method 'failing': loss has shape"),
    "gives NaN": ("return logits.sum(-1) * float('nan')", "", "method 'failing' on mine (ood): training gave NaN"),
    "breaks the backward pass": (
        "e = logits.exp(); l = e.sum(-1).log(); e.add_(1); return l",
        "",
        "method 'failing': RuntimeError",
    ),
    "fails in diagnostics": ("", "raise RuntimeError('no')", "method 'failing': RuntimeError: no"),
}
FAULTS_LATER: dict[str, tuple[str, str, str]] = {
    "gives diagnostics without replicas": ("", "return {'weights': torch.ones(self.M)}", "'failing'"),
    "gives NaN as diagnostics": ("", "return {'weights': torch.full((self.R, self.M), float('nan'))}", "'failing'"),
}


@pytest.mark.parametrize(
    "how",
    [*FAULTS, *FAULTS_LATER],
)
def test_a_failing_plugin_is_reported_and_the_others_are_as_without_it(
    mine: Path, base: Path, w2s: CommandLine, how: str
) -> None:
    loss, diagnostics, message = {**FAULTS, **FAULTS_LATER}[how]
    Path("failing.py").write_text(FAILING.format(loss=loss or "pass", diagnostics=diagnostics or "pass"))
    others = ("ensemble", "ground_truth", "naive")
    asked = ("run", "--arrays", "mine.npz", "--seeds", "2", "--plugin", "failing.py")
    done = w2s(*asked, "--methods", ",".join([*others, "failing"]))
    assert done.status == 1
    reported = [line for line in done.out.splitlines() if "failing" in line]
    assert len(reported) == 1
    assert message in reported[0]
    assert {path.name for path in results(mine).iterdir()} == {".lock", "_tasks", *others}
    for method in others:
        for name in ("records.jsonl", "predictions.safetensors"):
            assert (results(mine) / method / name).read_bytes() == (results(base) / method / name).read_bytes()


def test_what_failed_is_tried_again_by_the_next_run(mine: Path, w2s: CommandLine) -> None:
    Path("failing.py").write_text(FAILING.format(loss="raise ValueError", diagnostics="pass"))
    done = w2s("run", "--arrays", "mine.npz", "--seeds", "2", "--plugin", "failing.py", "--methods", "failing")
    assert done.status == 1
    again = w2s("run", "--arrays", "mine.npz", "--seeds", "2", "--plugin", "failing.py", "--methods", "failing")
    assert again.status == 1
    assert "nothing to do" not in again.out
    assert ResultStore(results(mine)).load().records == {}


def test_too_few_supervisors_for_a_method_is_said_and_the_others_run(w2s: CommandLine) -> None:
    np.savez("one.npz", **make_arrays(100, M=1))
    done = w2s("run", "--arrays", "one.npz", "--seeds", "2", "--methods", "naive,weasel")
    assert done.status == 1
    assert "method 'weasel': needs at least 2 supervisors, found 1" in done.out
    assert [r.method for r in ResultStore(Path("runs/arrays-one")).load().records.values()] == ["naive", "naive"]


@pytest.fixture
def with_plugin(mine: Path, base: Path, w2s: CommandLine) -> str:
    """The plug-in's method added to results that are there."""
    shutil.copytree(results(base), results(mine))
    Path("sharpened.py").write_text(MIXED)
    asked = ("--arrays", "mine.npz", "--seeds", "2", "--methods", f"sharpened,{','.join(NAMES)}")
    planned = w2s("run", *asked, "--plugin", "sharpened.py", "--dry-run")
    assert planned.out.splitlines()[0] == "mine (ood): sharpened (seeds 0, 1)"
    done = w2s("run", *asked, "--plugin", "sharpened.py")
    assert (done.status, done.err) == (0, "")
    return "sharpened"


def test_a_plugins_method_runs_and_is_ranked(mine: Path, base: Path, w2s: CommandLine, with_plugin: str) -> None:
    found = records(results(mine), with_plugin)
    assert [r["hyperparameters"]["method"] for r in found] == [{"alpha": 0.5}] * 2
    for name, data in contents(results(base)).items():
        assert (results(mine) / name).read_bytes() == data, "what was there is as it was"
    shown = w2s("leaderboard", "--results", "runs/arrays-mine").out
    assert "Sharpened mean" in shown or "sharpened" in shown
    assert w2s("leaderboard", "--results", "runs/arrays-mine", "--check").status == 0
