"""Estimates of disk, memory and GPU time."""

from __future__ import annotations

import pytest

from benchmark.assets.pretrained import parameters_of
from benchmark.core.data import Recipe
from benchmark.core.registry import TASKS
from benchmark.core.suite import load_suite
from benchmark.running.needs import RATE, needs
from benchmark.running.plan import Unit


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-7B", 7e9),
        ("Qwen/Qwen2.5-0.5B", 0.5e9),
        ("meta-llama/Llama-3.1-8B", 8e9),
        ("smollm2-135m", 135e6),
        ("minilm-22m", 22e6),
        ("facebook/dino-vitb8", 86e6),
        ("facebook/dinov2-large", 1e8),
    ],
)
def test_names_say_how_large_a_model_is(name: str, parameters: float) -> None:
    assert parameters_of(name) == parameters


def test_tasks_without_published_sizes_have_no_estimate() -> None:
    unit = Unit("digits-to-uci", "ood", ((("naive",), (0,)),))
    assert needs(TASKS["digits-to-uci"], unit, Recipe()) is None


def hours(task: str, methods: tuple[str, ...], seeds: tuple[int, ...], epochs: int = 3) -> float:
    found = needs(
        TASKS[task].configured(load_suite("paper").options),
        Unit(task, "ood", ((methods, seeds),)),
        Recipe(1e-4, epochs, 32),
    )
    assert found is not None
    return found.gpu_hours


def test_a_policy_is_counted_by_hand() -> None:
    """7e9 parameters, two texts of 160 tokens, 45,000 pairs, three epochs of an `ensemble`, one seed."""
    tokens, pool, P = 320, 45_000, 7e9
    student = 4 * P * tokens * 3 * 0.7 * pool + 2 * P * tokens * 0.2 * pool + 2 * P * tokens * 0.9 * pool
    source, p = round(0.6 * 46_000), 0.5e9
    weak = 3 * (3 * 4 * p * tokens * source + 2 * p * tokens * pool)
    assert hours("hh-helpful-to-harmless", ("ensemble",), (0,)) == pytest.approx(
        (student + weak) / RATE / 3600, rel=1e-6
    )


def test_more_methods_seeds_and_epochs_take_longer() -> None:
    one = hours("amazon", ("ensemble",), (0,))
    assert hours("amazon", ("ensemble",), (0, 1)) == pytest.approx(2 * one)
    assert hours("amazon", ("ensemble", "raven"), (0,)) > 1.3 * one
    assert hours("amazon", ("naive",), (0,)) > hours("amazon", ("ensemble", "raven"), (0,))
    assert hours("amazon", ("ensemble",), (0,), epochs=6) > 1.3 * one


def test_a_grid_is_counted_setting_by_setting() -> None:
    """`ensemble` tries four learning rates, each for three epochs and for one; validation is predicted as well."""
    task = TASKS["hh-helpful-to-harmless"].configured(load_suite("paper").options)
    unit = Unit(task.name, "ood", ((("ensemble",), (0,)),))
    alone, tuned = (needs(task, unit, Recipe(1e-4, 3, 32), tune) for tune in (False, True))
    assert alone is not None
    assert tuned is not None
    tokens, pool, P = 320, 45_000, 7e9
    trained = 4 * P * tokens * (4 * (3 + 1) - 3) * 0.7 * pool
    predicted = 2 * P * tokens * (8 * 0.3 - 0.2) * pool + 2 * P * tokens * 0.1 * pool
    assert tuned.gpu_hours - alone.gpu_hours == pytest.approx((trained + predicted) / RATE / 3600, rel=1e-6)
    assert tuned.gpu_memory == alone.gpu_memory


def test_micro_batches_save_the_gpus_memory() -> None:
    task = TASKS["hh-helpful-to-harmless"].configured(load_suite("paper").options)
    unit = Unit(task.name, "ood", ((("ensemble", "raven"), (0,)),))
    small, whole = (needs(task.configured({"micro_batch": size}), unit, Recipe(1e-4, 3, 32)) for size in (1, None))
    assert small is not None
    assert whole is not None
    assert small.gpu_memory < whole.gpu_memory
    assert small.gpu_memory > 14e9  # the model itself
