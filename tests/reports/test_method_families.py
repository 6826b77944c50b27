"""What is said of families of methods, in worlds where it is known; of older results, which name none, nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.analysis.cells import Analysis, Cell
from benchmark.analysis.statistics import Sample
from benchmark.core.names import Family
from benchmark.reports import method_families
from benchmark.reports.headline import broken_table, effect_table, score_table
from benchmark.reports.latex import headline_latex
from benchmark.reports.leaderboard import render, summary
from benchmark.reports.method_families import section, sentences, standings
from benchmark.results.store import ResultStore
from support.markdown import section as section_of
from support.markdown import tables
from support.synthetic import Task, analysis_with, default_tasks, evaluation, fill, put

SEEDS, NOISE = 5, 0.002
FAMILIES: dict[str, Family] = {
    "ensemble": "averaging",
    "naive": "averaging",
    "d": "label model",
    "s": "self-reinforcing",
    "t": "self-reinforcing",
    "u": "self-reinforcing",
}
ROWS = {**dict.fromkeys(FAMILIES, 0.6), "naive": 0.55, "ground_truth": 0.9, "supervisor_ensemble": 0.58}
Scores = dict[str, dict[str, float]]  # by family of tasks, what rows score that isn't in ROWS


def made(ood: Scores, ind: Scores | None = None, broken: Scores | None = None) -> Analysis:
    """Two tasks a family out of distribution, one elsewhere."""
    rng = np.random.default_rng(3)

    def noisy(own: dict[str, float]) -> dict[str, np.ndarray]:
        return {row: mean + NOISE * rng.normal(size=SEEDS) for row, mean in {**ROWS, **own}.items()}

    analysis = analysis_with({(f, f"{f}-{i}"): noisy(own) for f, own in ood.items() for i in range(2)})
    for condition, scores, tags in (("ind", ind or {}, ()), ("ood", broken or {}, ("broken",))):
        for family, own in scores.items():
            name = f"{family}-0" + "-broken" * bool(tags)
            made_up = evaluation(Task(name, family=family, tags=tags), condition, range(SEEDS))
            samples = {row: Sample((*range(SEEDS),), values, values[:, None]) for row, values in noisy(own).items()}
            analysis.cells[name, condition] = Cell(made_up, {}, samples, samples, {}, {made_up.metric: samples})
    return replace(analysis, method_families=FAMILIES)


# --- who stands for a family -----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(st.lists(st.floats(0.5, 0.8), min_size=3, max_size=3), min_size=2, max_size=3), st.data())
def test_no_family_of_tasks_chooses_who_stands_there(drawn: list[list[float]], data: st.DataObject) -> None:
    """Nor do tasks in distribution, or with a broken supervisor, of any family: whatever is scored there."""
    names = "abc"[: len(drawn)]
    scores = {name: dict(zip("stu", own, strict=True)) for name, own in zip(names, drawn, strict=True)}
    changed = data.draw(st.sampled_from(names))
    other = dict(zip("stu", data.draw(st.permutations([0.5, 0.65, 0.8])), strict=True))

    def chosen(analysis: Analysis) -> str:
        (one,) = [one for one in standings(analysis) if one.family == "self-reinforcing"]
        return one.chosen[changed]

    before = chosen(made(scores))
    assert chosen(made({**scores, changed: other})) == before
    assert chosen(made(scores, ind={changed: other}, broken={changed: other})) == before


def test_it_is_the_best_by_mean_pgr_on_the_others() -> None:
    """A mean over families of tasks: c has a wide gap, so that score and PGR choose differently."""
    scores = {"a": {"s": 0.7}, "b": {"t": 0.64}, "c": {"u": 0.66, "ground_truth": 0.6 + 0.03}}
    (one,) = [one for one in standings(made(scores)) if one.family == "self-reinforcing"]
    assert one.chosen == {"a": "u", "b": "u", "c": "s"}
    assert list(one.methods) == ["u", "s", "t"]
    gaps = {f: scores[f].get("ground_truth", 0.9) - 0.58 for f in "abc"}
    for row, found in one.methods.items():
        expected = np.mean([(scores[f].get(row, 0.6) - 0.58) / gaps[f] for f in "abc"])
        assert found.mean == pytest.approx(expected, abs=0.1)
    alone = standings(made({"a": {"t": 0.7}}))[0]
    assert alone.chosen == {"a": "t"}, "of one family of tasks it is the best there is"


def test_ablations_and_what_was_not_run_everywhere_stand_for_nothing() -> None:
    analysis = made({"a": {"s": 0.8, "t": 0.7}, "b": {"s": 0.8, "t": 0.7}})
    analysis = replace(analysis, ablations=frozenset({"s"}))
    del analysis.cells["b-1", "ood"].samples["d"]
    found = {one.family: [*one.methods] for one in standings(analysis)}
    assert found == {"self-reinforcing": ["t", "u"], "averaging": ["ensemble", "naive"]}


# --- what is said ----------------------------------------------------------------------------------------------------


def test_ahead_behind_and_not_told_apart_by_family_of_tasks() -> None:
    up, down = {"s": 0.66, "t": 0.62, "u": 0.62}, {"s": 0.56, "t": 0.55, "u": 0.55}
    said = sentences(made({"a": up, "b": up, "c": up, "e": down, "f": {}}))
    text = said["Self-reinforcing"]
    assert "ahead on 3 (a, b and c), behind on 1 (e), not told apart on 1, over which a mean hides opposite" in text
    assert "by s (of 3 methods)." in text
    assert "Against ensemble: ahead, +2." in text
    assert "In distribution" not in text
    assert "broken" not in text
    assert said["Averaging"].endswith("Against ensemble: it is ensemble itself.")
    assert "by d, its only method." in said["Label model"]
    assert said["By family of tasks, OOD"].startswith("a, b and c: self-reinforcing (ahead of all others); e: ")
    assert said["Highest mean"] == "all OOD: self-reinforcing (ahead of all others)."
    assert "By modality, OOD" not in said, "there is one"


@pytest.mark.parametrize(
    ("score", "verdict", "leads"),
    [
        (0.7, "ahead, +", "self-reinforcing (ahead of all others)"),
        (0.5, "behind, -", "(not told apart from "),
        (0.6, "not told apart, ", "(not told apart from any other)"),
    ],
)
def test_in_distribution_and_with_a_broken_supervisor(score: float, verdict: str, leads: str) -> None:
    own = dict.fromkeys("stu", score)
    said = sentences(made({"a": {}, "b": {}}, ind={"a": own, "b": own}, broken={"a": own}))
    assert f"In distribution: {verdict}" in said["Self-reinforcing"]
    assert f"With a broken supervisor: {verdict}" in said["Self-reinforcing"]
    assert "all InD" in said["Highest mean"]
    places = {
        name: answer for part in said["Highest mean"][:-1].split("; ") for name, _, answer in [part.partition(": ")]
    }
    assert leads in next(answer for names, answer in places.items() if "all InD" in names)


def test_nothing_is_said_of_a_part_of_the_tasks() -> None:
    analysis = made({"a": {}, "b": {}}, ind={"a": {}, "b": {}})
    row = {one.family: one.chosen["a"] for one in standings(analysis)}["self-reinforcing"]
    del analysis.cells["a-0", "ind"].samples[row]
    said = sentences(analysis)
    assert " InD" not in said["Self-reinforcing"]
    assert "In distribution" not in said["Self-reinforcing"]
    assert "In distribution" in said["Label model"]
    assert "by ensemble (of 2 methods)" in said["Averaging"]
    mixed = sentences(made({"a": {"s": 0.8}, "b": {"t": 0.7}, "c": {"t": 0.7}}))
    assert "by s on 2 and t on 1 families of tasks (of 3 methods)." in mixed["Self-reinforcing"]


def test_one_seed_tells_nobody_apart() -> None:
    one = {row: np.array([score]) for row, score in {**ROWS, "s": 0.8, "d": 0.5}.items()}
    said = sentences(replace(analysis_with({("a", "x"): one, ("b", "y"): one}), method_families=FAMILIES))
    assert "not told apart on 2" in said["Self-reinforcing"]
    assert said["Highest mean"] == "all OOD: self-reinforcing (not told apart from any other)."


def test_nothing_is_said_where_there_is_nothing_to_say() -> None:
    whole = made({"a": {}, "b": {}})
    no_ceiling = made({"a": {}, "b": {}})
    for cell in no_ceiling.cells.values():
        del cell.samples["ground_truth"]
    lone = replace(whole, method_families={"s": "self-reinforcing"})
    for analysis in (replace(whole, method_families={}), no_ceiling, lone, replace(whole, cells={})):
        assert section(analysis) == ""
    assert method_families.table(no_ceiling) == ""


# --- the page and other tables ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    """The made-up suite, with a method that names no family."""
    store = ResultStore(tmp_path_factory.mktemp("families") / "default")
    fill(store, default_tasks(), ("ground_truth", "foreign"))
    for task in default_tasks():
        for method, family in (("naive", "averaging"), ("ensemble", "averaging"), ("raven", "learned weights")):
            put(store, task, method, family=family)
        put(store, task, "d_s", family="label model")
    return store


def test_the_board_says_it_first_and_every_ranked_table_has_the_column(store: ResultStore) -> None:
    page = render(store)
    top, methods = (
        page.index("## Which families of methods work where"),
        section_of(page, "## Methods").replace("best, PGR OOD", "method"),
    )
    assert top < page.index("## How to read the tables")
    main, families, _, compared, canaries, *_ = tables(methods)
    assert {row: cells["method family"] for row, cells in main.items() if row != "supervisor_ensemble"} == {
        "naive": "averaging",
        "ensemble": "averaging",
        "raven": "learned weights",
        "d_s": "label model",
        "foreign": "other",
    }
    assert list(main) == sorted(main, key=lambda row: -float(main[row]["all OOD"].strip("*").split()[0]))
    assert {cells["family"] for cells in families.values()} == {"averaging", "learned weights", "label model"}
    counts = [int(cells["leads on"].removesuffix(" of 3")) for cells in families.values()]
    assert sum(counts) == 3
    (two,) = [cells for cells in families.values() if cells["family"] == "averaging"]
    assert two["method"].startswith("`ensemble` ")
    assert two["median, PGR OOD"] == two["worst, PGR OOD"], "of an even number the lower in the middle"
    assert two["worst, PGR OOD"] == f"`naive` {compared['naive']['PGR OOD (4/4 tasks)'].strip('*')}"
    assert {cells["method family"] for cells in canaries.values()} == {"–"}
    (broken,) = tables(section_of(page, "## Broken supervisors"))
    assert broken["d_s"]["method family"] == "label model"
    assert "d\\_s" in section_of(page, "## Which families of methods work where"), "as text"
    assert "method family" in summary(store)


def test_results_that_name_no_family_have_no_trace_of_it(page: str) -> None:
    assert "method family" not in page
    assert "families of methods" not in page.lower()
    analysis = made({"a": {}, "b": {}})
    for table in (score_table, broken_table):
        assert "method family" in table(analysis).headers
        assert "method family" not in table(replace(analysis, method_families={})).headers
    assert effect_table(analysis).headers == effect_table(replace(analysis, method_families={})).headers


def test_latex_has_it_after_the_method() -> None:
    analysis = made({"a": {}, "b": {}})
    with_family, without = (headline_latex(each, "x") for each in (analysis, replace(analysis, method_families={})))
    assert r"\begin{tabular}{llr" in with_family
    assert "method & method family & " in with_family
    assert "\ns & self-reinforcing & " in with_family
    assert r"\begin{tabular}{lr" in without
    assert "method & text OOD" in without
