"""Suites: which tasks, methods, conditions and seeds belong together, and how students are trained."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from benchmark.base.errors import W2SError, unknown_name
from benchmark.core.data import Recipe

SUITES = Path(__file__).parents[1] / "suites"


@dataclass(frozen=True)
class Recipes:
    """How the students of a run are trained: one recipe, and other ones for some tasks."""

    default: Recipe
    by_task: tuple[tuple[str, Recipe], ...] = ()  # glob and recipe; the first that matches a task's name counts

    def of(self, task: str) -> Recipe:
        return next((recipe for glob, recipe in self.by_task if fnmatchcase(task, glob)), self.default)

    def changed(self, options: Mapping[str, Any]) -> Self:
        """All recipes with other values; options that are none of a recipe's are left alone.

        Raises:
            W2SError: a value of another kind than expected.
        """
        names = {f.name for f in fields(Recipe)}
        mine = {name: value for name, value in options.items() if name in names}
        for name, value in mine.items():
            kind = type(getattr(self.default, name))
            if kind is str:  # precision: checked when the device is known
                continue
            if isinstance(value, bool) or not isinstance(value, (int, kind)) or not 0 < value < math.inf:
                raise W2SError(f"option {name}={value}: expected a positive {kind.__name__}")
            mine[name] = kind(value)
        changed = tuple((glob, replace(recipe, **mine)) for glob, recipe in self.by_task)
        return replace(self, default=replace(self.default, **mine), by_task=changed)


@dataclass(frozen=True)
class Suite:
    """What `w2s run --suite` runs; tasks and methods are globs."""

    name: str
    description: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    conditions: tuple[str, ...]
    seeds: int
    student: Recipes
    options: Mapping[str, Any] = field(default_factory=dict)  # given to the tasks (`Task.configured`)
    full: bool = False  # whether this is the larger grid of the same name (`--full`)

    @property
    def folder(self) -> str:
        return f"{self.name}-full" if self.full else self.name


def suite_names() -> list[str]:
    """The suites that ship."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def suite_of_folder(folder: str) -> Suite | None:
    """The suite, or the larger grid of one, whose folder of results has this name."""
    full, name = folder.endswith("-full"), folder.removesuffix("-full")
    return load_suite(name, full) if name in suite_names() else None


def load_suite(name: str, full: bool = False) -> Suite:
    """Read a suite by name, or its larger grid.

    Raises:
        W2SError: no such suite, or it has no larger grid.
    """
    if name not in suite_names():
        raise unknown_name("suite", name, suite_names())
    content = tomllib.loads((SUITES / f"{name}.toml").read_text())
    larger = content.pop("full", None)
    if full and larger is None:
        raise W2SError(f"--full: suite '{name}' has no larger grid")
    if full:
        content = _merged(content, larger)
    student = content.pop("student")
    by_task, default = student.pop("tasks", {}), Recipe(**student)
    recipes = Recipes(default, tuple((glob, replace(default, **own)) for glob, own in by_task.items()))
    # the file's word "none" stands for the null that TOML lacks
    options = {name: None if value == "none" else value for name, value in content.pop("options", {}).items()}
    lists: dict[str, Any] = {key: tuple(content.pop(key)) for key in ("tasks", "methods", "conditions")}
    return Suite(name=name, student=recipes, options=options, full=full, **lists, **content)


def read_options(given: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What `--set` says: options of tasks and students by name, those of methods (`method.name=value`) by method.

    A value is a JSON number, true, false or null, else a word.

    Raises:
        W2SError: no `name=` or an empty value.
    """
    options: dict[str, Any] = {}
    of_methods: dict[str, dict[str, Any]] = {}
    for text in given:
        name, sign, word = text.partition("=")
        if not name or not sign or not word:
            raise W2SError(f"--set {text}: expected name=value")
        try:
            value = json.loads(word)
        except ValueError:
            value = {"none": None}.get(word.lower(), word)
        method, dot, option = name.partition(".")
        if dot:
            of_methods.setdefault(method, {})[option] = value
        else:
            options[name] = value
    return options, of_methods


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged, everything else is replaced."""
    own = {k: _merged(base.get(k, {}), value) if isinstance(value, dict) else value for k, value in changes.items()}
    return {**base, **own}
