"""What a GPU does with this package: `make gpu-check`, or `python tests/bench/gpu_check.py`. Made to take under four
minutes; not timed on one yet.

Needs no network and no weights; prints a JSON line for each finding and a last one with all that failed. `--device cpu
--tiny` tries the script itself. Each part is a process of its own, so that a CUDA error spoils one part only. Beside
torch it needs what `--wheels` lists, at the versions of constraints.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
for folder in (ROOT, ROOT / "tests", ROOT / "tests" / "bench"):
    sys.path.insert(0, str(folder))
WHEELS = ("annotated-types", "anyio", "efficientnet-lite-pytorch", "filelock", "h11", "httpcore2", "httpx2",
          "huggingface_hub", "hypothesis", "idna", "iniconfig", "numpy", "packaging", "pandas", "pillow",
          "platformdirs", "pluggy", "pydantic", "pydantic_core", "Pygments", "pytest", "PyYAML", "regex", "safetensors",
          "scikit-learn",
          "scipy", "sortedcontainers", "tokenizers", "tqdm", "transformers", "truststore", "typing-inspection",
          "typing_extensions")  # fmt: skip
LIMIT = 110  # seconds that a part may take
Findings = Iterator[dict[str, Any]]


def main() -> int:
    asked = _arguments()
    if asked.wheels:
        pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
        print("\n".join(f"{name}=={pinned.get(name, '?')}" for name in WHEELS))
        return 0
    if asked.part:
        return _do(asked.part, asked.device, asked.tiny)
    failed, began = [], time.monotonic()
    for part in asked.parts.split(","):
        command = [sys.executable, __file__, "--part", part, "--device", asked.device, *["--tiny"] * asked.tiny]
        try:
            status = subprocess.run(command, timeout=LIMIT, check=False).returncode
        except subprocess.TimeoutExpired:
            status = -1
        failed += [part] * (status != 0)
    _say({"part": "end", "seconds": round(time.monotonic() - began), "failed": failed})
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="sizes that try the script itself")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--part", choices=PARTS, help="one of them, in this process")
    parser.add_argument("--wheels", action="store_true", help="list what it needs besides torch")
    return parser.parse_args()


def _do(part: str, device: str, tiny: bool) -> int:
    """The findings of one part; 1 if one of them has `ok` false, or it fails."""
    good = True
    try:
        for finding in PARTS[part](device, tiny):
            good = good and finding.get("ok", True)
            _say({"part": part, **finding})
    except Exception as error:
        good = False
        _say({"part": part, "error": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-3)})
    return 0 if good else 1


def _say(finding: dict[str, Any]) -> None:
    print(json.dumps(finding), flush=True)


# what runs on what


def environment(device: str, tiny: bool) -> Findings:
    import torch
    from measuring import copy_rate, matrix_rate

    card = torch.cuda.get_device_name() if device == "cuda" else "none"
    yield {"card": card, "torch": torch.__version__, "cores": _cores(), "date": time.strftime("%Y-%m-%d")}
    size, words = (256, 2**16) if tiny else (8192, 2**28)
    yield {"float32_tflops": matrix_rate(device, size) / 1e12, "copy_tb_s": copy_rate(device, words) / 1e12}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# right


def tests(device: str, tiny: bool) -> Findings:
    """The tests that are skipped without a GPU: recorded == eager for all methods, faulty methods and their notices,
    captures that fail, language students with a trunk, streamed features."""
    chosen = ["tests/core", "tests/students"] if device == "cuda" else ["tests/core/test_replay.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, "-k", "cuda or way or gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()[-300:]
    wrong = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    yield {"pytest": last, "wrong": wrong, "ok": done.returncode == 0}


def joined(device: str, tiny: bool) -> Findings:
    """Three units of one shape together and alone; recordings against steps by Python; against the former step."""
    import torch
    from former import former_train

    from benchmark.core.data import Recipe
    from benchmark.core.training import train
    from support.by_python import train_by_python

    recipe, tolerance = Recipe(epochs=2 if tiny else 10), 1e-6
    for K, D in ((2, 24), (10, 32)) if tiny else ((2, 384), (10, 1280)):
        units = [_unit(280 if tiny else 2800, D, K, device, seed) for seed in range(3)]
        whole = replace(
            units[0],
            features={name: torch.cat([u.features[name] for u in units]) for name in units[0].features},
            soft_labels=torch.cat([u.soft_labels for u in units]),
            seeds=sum((u.seeds for u in units), ()),
        )
        together = train(_methods(), whole, recipe)
        alone = [train(_methods(), unit, recipe) for unit in units]
        by_python, former = train_by_python(_methods(), units[0], recipe), former_train(_methods(), units[0], recipe)
        S = len(units[0].seeds)
        for what, pairs in {
            "joined against alone": [
                (t.student.weight[i * S : (i + 1) * S], own[m].student.weight)  # type: ignore[attr-defined]
                for i, own in enumerate(alone)
                for m, t in enumerate(together)
            ],
            "recorded against by Python": [
                (a.student.weight, b.student.weight)  # type: ignore[attr-defined]
                for a, b in zip(alone[0], by_python, strict=True)
            ],
            "recorded against the former step": [
                (a.student.weight, b.weight)  # type: ignore[attr-defined]
                for a, b in zip(alone[0], former, strict=True)
            ],
        }.items():
            worst = max((a - b).abs().max().item() for a, b in pairs)
            yield {"what": what, "K": K, "weights_differ_by": worst, "ok": worst <= tolerance}


def waits(device: str, tiny: bool) -> Findings:
    """No wait for the GPU inside an epoch, once steps are recorded; a capture's memory is given back."""
    import torch

    from benchmark.core import replay
    from benchmark.core.data import Recipe
    from benchmark.core.training import train

    original, replays = replay.GraphStep.run, 0

    def strict(self: Any, number: int) -> None:
        nonlocal replays
        replaying = self._replay is not None and not self._notes.changed(self._epoch, self._progress(number))
        replays += replaying
        if device == "cuda" and replaying:
            torch.cuda.set_sync_debug_mode("error")
        try:
            original(self, number)
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")

    replay.GraphStep.run = strict  # type: ignore[method-assign]
    try:
        train(_methods(), _unit(280 if tiny else 2800, 24, 2, device, 0), Recipe(epochs=3))
    finally:
        replay.GraphStep.run = original  # type: ignore[method-assign]
    yield {"host_waits_in_recorded_steps": 0, "replays": replays, "ok": replays > 0 or device != "cuda"}
    if device == "cuda":
        used = []
        for _ in range(3):
            train(_methods(), _unit(2800, 384, 2, device, 0), Recipe(epochs=1))
            torch.cuda.empty_cache()
            used.append(torch.cuda.memory_reserved())
        yield {"reserved_mb_after_each_training": [round(x / 1e6) for x in used], "ok": used[2] <= used[1] * 1.05}


