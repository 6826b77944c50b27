"""Ranks on simulated worlds whose truth is known, and on made-up results."""

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.analysis.cells import Analysis, Cell, analysis_of
from benchmark.analysis.ranking import Pairs, compare_pairs, ranks
from benchmark.analysis.statistics import Sample, difference, estimate, family_weights, holm
from benchmark.results.store import ResultStore
from support.laws import generators
from support.simulation import World
from support.synthetic import METHODS, Task, default_tasks, entry, evaluation, fill

ROWS = ("a", "b", "c", "d", "e", "f")
WORLDS = 250


def cell(samples: dict[str, Sample], family: str = "", pool: object = None) -> Cell:
    """What `compare_pairs` needs of one; without a name for its pool it shares none."""
    made = SimpleNamespace(samples=samples, evaluation=SimpleNamespace(family=family), broken=False)
    made.base = made.pool = pool or id(samples)
    return made  # type: ignore[return-value]


def compared(world: World, worlds: int = WORLDS, tasks: int = 3) -> list[Pairs]:
    rng = np.random.default_rng(1)
    rows = ROWS[: len(world.skills)]
    return [
        compare_pairs(rows, [cell(dict(zip(rows, task, strict=True))) for task in made])
        for made in world.tasks(world.seed_effects(worlds, tasks, rng), rng)
    ]


@pytest.mark.parametrize(
    "world",
    [
        World((0.0,) * 6),
        World((0.0,) * 6, own=1.0, shared=0.5),
        World((0.0,) * 6, own=0.05, shared=0.0, tested=300),
    ],
    ids=["seeds and examples", "mostly seeds", "little but examples"],
)
def test_equal_methods_are_seldom_told_apart(world: World) -> None:
    """p-values are valid under the null, and in 95% of the worlds all six are first."""
    pairs = compared(world)
    p = np.concatenate([pair.p[np.triu_indices(6, 1)] for pair in pairs])
    for level in (0.5, 0.2, 0.05, 0.01, 0.001):
        assert (p < level).mean() <= level + 2 * np.sqrt(level / WORLDS), level
    false = np.mean([pair.better.any() for pair in pairs])
    assert false <= 0.05 + 2.3 * np.sqrt(0.05 * 0.95 / WORLDS)
    assert world.own < 0.1 or false > 0.01  # nor is the test blind


def test_methods_that_are_better_are_found_and_ties_stay() -> None:
    pairs = compared(World((2.5, 0.8, 0.8, 0.8, -0.8), own=0.1, shared=0.2), worlds=200)
    places = [[*pair.ranks().values()] for pair in pairs]
    assert np.mean([(own[0], own[4]) == ((1, 1), (5, 5)) for own in places]) >= 0.9
    ties = [own[1:4] == [(2, 4)] * 3 for own in places]
    assert np.mean(ties) >= 0.85
    said = [pair.ties(ROWS[:5]) == [["b", "c", "d"]] for pair in pairs]
    assert said == [own == [(1, 1), *[(2, 4)] * 3, (5, 5)] for own in places]


@given(generators, st.integers(1, 5), st.lists(st.sampled_from("xyz"), min_size=1, max_size=4), st.integers(1, 4))
def test_pairs_say_what_the_paired_estimate_says(rng: np.random.Generator, R: int, families: list[str], S: int) -> None:
    """Over families of tasks, or over tasks where it is plain, some of which share a pool; and what Holm makes of all
    of them together: better is who is higher by less than a 5% chance."""
    seeds, tasks, plain = tuple(range(S)), len(families), bool(rng.integers(2))
    by_task = [
        {row: Sample(seeds, x, x[:, None] + rng.normal(0, 0.05, (S, 30))) for row, x in zip(ROWS, own, strict=False)}
        for own in rng.random((tasks, R)).repeat(S).reshape(tasks, R, S) + rng.normal(0, 0.1, (tasks, R, S))
    ]
    pools = rng.integers(1, 3, tasks).tolist()
    cells = list(map(cell, by_task, families, pools))
    for number, own in enumerate(cells):
        own.base = number  # type: ignore[misc]
    pairs = compare_pairs(ROWS[:R], cells, plain)
    upper, weights = list(combinations(range(R), 2)), None if plain else family_weights(families)
    expected = [estimate([difference(own[ROWS[i]], own[ROWS[j]]) for own in by_task], weights, pools) for i, j in upper]  # type: ignore[misc]
    for (i, j), one, adjusted in zip(upper, expected, holm([one.p for one in expected]), strict=True):
        for x, y, gain in ((i, j, one.mean), (j, i, -one.mean)):
            assert pairs.differences[x, y] == pytest.approx(gain)
            assert pairs.p[x, y] == pytest.approx(one.p, rel=1e-3, nan_ok=True)
            assert np.nan_to_num(pairs.adjusted[x, y], nan=1) == pytest.approx(adjusted, rel=1e-3)
            assert pairs.better[x, y] == (adjusted < 0.05 and gain > 0)
    assert (pairs.p.diagonal() == 1).all()


