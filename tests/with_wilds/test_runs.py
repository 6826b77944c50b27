"""Full runs on the miniature data, by the command line: data read by the real `wilds`, supervisors trained, students,
records. The official metric in a record is what `dataset.eval` of the real package gives for the same predictions."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.core.pools import draw_pool
from benchmark.core.registry import TASKS
from benchmark.results.contents import Contents
from benchmark.results.store import ResultStore
from support import SUPPORT
from support.miniature import TOXICITY, WORDS
from support.tiny import save_model
from tasks._wilds import DATA_SETS, open_dataset

# what the official evaluation calls the metric that a record holds
OFFICIAL = {
    "iwildcam": ("macro_f1", "F1-macro_all"),
    "camelyon17": ("accuracy", "acc_avg"),
    "fmow": ("worst_group_accuracy", "acc_worst_region"),
    "amazon": ("tenth_percentile_accuracy", "10th_percentile_acc"),
    "civilcomments": ("worst_identity_accuracy", "acc_wg"),
}
BY_DOMAIN = ("camelyon17-by-domain", "civilcomments-by-domain")
TEXTS = ("amazon", "civilcomments", "civilcomments-by-domain")
METHODS = "naive,ensemble,raven,ground_truth"
_PLUGIN = '''
"""The WILDS tasks with small models, under other names."""
from benchmark.api import register_task
from benchmark.core.registry import TASKS

for name in {names}:
    task = TASKS[name].configured({options})
    task.name = "mini-" + name
    register_task(task)
'''


@dataclass(frozen=True)
class Run:
    folder: Path
    out: str
    contents: Contents


def w2s(*arguments: str, cwd: Path, data_root: Path | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "W2S_CACHE": str(cwd / "cache")}
    if data_root is not None:
        environment["W2S_DATA"] = str(data_root)
    call = [sys.executable, str(SUPPORT / "small_cli.py"), *arguments]
    return subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vision transformer with random weights, as `save_pretrained` writes it."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model with random weights that knows the miniature's words."""
    words = sorted({word for text in (*WORDS, *TOXICITY) for word in text.split()})
    as_written = [form for word in words for form in (f"{word},", f"{word};", f'"{word}"')]
    return save_model(tmp_path_factory.mktemp("llama"), "llama", words=as_written)


