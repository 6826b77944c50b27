"""Transfer tuning on made-up scores in which the best setting is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark.analysis.transfer import best_elsewhere

FAMILIES = ["a", "a", "b", "c", "c", "c"]
SCORES = arrays(float, (6, 8), elements=st.integers(0, 100).map(lambda percent: percent / 100))


@given(SCORES, st.integers(0, 7))
def test_a_setting_that_is_best_everywhere_is_chosen(scores: np.ndarray, best: int) -> None:
    scores[:, best] = scores.max(1) + 0.01
    assert {best_elsewhere(family, scores, FAMILIES) for family in "abc"} == {best}


@given(SCORES, SCORES, st.sampled_from("abc"))
def test_nothing_of_a_familys_truth_is_used_for_it(scores: np.ndarray, others: np.ndarray, family: str) -> None:
    own = np.array(FAMILIES) == family
    changed = np.where(own[:, None], others, scores)
    assert best_elsewhere(family, changed, FAMILIES) == best_elsewhere(family, scores, FAMILIES)


def test_a_setting_that_is_best_on_one_family_alone_is_chosen_for_the_others_only() -> None:
    scores = np.full((6, 8), 0.6)
    scores[2, 5], scores[:, 3] = 0.99, 0.61
    assert [best_elsewhere(family, scores, FAMILIES) for family in "abc"] == [5, 3, 5]


@given(SCORES, st.sampled_from("abc"))
def test_it_is_the_first_with_the_best_mean_over_families_of_means_over_tasks(scores: np.ndarray, family: str) -> None:
    means = []
    for setting in range(8):
        by_family: dict[str, list[float]] = {}
        for task, name in enumerate(FAMILIES):
            if name != family:
                by_family.setdefault(name, []).append(scores[task, setting])
        means.append(sum(sum(own) / len(own) for own in by_family.values()) / len(by_family))
    best = max(means)
    assert best_elsewhere(family, scores, FAMILIES) == next(k for k, mean in enumerate(means) if mean > best - 1e-6)


def test_the_default_wins_a_tie_whatever_the_rounding() -> None:
    scores = np.full((6, 8), 0.7)
    scores[[0, 2, 3], 4] += 0.1 + 0.2 - 0.3
    assert best_elsewhere("b", scores, FAMILIES) == 0


def test_variants_of_a_task_count_once() -> None:
    scores, families = np.full((4, 2), 0.5), ["a", "b", "b", "b"]
    scores[1, 1], scores[2:, 1] = 0.6, 0.44
    assert best_elsewhere("a", scores, families, ["x", "y", "z", "z"]) == 1
    assert best_elsewhere("a", scores, families) == 0


def test_of_one_family_there_is_none() -> None:
    assert best_elsewhere("a", np.ones((2, 8)), ["a", "a"]) is None
    assert best_elsewhere("b", np.ones((2, 8)), ["a", "a"]) == 0
