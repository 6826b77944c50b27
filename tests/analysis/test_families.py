"""Reliability and independence where they are known: made-up scores, families that say the same, or nothing alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.analysis.cells import CEILING, FLOOR, Analysis
from benchmark.analysis.families import (
    correlations,
    effective_number,
    independence,
    reliability,
    separable,
    task_reliability,
)
from benchmark.core.metrics import Floats
from support.laws import generators
from support.synthetic import analysis_with

METHODS = ("a", "b", "c", "d", "e")


def made(recovered: dict[tuple[str, str], Floats], gap: float = 0.4, noise: float = 0.0) -> Analysis:
    """By (family, task) the PGR of each method; an ablation says otherwise."""
    rng, scores = np.random.default_rng(0), {}
    for place, own in recovered.items():
        means = {FLOOR: 0.5, CEILING: 0.5 + gap, "x": rng.random(), **dict(zip(METHODS, 0.5 + gap * own, strict=True))}
        scores[place] = {row: mean + noise * rng.normal(size=4) for row, mean in means.items()}
    return analysis_with(scores, ablations="x")


# --- independence ----------------------------------------------------------------------------------------------------


@given(generators, st.integers(1, 5), st.integers(1, 4))
def test_families_that_say_the_same_are_one_and_unrelated_ones_are_all(
    rng: np.random.Generator, F: int, n: int
) -> None:
    """Whatever their level and spread; how many tasks say it is no matter."""
    own, one = rng.random((F, 2)), rng.random(5)
    tasks = {(f"f{f}", f"f{f}-t{t}"): own[f, 0] + (0.1 + own[f, 1]) * one for f in range(F) for t in range(n)}
    found = independence(made(tasks), "ood")
    assert (found.methods, len(found.families), found.left_out) == (METHODS, F, ())
    assert found.effective == pytest.approx(1)
    unrelated = np.linalg.qr(np.column_stack([np.ones(5), rng.normal(size=(5, 4))]))[0].T[1:]  # centred, orthogonal
    count = min(F, 4)
    found = independence(made({(f"f{f}", f"f{f}-t"): unrelated[f] for f in range(count)}), "ood")
    np.testing.assert_allclose(found.correlation, np.eye(count), atol=1e-9)
    assert found.effective == pytest.approx(count)


@given(generators, st.lists(st.integers(1, 3), min_size=1, max_size=5))
def test_a_family_is_the_mean_over_its_tasks_that_have_a_gap(rng: np.random.Generator, counts: list[int]) -> None:
    tasks = {(f"f{f}", f"f{f}-t{t}"): rng.random(5) for f, n in enumerate(counts) for t in range(n)}
    analysis = made(tasks)
    flat = made({("f0", "flat"): rng.random(5), ("z", "also-flat"): rng.random(5)}, gap=0.01)
    analysis.cells.update(flat.cells)
    found = independence(analysis, "ood")
    expected = [np.mean([v for (g, _), v in tasks.items() if g == f], axis=0) for f in found.families]
    np.testing.assert_allclose(found.recovered, expected)
    np.testing.assert_allclose(found.correlation, np.corrcoef(expected).reshape(len(counts), -1), atol=1e-9)
    assert found.left_out == ("z",)
    values = np.linalg.eigvalsh(found.correlation)
    assert found.effective == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 1 - 1e-9 <= found.effective <= len(counts) + 1e-9


def test_families_in_pairs_are_half_as_many() -> None:
    assert effective_number(np.kron(np.eye(4), np.ones((2, 2)))) == pytest.approx(4)
    assert np.isnan(effective_number(np.empty((0, 0))))


def test_by_chance_is_what_unrelated_families_come_to() -> None:
    rng = np.random.default_rng(0)
    found = [effective_number(np.corrcoef(rng.normal(size=(8, 5)))) for _ in range(400)]
    analysis = made({(f"f{f}", f"f{f}-t"): rng.random(5) for f in range(8)})
    assert independence(analysis, "ood").by_chance == pytest.approx(np.mean(found), rel=0.05)


def test_what_cannot_be_said_is_nan() -> None:
    rng = np.random.default_rng(0)
    tasks = {("f", "t"): rng.random(5), ("g", "u"): rng.random(5)}
    analysis = made(tasks)
    analysis.cells["u", "ood"].samples.pop("a")
    analysis.cells["u", "ood"].samples.pop("b")
    found = independence(analysis, "ood")
    assert found.methods == ("c", "d", "e"), "those that ran all"
    assert np.isnan([found.effective, found.by_chance]).all()
    assert np.isnan(independence(made(tasks | {("h", "v"): np.ones(5)}), "ood").effective), "one that ranks nobody"
    assert np.isnan(independence(made(tasks, gap=0.01), "ood").effective)
    assert independence(analysis, "ind").families == ()


# --- reliability -----------------------------------------------------------------------------------------------------


@given(generators, st.integers(4, 8), st.integers(2, 6), st.floats(0.01, 10))
def test_reliability_is_between_none_and_all_whatever_the_scale(
    rng: np.random.Generator, R: int, S: int, scale: float
) -> None:
    scores = rng.random(R)[:, None] + 0.3 * rng.normal(size=(R, S))
    found = reliability(scores)
    assert 0 <= found <= 1
    others = (scores * scale + 0.1, rng.permutation(scores), rng.permutation(scores, axis=1), scores + rng.random(S))
    assert [reliability(other) for other in others] == pytest.approx([found] * 4)
    assert reliability(np.repeat(scores[:, :1], S, 1)) == pytest.approx(1)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("seeds", [4, 5, 10])
def test_reliability_is_the_share_of_variance_that_is_no_noise(noise: float, seeds: int) -> None:
    """Of the mean over seeds: v / (v + noise^2 / S), and so the squared correlation with the truth."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    scores = truth[:, None] + noise * rng.normal(size=(2000, seeds))
    expected = 1 / (1 + noise**2 / seeds)
    assert reliability(scores) == pytest.approx(expected, abs=0.03)
    assert np.corrcoef(truth, scores.mean(1))[0, 1] ** 2 == pytest.approx(expected, abs=0.03)