@pytest.fixture(scope="module")
def run(root: Path, vit: Path, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    options: dict[str, object] = {"encoder": str(vit), "supervisor": "resnet18", "pixels": 32, "supervisor_epochs": 2}
    options |= {"model": str(llama), "supervisor_model": str(llama), "blocks": None}
    (folder / "mini.py").write_text(_PLUGIN.format(names=[*OFFICIAL, *BY_DOMAIN], options=options))
    out = ""
    for arguments in _arguments(root):
        done = w2s(*arguments, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        out += done.stdout
    return Run(folder, out, ResultStore(folder / "results").load())


def _arguments(root: Path) -> list[list[str]]:
    """Two runs into one folder: linear heads on images, and language models, which learn in fewer epochs."""
    images = ",".join(f"mini-{name}" for name in (*OFFICIAL, *BY_DOMAIN) if name not in TEXTS)
    texts = ",".join(f"mini-{name}" for name in TEXTS)
    recipe = ["--set", "learning_rate=0.01", "--set", "epochs=12", "--set", "batch_size=16"]
    where = ["--conditions", "ood,ind", "--results", "results", "--data-root", str(root)]
    each = ["run", "--plugin", "mini.py", "--methods", METHODS, "--seeds", "1", *where]
    return [[*each, "--tasks", images], [*each, "--tasks", texts, *recipe]]


@pytest.mark.parametrize("condition", ["ood", "ind"])
@pytest.mark.parametrize("name", [*OFFICIAL, *BY_DOMAIN])
def test_records_hold_accuracy_and_the_official_metric(run, root, name, condition):
    """The pool's test split is found again in the data set, and its predictions given to `eval`."""
    data_name = name.removesuffix("-by-domain")
    metric, official = OFFICIAL[data_name]
    dataset = open_dataset(next(d for d in DATA_SETS if d.name == data_name), root)
    task = TASKS[name].configured({"data_root": root})
    names = (*task.card.sources, task.card.target, *task.ind_domains)
    pool = draw_pool(task, {n: task.domain(n) for n in names}, condition, 0)
    rows = torch.from_numpy(task.rows(pool.domains[0])[pool.examples["test"]])
    records = {
        r.method: r for r in run.contents.records.values() if (r.task, r.condition) == (f"mini-{name}", condition)
    }
    assert set(records) == set(METHODS.split(","))
    for record in records.values():
        assert set(record.metrics) == {f"{of}{name}" for name in ("accuracy", metric) for of in ("", "test_")}
        replicas = run.contents.predictions[record.key][:, -record.n_test :]  # of the pool, the test split is last
        assert len(replicas) == (3 if record.method == "naive" else 1)
        assert record.n_test == len(rows)
        y_true, metadata = dataset.y_array[rows], dataset.metadata_array[rows]
        evaluated = [dataset.eval(torch.from_numpy(r.astype(np.int64)), y_true, metadata)[0] for r in replicas]
        assert record.metrics[f"test_{metric}"] == pytest.approx(np.mean([e[official] for e in evaluated]), abs=1e-6)

        assert record.metrics["test_accuracy"] == pytest.approx(np.mean([e["acc_avg"] for e in evaluated]), abs=1e-6)
        assert all(math.isfinite(v) for v in record.metrics.values())


@pytest.mark.parametrize("name", [*OFFICIAL, *BY_DOMAIN])
def test_what_is_learned_is_the_classes(run, name):
    """The ceiling is far above guessing (the K = 62 and 182 tasks have four and six classes here)."""
    record = next(
        r
        for r in run.contents.records.values()
        if (r.task, r.condition, r.method) == (f"mini-{name}", "ood", "ground_truth")
    )
    assert record.metrics["accuracy"] > {"amazon": 0.4, "iwildcam": 0.35, "fmow": 0.45}.get(name, 0.7), record.metrics


def test_supervisors_are_named_by_their_domains(run):
    evaluations = run.contents.evaluations
    whole, parts = (evaluations[f"mini-{name}", "ood"] for name in ("camelyon17", "camelyon17-by-domain"))
    assert whole.supervisors == ("1 (train)", "2 (train)", "3 (train)")
    assert parts.supervisors == ("1 (train-1)", "2 (train-2)", "3 (train-3)")
    assert whole.data_fingerprint != parts.data_fingerprint


def test_a_second_run_finds_nothing_to_do_and_the_leaderboard_is_sound(run, root):
    for arguments in _arguments(root):
        assert "nothing to do" in w2s(*arguments, cwd=run.folder).stdout
    assert w2s("leaderboard", "--results", "results", cwd=run.folder).returncode == 0
    assert w2s("leaderboard", "--results", "results", "--check", cwd=run.folder).returncode == 0


def test_a_pack_gives_the_records_of_the_full_pipeline(run, root):
    """Features that were streamed into the cache in chunks, without the images and the encoder."""
    asked = ["pack", "mini-camelyon17", "--plugin", "mini.py", "--seeds", "1", "--out", "pack"]
    packed = w2s(*asked, cwd=run.folder, data_root=root)
    assert packed.returncode == 0, packed.stdout + packed.stderr
    done = w2s("run", "--pack", "pack", "--methods", METHODS, "--results", "packed", cwd=run.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    from_pack = ResultStore(run.folder / "packed").load().records
    assert len(from_pack) == 2 * len(METHODS.split(","))
    for key, record in from_pack.items():
        assert record.to_line() == run.contents.records[key].to_line()


def test_what_is_missing_is_a_line_and_no_result(run, root, tmp_path):
    done = w2s("run", "--tasks", "amazon", "--dry-run", "--data-root", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert f"not run: amazon: {tmp_path / 'amazon_v2.1'}: no such folder" in done.stdout
    without_encoder = w2s("describe", "camelyon17", "--data-root", str(root), cwd=tmp_path)
    available = next(line for line in without_encoder.stdout.splitlines() if line.startswith("  available"))
    assert "facebook/dino-vitb8" in available
    complete = w2s("describe", "amazon", "--data-root", str(root), cwd=tmp_path).stdout.splitlines()[-1]
    assert complete.split()[0] == "available"
    assert "amazon_v2.1" not in complete  # the data are; the default models need not be