# fast


def steps(device: str, tiny: bool) -> Findings:
    """Microseconds a step: the former one, by Python now, recorded; several units together; large shapes."""
    from former import former_train

    from benchmark.core.registry import METHODS
    from benchmark.core.training import train
    from support.by_python import train_by_python

    N, D = (280, 24) if tiny else (2800, 384)
    ways: dict[str, Callable[..., Any]] = {"former": former_train, "by_python": train_by_python, "recorded": train}
    unit = _unit(N, D, 2, device, 0)
    taken = _in_turns(ways, _methods, unit, (5, 10), device)
    yield {"shape": "default unit, all one-stage methods", **_figures(taken)}
    for count in (2,) if tiny else (4, 34):
        several = _unit(N, D, 2, device, 0, seeds=5 * count)
        taken = _in_turns({"recorded": train}, _methods, several, (5, 10), device)
        yield {"shape": f"{count} units", "recorded_us": taken["recorded"], "us_a_unit": taken["recorded"] / count}
    naive = lambda: [METHODS["naive"]()]  # noqa: E731
    for shape in ((600, 16, 12),) if tiny else ((30_000, 768, 182), (60_000, 768, 2)):
        large = _unit(*shape, device, 0, M=10, shared=True)
        yield {"shape": str(shape), **_figures(_in_turns(ways, naive, large, (1, 3), device))}


def cores(device: str, tiny: bool) -> Findings:
    """The machine's own processors: a unit each, side by side, microseconds of the whole machine a unit and step."""
    count = 2 if tiny else _cores()
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        list(pool.map(_unit_on_a_core, [tiny] * count))  # starts
        began = time.perf_counter()
        each = list(pool.map(_unit_on_a_core, [tiny] * count))
        took = time.perf_counter() - began
    yield {"cores": count, "us_a_unit": took / count / each[0] * 1e6}


def _unit_on_a_core(tiny: bool) -> int:
    """Steps that it took."""
    import torch

    from benchmark.core.data import Recipe
    from benchmark.core.training import train

    torch.set_num_threads(1)
    N, D = (280, 24) if tiny else (2800, 384)
    trained = train(_methods(), _unit(N, D, 2, "cpu", 0), Recipe(epochs=2 if tiny else 10))
    return trained[0].steps


