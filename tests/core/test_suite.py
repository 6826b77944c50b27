"""Suites: recipes and options per task, larger grids, `--set`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmark.base.errors import W2SError
from benchmark.core.data import Recipe
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Recipes, load_suite, read_options, suite_names, suite_of_folder


def test_the_first_glob_that_matches_decides() -> None:
    special, other = Recipe(1e-4, 100, 128), Recipe(1e-2, 3, 16)
    recipes = Recipes(Recipe(), (("hh-*", special), ("*-to-*", other)))
    assert recipes.of("hh-helpful-to-harmless") == special
    assert recipes.of("digits-to-uci") == other
    assert recipes.of("fmow") == Recipe()


def test_options_of_the_recipe_change_all_recipes() -> None:
    recipes = Recipes(Recipe(), (("hh-*", Recipe(1e-4, 100, 64)),))
    changed = recipes.changed({"epochs": 2, "learning_rate": 1, "rank": 4})
    assert changed.default == Recipe(1.0, 2, 128)
    assert isinstance(changed.default.learning_rate, float)
    assert changed.of("hh-x") == Recipe(1.0, 2, 64)
    assert recipes.changed({}) == recipes
    assert recipes.changed({"precision": "bf16"}).of("hh-x").precision == "bf16"


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", None])
def test_a_wrong_value_for_the_recipe_is_named(value: object) -> None:
    with pytest.raises(W2SError, match=f"option epochs={value}: expected a positive int"):
        Recipes(Recipe()).changed({"epochs": value})


plain = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none())
words = st.text(min_size=1).filter(lambda text: text.lower() != "none" and not is_json(text))


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@given(plain | words)
@example("Qwen/Qwen2.5-7B")
@example("a=b")
def test_values_are_read_as_what_they_look_like(value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    options, of_methods = read_options([f"name={text}", f"raven.eta={text}"])
    assert (options, of_methods) == ({"name": value}, {"raven": {"eta": value}})
    assert type(options["name"]) is type(value)
    assert read_options(["x=none", "y=None"])[0] == {"x": None, "y": None}


@pytest.mark.parametrize("text", ["rank", "=4", "rank="])
def test_an_option_without_name_or_value(text: str) -> None:
    with pytest.raises(W2SError, match=f"--set {text}: expected name=value"):
        read_options([text])


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_names_tasks_methods_and_options_that_exist(name: str) -> None:
    grids = [load_suite(name)] + ([load_suite(name, full=True)] if name == "language-model" else [])
    for suite in grids:
        tasks = [TASKS[task] for task in TASKS.select(list(suite.tasks))]
        assert METHODS.select(list(suite.methods))
        assert set(suite.options) <= set().union(*(task.options for task in tasks))
        for task in tasks:
            task.configured(suite.options)  # every value is one that the task takes
        for glob, _ in suite.student.by_task:
            assert TASKS.select([glob])


def test_the_larger_grid_keeps_what_it_does_not_change() -> None:
    small, full = load_suite("language-model"), load_suite("language-model", full=True)
    assert full.student.default == replace(small.student.default, learning_rate=1e-3)
    assert (small.seeds, full.seeds) == (3, 5)
    assert small.options["blocks"] == 2
    assert full.options["blocks"] is None
    assert full.options["model"] == small.options["model"]
    assert (small.folder, full.folder) == ("language-model", "language-model-full")
    hh = set(TASKS.select(list(full.tasks)))
    assert {"hh-helpful-to-harmless", "hh-harmless-to-helpful"} <= hh
    staged = {"bootstrapping", "co_supervised"}
    assert not staged & set(METHODS.select(list(full.methods)))


def test_a_suite_is_found_by_its_folder() -> None:
    for suite in (load_suite("default"), load_suite("language-model"), load_suite("language-model", full=True)):
        assert suite_of_folder(suite.folder) == suite
    assert suite_of_folder("arrays-mine") is None


def test_a_suite_without_a_larger_grid() -> None:
    with pytest.raises(W2SError, match="--full: suite 'default' has no larger grid"):
        load_suite("default", full=True)


def test_what_is_read_of_the_language_model_suite_is_within_the_limits() -> None:
    """At most 400 training items of at most 128 tokens."""
    suite = load_suite("language-model")
    for name in TASKS.select(list(suite.tasks)):
        task = TASKS[name].configured(suite.options)
        assert task.max_train is not None
        assert task.max_train <= 400
        assert task.student.parameters["max_tokens"] <= 128
    assert suite.seeds == 3
    assert suite.conditions == ("ood",)


def test_the_paper_suite_trains_as_published() -> None:
    recipes = load_suite("paper").student
    assert recipes.of("iwildcam") == recipes.of("fmow") == Recipe(1e-4, 100, 128)
    assert recipes.of("camelyon17") == Recipe(1e-3, 30, 128)
