"""The engine on a GPU: 50 heads x 100 epochs beside one head at a time on the same GPU, and what precision does.

Measured where there is a GPU (`make bench`); what the report is made from is tested on tiny sizes on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import pytest
import torch
from measuring import BATCH, Cost, copy_rate, made_up, matrix_rate, ordinary_epoch, timed
from torch import Tensor

from benchmark.core.data import Precision, Recipe
from benchmark.core.precision import PRECISIONS
from benchmark.core.registry import METHODS
from benchmark.core.training import TrainingData, train
from benchmark.students.linear import LinearStudent

SEEDS, HEADS, EPOCHS = 5, 10, 100
SHAPES = [(30_000, 768, 182), (60_000, 768, 2)]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@dataclass(frozen=True)
class Report:
    """Seconds a head and epoch, both ways; and the shares of the rates that the device reaches."""

    batched: float
    ordinary: float
    arithmetic: float
    bandwidth: float

    def __str__(self) -> str:
        return (
            f"{self.batched * 1e3:.3f} ms a head and epoch, ordinary {self.ordinary * 1e3:.1f} ms, "
            f"ratio {self.ordinary / self.batched:.1f}, {self.arithmetic:.0%} of the float32 matrix-product rate, "
            f"{self.bandwidth:.0%} of the memory bandwidth"
        )


def pool(N: int, D: int, K: int, device: str, seeds: int = SEEDS, heads: int = HEADS) -> TrainingData:
    """One table for all seeds, so that it is made quickly; its own soft labels for each head."""
    features, soft_labels = (x.to(device) for x in made_up(N, D, K, heads))
    labels = soft_labels.expand(seeds, *soft_labels.shape).contiguous()
    return TrainingData({"full": features.expand(seeds, N, D)}, labels, tuple(range(seeds)), LinearStudent)


def measure(data: TrainingData, device: str, epochs: int, rates: tuple[float, float]) -> Report:
    """Train `naive` on the pool, and single heads for an epoch each."""
    S, H, N, K = data.soft_labels.shape
    features = data.features["full"]
    naive = METHODS["naive"]
    train([naive()], data, Recipe(epochs=1))  # warm-up
    seconds = timed(lambda: train([naive()], data, Recipe(epochs=epochs)), device)
    x, targets = features[0].cpu(), data.soft_labels[0].cpu()
    ordinary_epoch(x[: 10 * BATCH], targets[0][: 10 * BATCH], device)
    ordinary = median(timed(lambda h=h: ordinary_epoch(x, targets[h], device), device) for h in range(min(3, H)))
    cost = Cost.of_epoch(N, features.shape[-1], K, S, H)
    shares = (epochs * cost.arithmetic / seconds / rates[0], epochs * cost.traffic / seconds / rates[1])
    return Report(seconds / (S * H * epochs), ordinary, *shares)


def changed_predictions(data: TrainingData, precision: Precision, test: Tensor, epochs: int) -> tuple[float, float]:
    """Share of predictions on (n, D) test examples that are others than with float32; and that of another method's
    seed, to compare with: what retraining with other minibatches changes."""
    found = {}
    for name, recipe, seeds in (
        ("float32", Recipe(epochs=epochs), data.seeds),
        ("precision", Recipe(epochs=epochs, precision=precision), data.seeds),
        ("seed", Recipe(epochs=epochs), tuple(seed + 1000 for seed in data.seeds)),
    ):
        given = TrainingData(data.features, data.soft_labels, seeds, LinearStudent)
        (trained,) = train([METHODS["ensemble"]()], given, recipe)
        found[name] = trained.student.predict(test.expand(len(seeds), *test.shape)).argmax(-1)
    return tuple((found[name] != found["float32"]).double().mean().item() for name in ("precision", "seed"))  # type: ignore[return-value]


@needs_gpu
@pytest.mark.cuda
@pytest.mark.parametrize(("N", "D", "K"), SHAPES)
def test_fifty_heads_a_hundred_epochs(N: int, D: int, K: int, benchmark) -> None:  # type: ignore[no-untyped-def]
    data, rates = pool(N, D, K, "cuda"), (matrix_rate("cuda", 8192), copy_rate("cuda", 2**28))
    report = benchmark.pedantic(lambda: measure(data, "cuda", EPOCHS, rates), rounds=1)
    print(f"\n{torch.cuda.get_device_name()}: ({N:,}, {D}, {K}): {report}")


@needs_gpu
@pytest.mark.cuda
@pytest.mark.parametrize("precision", PRECISIONS[1:])
@pytest.mark.parametrize(("N", "D", "K"), SHAPES)
def test_what_precision_changes(N: int, D: int, K: int, precision: Precision, benchmark) -> None:  # type: ignore[no-untyped-def]
    data, test = pool(N, D, K, "cuda"), made_up(20_000, D, K, 1)[0].cuda()
    naive, recipe = METHODS["naive"], Recipe(epochs=10, precision=precision)
    usual = timed(lambda: train([naive()], data, Recipe(epochs=10)), "cuda")
    benchmark.pedantic(lambda: timed(lambda: train([naive()], data, recipe), "cuda"), rounds=3, warmup_rounds=1)
    changed, by_seed = changed_predictions(data, precision, test, 30)
    print(
        f"\n({N:,}, {D}, {K}), {precision}: {usual / median(benchmark.stats.stats.data):.2f} times as fast as float32; "
        f"{changed:.3%} of predictions change, {by_seed:.1%} with other minibatches"
    )


def test_the_report_on_a_tiny_pool() -> None:
    data = pool(400, 12, 3, "cpu", seeds=2, heads=4)
    report = measure(data, "cpu", 2, rates=(1e12, 1e12))
    assert min(report.batched, report.ordinary) > 0
    steps, weights = 3, 2 * 4 * 3 * 12
    cost = Cost.of_epoch(400, 12, 3, 2, 4)
    assert cost.arithmetic == steps * 2 * (2 * 128 * weights)
    assert cost.traffic == steps * 4 * (4 * 2 * 128 * 12 + 4 * 2 * 4 * 3 * 128 + 9 * weights)
    assert report.arithmetic == pytest.approx(cost.arithmetic / (report.batched * 8) / 1e12)
    assert report.bandwidth == pytest.approx(cost.traffic / (report.batched * 8) / 1e12)
    assert "ratio" in str(report)


def test_changed_predictions_on_a_tiny_pool() -> None:
    data, test = pool(400, 12, 3, "cpu", seeds=2, heads=4), made_up(200, 12, 3, 1)[0]
    assert changed_predictions(data, "float32", test, 2)[0] == 0
    changed, by_seed = changed_predictions(data, "bf16", test, 2)
    assert 0 <= changed < by_seed < 1
