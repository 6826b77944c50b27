"""Effects over families whose truth is made up; tasks with a broken supervisor; who shares a pool."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from benchmark.analysis.cells import Analysis, analysis_of, task_weights
from benchmark.analysis.effects import effect, random_half
from benchmark.analysis.statistics import holm
from benchmark.results.store import ResultStore
from support.laws import generators
from support.synthetic import Level, Task, analysis_with, fill

families = st.lists(st.sampled_from("abc"), min_size=1, max_size=6)


def gains(values: dict[tuple[str, str], list[float]]) -> Analysis:
    """By (family, task), what `one` scores more than `other` for each seed."""
    return analysis_with({place: {"one": np.array(own), "other": np.zeros(len(own))} for place, own in values.items()})


@given(generators, families)
def test_an_effect_is_what_loops_over_families_say(rng: np.random.Generator, names: list[str]) -> None:
    made = {(name, f"task-{i}"): list(rng.normal(rng.choice([-1, 0, 1]), 0.3, 4)) for i, name in enumerate(names)}
    cells = gains(made).select("ood")
    found = effect(cells, lambda cell: cell.gain("one", "other"))
    assert found is not None
    tasks = {place: np.mean(own) for place, own in made.items()}
    of = {name: np.mean([value for (own, _), value in tasks.items() if own == name]) for name in sorted({*names})}
    assert {name: one.mean for name, one in found.families.items()} == pytest.approx(of)
    assert found.mean.mean == pytest.approx(np.mean([*of.values()]))
    assert found.spread == pytest.approx(np.std([*tasks.values()], ddof=1) if len(tasks) > 1 else np.nan, nan_ok=True)
    low, high = (
        t.interval(0.95, len(of) - 1, found.mean.mean, np.std([*of.values()], ddof=1) / np.sqrt(len(of)))
        if len(of) > 1
        else (np.nan, np.nan)
    )
    assert 2 * found.random_half == pytest.approx(high - low, nan_ok=True)
    adjusted = holm([one.p for one in found.families.values()])
    expected = {name: int(np.sign(of[name])) * int(p < 0.05) for name, p in zip(of, adjusted, strict=True)}
    assert found.signs == expected
    assert found.opposite == (max(expected.values()) == 1 and min(expected.values()) == -1)
    assert found.sign == int(np.sign(found.mean.mean)) * int(abs(found.mean.mean) > found.mean.half)
    plain = effect(cells, lambda cell: cell.gain("one", "other"), plain=True)
    assert plain is not None
    assert plain.mean.mean == pytest.approx(np.mean([*tasks.values()]))
    assert plain.random_half == pytest.approx(random_half([*tasks.values()]), nan_ok=True)


def test_nothing_is_known_of_what_was_not_run() -> None:
    assert effect(gains({("a", "t"): [0.1, 0.2]}).select("ood"), lambda cell: cell.gain("one", "third")) is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.booleans()), min_size=1, max_size=8))
def test_variants_with_a_broken_supervisor_are_averaged_first(made: list[tuple[str, int, bool]]) -> None:
    """A mean is over families, over bases, over variants: new names with a tag, or the one name of before."""
    analysis = analysis_with({(f, f"{f}-{number}"): {"one": np.zeros(2)} for f, number, _ in made})
    cells = []
    for i, (family, number, tagged) in enumerate(made):
        base = f"{family}-{number}"
        name, tags = (f"{base}-broken-{i}", ("broken", f"base={base}")) if tagged else (f"{base}-broken", ("broken",))
        old = analysis.cells[base, "ood"]
        new = old.evaluation.model_copy(update={"task": name, "tags": tags})
        cells.append(type(old)(new, {}, old.samples, old.samples, {}, old.test))
        assert (cells[-1].base, cells[-1].broken) == (base, True)
        assert (old.base, old.broken) == (base, False)
    weights = task_weights(cells)
    assert weights.sum() == pytest.approx(1)
    F = len({family for family, *_ in made})
    for cell, weight in zip(cells, weights, strict=True):
        bases = {other.base for other in cells if other.evaluation.family == cell.evaluation.family}
        assert weight == pytest.approx(1 / (F * len(bases) * sum(other.base == cell.base for other in cells)))


def test_sisters_share_a_pool_and_no_others_do(tmp_path: Path) -> None:
    """Also where one has fewer seeds; conditions have pools of their own."""
    store = ResultStore(tmp_path / "demo")
    sister = Level("digits-broken-1", base="digits", tags=("broken", "base=digits"), family="digits")
    fill(store, [Task("digits"), Task("solar", family="digits")], ("naive",), range(3))
    fill(store, [sister], ("naive",), range(2), ("ood",))
    cells = analysis_of(store).cells
    assert cells["digits", "ood"].pool == cells["digits-broken-1", "ood"].pool
    assert len({cell.pool for cell in cells.values()}) == len(cells) - 1
    assert [cell.evaluation.task for cell in analysis_of(store).headline("ood")] == ["digits", "solar"]
    alone = ResultStore(tmp_path / "broken")
    fill(alone, [sister], ("naive",), range(2), ("ood",))
    assert len(analysis_of(alone).headline("ood")) == 1, "where there is no other"


def test_the_variance_of_differences_alone_is_pooled() -> None:
    """Over tasks that share no pool; scores, PGR, failures and one row's change keep the seeds together."""
    rng = np.random.default_rng(0)
    rows = {"one": 0.6, "other": 0.59, "supervisor_ensemble": 0.4, "ground_truth": 0.9}
    analysis = analysis_with(
        {
            (family, f"{family}-{i}"): {row: mean + 0.03 * rng.normal(size=4) for row, mean in rows.items()}
            for family in "ab"
            for i in range(3)
        }
    )
    cells = analysis.select("ood")
    gain, won, score, pgr, failed = (
        analysis.over(cells, quantity)
        for quantity in (
            lambda cell: cell.gain("one", "other"),
            lambda cell: cell.improved("one", "other"),
            lambda cell: cell.score("one"),
            lambda cell: cell.recovered("one"),
            lambda cell: cell.failed("one"),
        )
    )
    assert gain and won and score and pgr and failed  # noqa: PT018
    assert [found.freedom for found in (score, pgr, failed)] == [3, 3, 3]
    values = np.array([cell.samples["one"].values - cell.samples["other"].values for cell in cells])
    variances = values.var(1, ddof=1) / 36
    assert gain.seed_error == pytest.approx(np.sqrt(variances.sum() / 4))
    assert gain.freedom == pytest.approx(3 * variances.sum() ** 2 / np.square(variances).sum())
    assert won.freedom > 3