@given(generators, st.integers(1, 8))
def test_ranks_and_ties_are_what_pairs_say(rng: np.random.Generator, R: int) -> None:
    """Places that no significant difference rules out; all runs in a given order that can't be made longer."""
    rows, means = [*map(str, range(R))], rng.permutation(R).astype(float)
    adjusted = np.triu(rng.random((R, R)) * 0.1, 1)
    adjusted = adjusted + adjusted.T + np.eye(R)
    pairs = Pairs(tuple(rows), means[:, None] - means, adjusted, adjusted)
    apart = {(i, j) for i, j in combinations(range(R), 2) if adjusted[i, j] < 0.05}
    assert (pairs.told_apart, pairs.number) == (len(apart), R * (R - 1) // 2)
    for i, (best, worst) in enumerate(pairs.ranks().values()):
        others = [j for j in range(R) if (min(i, j), max(i, j)) in apart]
        assert best == 1 + sum(means[j] > means[i] for j in others)
        assert worst == R - sum(means[j] < means[i] for j in others)
    order = [*rng.permutation(R)]
    tied = [
        (a, b)
        for a, b in combinations(range(R), 2)
        if not any((min(i, j), max(i, j)) in apart for i, j in combinations(order[a : b + 1], 2))
    ]
    longest = [(a, b) for a, b in tied if not any(x <= a and b <= y and (x, y) != (a, b) for x, y in tied)]
    assert pairs.ties([rows[i] for i in order]) == [[rows[i] for i in order[a : b + 1]] for a, b in longest]


def made(
    root: Path, tasks: int = 5, methods: tuple[str, ...] = tuple(METHODS), seeds: int = 3
) -> tuple[Analysis, list[Cell]]:
    store = ResultStore(root / "demo")
    fill(store, default_tasks()[:tasks], methods, seeds=range(seeds), conditions=("ood",))
    analysis = analysis_of(store)
    return analysis, analysis.select("ood")


def test_only_whole_competitors_have_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "partial", (0.99, "ensemble", None))
    monkeypatch.setitem(METHODS, "hasty", (0.99, "ensemble", None))
    store, tasks = ResultStore(tmp_path / "demo"), default_tasks()
    fill(store, tasks, conditions=("ood",))
    for method, where, seeds in (("partial", tasks[:1], 3), ("hasty", tasks, 2)):
        for task in where:
            evaluated = evaluation(task, "ood", range(3))
            store.write_unit(evaluated, [entry(task, evaluated, method, seed) for seed in range(seeds)])
    analysis = analysis_of(store)
    found = ranks(analysis, analysis.select("ood"))
    assert set(found) == set(analysis.titles)
    assert {row for row, place in found.items() if place is not None} == {"naive", "ensemble", "raven"}
    assert ranks(analysis, [analysis.cells["solar", "ood"]])["partial"] is not None  # there it ran all seeds
    assert set(ranks(analysis, []).values()) == {None}


def test_rows_that_do_not_compete_change_no_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, cells = made(tmp_path / "few", methods=("naive", "ensemble", "raven"))
    for name in ("x", "y", "z"):
        monkeypatch.setitem(METHODS, name, (0.99, "ensemble", "raven"))  # ablations
    many, all_cells = made(tmp_path / "many", methods=tuple(METHODS))
    found = ranks(many, all_cells)
    assert ranks(few, cells).items() <= found.items()
    assert found["x"] is None


def test_ranks_show_what_is_significant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "twin", (0.99, "ensemble", None))
    monkeypatch.setitem(METHODS, "best", (0.99, "ensemble", None))
    analysis, cells = made(tmp_path, methods=("naive", "ensemble", "twin", "best"), seeds=5)
    found = ranks(analysis, cells)
    assert (found["best"], found["twin"]) == ((1, 2), (1, 2))
    assert found["ensemble"] in ((3, 3), (3, 4))
    assert found["naive"] in ((3, 4), (4, 4))


def test_one_seed_tells_nobody_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "best", (0.99, "ensemble", None))
    analysis, cells = made(tmp_path, methods=("naive", "best"), seeds=1)
    assert {row: place for row, place in ranks(analysis, cells).items() if place} == {"naive": (1, 2), "best": (1, 2)}


def test_a_lone_method_is_first(tmp_path: Path) -> None:
    store, task = ResultStore(tmp_path / "demo"), Task("t")
    fill(store, [task], ("naive",), conditions=("ood",))
    analysis = analysis_of(store)
    assert ranks(analysis, analysis.select("ood"))["naive"] == (1, 1)