def test_reliability_of_two_seeds_is_by_hand() -> None:
    scores = np.array([[0.1, 0.2], [0.4, 0.3], [0.5, 0.9], [0.8, 0.6]])
    r = np.corrcoef(scores.T)[0, 1]
    assert reliability(scores) == pytest.approx(2 * r / (1 + r))
    assert reliability(np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6]])) == 0, "no better than chance"


def test_reliability_of_a_task_is_of_those_that_compete() -> None:
    analysis = made({("f", "t"): np.random.default_rng(0).random(5)}, noise=0.05)
    (cell,) = analysis.cells.values()
    scores = np.array([cell.samples[row].values for row in METHODS])
    assert task_reliability(analysis, cell) == pytest.approx(reliability(scores))
    assert np.isnan(reliability(scores[:, :1]))
    assert np.isnan(reliability(np.ones((4, 4))))
    del cell.samples["a"], cell.samples["b"]
    assert np.isnan(task_reliability(analysis, cell)), "three are too few"


@given(generators, st.integers(1, 4), st.integers(2, 6))
def test_correlations_are_numpys_and_nan_with_what_is_constant(rng: np.random.Generator, F: int, R: int) -> None:
    rows = rng.normal(size=(F, R))
    np.testing.assert_allclose(correlations(rows), np.corrcoef(rows).reshape(F, F))
    rows[0] = 0.3
    assert np.isnan(correlations(rows)[0]).all()


def test_a_task_tells_apart_what_differs_by_more_than_its_noise() -> None:
    """The share of pairs: none of equal methods, all of those far apart, and those between two groups."""
    rng = np.random.default_rng(0)

    def share(*means: float) -> float:
        analysis = analysis_with({("f", "t"): {row: m + 0.01 * rng.normal(size=5) for row, m in zip("abcde", means)}})  # noqa: B905
        return separable(analysis, analysis.cells["t", "ood"])

    assert share(0.5, 0.5, 0.5, 0.5, 0.5) == 0
    assert share(0.1, 0.3, 0.5, 0.7, 0.9) == 1
    assert share(0.1, 0.1, 0.9, 0.9, 0.9) == pytest.approx(6 / 10)
    assert np.isnan(share(0.1, 0.2, 0.3)), "of three methods nothing is said"