def language(device: str, tiny: bool) -> Findings:
    """A student of SmolLM2-135M's shape with random weights, LoRA on its last two blocks: milliseconds a replica and
    step of 16 examples, all replicas in a pass and one by one; and that both train alike."""
    import tempfile

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmark.core.training import TrainingData
    from benchmark.students.language.student import LanguageModel
    from support.tiny import save_tokenizer

    R, N = (2, 32) if tiny else (20, 320)
    shape = {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3}
    if tiny:
        shape, heads = {"vocab_size": 96, "hidden_size": 18, "intermediate_size": 32, "num_hidden_layers": 3}, heads
    words = [f"w{i}" for i in range(80)]
    rng = torch.Generator().manual_seed(0)
    length = 8 if tiny else 126
    texts = [" ".join(words[i] for i in torch.randint(80, (length,), generator=rng)) for _ in range(2 * N)]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**shape, **heads, pad_token_id=1, eos_token_id=2)).save_pretrained(folder)
        save_tokenizer(Path(folder), eos_token="<end>", pad_token="<pad>", words=words)
        for objective in ("classifier", "policy"):
            kind = LanguageModel(objective, model=folder, blocks=2)  # type: ignore[arg-type]
            inputs: Any = texts[:N] if objective == "classifier" else (texts[:N], texts[N:])
            tokens = kind.sequences(inputs)
            frozen = kind._frozen(tokens, device)
            tokens = tokens.having(**{name: torch.from_numpy(own) for name, own in frozen.items()}).to(device)
            labels = torch.rand(1, R, N, 2, generator=rng).softmax(-1).to(device)
            data = TrainingData({"tokens": [tokens]}, labels, (0,), kind.start)
            together, one_by_one = _trained_with(data, None), _trained_with(data, 1)
            pairs = zip(together[0], one_by_one[0], strict=True)
            differ = max((a - b).abs().max().item() for a, b in pairs)
            yield {
                "objective": objective,
                "replicas": R,
                "ms_a_replica_and_step": together[1] / R,
                "one_by_one_ms": one_by_one[1] / R,
                "ratio": one_by_one[1] / together[1],
                "probabilities_differ_by": differ,
                "ok": differ < 0.05,
            }
            kind.release()


def _trained_with(data: Any, at_once: int | None) -> tuple[list[Any], float]:
    """Probabilities of each replica on the train split, and milliseconds a step."""
    from unittest import mock

    from measuring import timed

    from benchmark.core.data import Recipe
    from benchmark.core.registry import METHODS
    from benchmark.core.training import train
    from benchmark.students.language.network import Network

    with mock.patch.object(Network, "replicas_at_once", return_value=at_once or sys.maxsize):
        taken, trained = [], None
        for epochs in (1, 1, 2):  # the first warms up
            made: list[Any] = []
            recipe = Recipe(epochs=epochs, batch_size=16)
            run = lambda recipe=recipe, made=made: made.extend(train([METHODS["naive"]()], data, recipe))  # noqa: E731
            taken.append(timed(run, data.soft_labels.device.type))
            trained = made[0]
        assert trained is not None
        probabilities = trained.student.predict(data.features["tokens"])
    steps = data.soft_labels.shape[2] // 16
    return list(probabilities[0]), (taken[2] - taken[1]) / steps * 1e3


def encoders(device: str, tiny: bool) -> Findings:
    from test_gpu_encoders import encoders as measured

    yield measured(device, tiny)


def _methods() -> list[Any]:
    from benchmark.core.method import Method
    from benchmark.core.registry import METHODS

    return [METHODS[name]() for name in METHODS.names() if METHODS[name].fit is Method.fit]


def _unit(N: int, D: int, K: int, device: str, seed: int, M: int = 3, seeds: int = 5, shared: bool = False) -> Any:
    """A made-up unit; `shared`: one table of features for all seeds."""
    from measuring import made_up

    from benchmark.core.training import TrainingData
    from benchmark.students.linear import LinearStudent

    features, labels = (x.to(device) for x in made_up(N, D, K, M, seed))
    whole = features.expand(seeds, N, D)
    given = whole if shared else whole.contiguous()
    soft_labels = labels.expand(seeds, M, N, K).contiguous()
    return TrainingData({"half": given, "full": given}, soft_labels, tuple(range(seeds)), LinearStudent)


def _in_turns(
    ways: dict[str, Callable[..., Any]],
    methods: Callable[[], list[Any]],
    data: Any,
    epochs: tuple[int, int],
    device: str,
) -> dict[str, float]:
    """Median microseconds a step of each way, in turns, once they are warm: by how much a training of more epochs takes
    longer than one of fewer, so that starts, rehearsals and recordings, of which both have as many, don't count."""
    from measuring import timed

    from benchmark.core.data import Recipe

    N = data.soft_labels.shape[2]
    steps = (epochs[1] - epochs[0]) * (N // min(128, N))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(4):
        for name, way in ways.items():
            seconds = []
            for count in epochs:
                made, recipe = methods(), Recipe(epochs=count)
                seconds.append(timed(lambda way=way, made=made, recipe=recipe: way(made, data, recipe), device))
            taken[name] += [(seconds[1] - seconds[0]) / steps * 1e6] * (turn > 0)
    return {name: median(own) for name, own in taken.items()}


def _figures(taken: dict[str, float]) -> dict[str, float]:
    return {**{f"{name}_us": own for name, own in taken.items()}, "ratio": taken["former"] / taken["recorded"]}


PARTS: dict[str, Callable[[str, bool], Findings]] = {
    "environment": environment,
    "tests": tests,
    "joined": joined,
    "waits": waits,
    "steps": steps,
    "cores": cores,
    "language": language,
    "encoders": encoders,
}

if __name__ == "__main__":
    sys.exit(main())
