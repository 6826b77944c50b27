"""A method with its setting: chosen once, then planned, trained and recorded as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmark.base.errors import W2SError, unknown_name
from benchmark.core.canaries import CANARY_METHODS
from benchmark.core.data import Recipe
from benchmark.core.method import Method, method_options
from benchmark.core.names import TIMES
from benchmark.core.records import setting_hash
from benchmark.core.registry import METHODS
from benchmark.results.trials import TRIALS

NOTHING: Mapping[str, Any] = {}


class Trial(NamedTuple):
    """One setting of one method.

    Attributes:
        method: its name.
        number: the setting's place in the grid; 0 is the default.
        options: values of the method's options that are not the default.
        recipe: of the student.
    """

    method: str
    number: int
    options: Mapping[str, Any]
    recipe: Recipe

    def instance(self) -> Method:
        """A fresh one."""
        return METHODS[self.method](**self.options)

    @property
    def staged(self) -> bool:
        """Whether it trains in stages of its own."""
        return METHODS[self.method].fit is not Method.fit


@dataclass(frozen=True)
class MethodSetting:
    """A method or canary, and all that was chosen for it.

    Attributes:
        trials: what is trained: one, or with `--tune` the whole grid.
        hyperparameters: as records hold them: the method's options, the student's recipe and own parameters; with
            `--tune` those of every trial.
        hash: of the hyperparameters.
    """

    method: str
    version: int
    hash: str
    trials: tuple[Trial, ...] = field(compare=False, repr=False)
    hyperparameters: Mapping[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(
        cls,
        method: str,
        recipe: Recipe,
        student: Mapping[str, Any] = NOTHING,
        options: Mapping[str, Any] = NOTHING,
        tune: bool = False,
    ) -> MethodSetting:
        """The setting of a method in a suite that trains students by `recipe`.

        Args:
            student: parameters of the student's own.
            options: values of the method's options that are not its defaults.
            tune: take the method's grid.
        """
        kind = METHODS[method]
        trials = tuple(
            Trial(
                method,
                number,
                {**options, **{name: value for name, value in setting.items() if name not in TIMES}},
                recipe.times(*(setting.get(times, 1) for times in TIMES)),
            )
            for number, setting in enumerate(kind.grid if tune else ({},))
        )
        tried = [
            {"method": method_options(trial.instance()), "student": {**trial.recipe.chosen(), **student}}
            for trial in trials
        ]
        hyperparameters = {TRIALS: tried} if tune else tried[0]
        return cls(method, kind.version, setting_hash(hyperparameters), trials, hyperparameters)

    @property
    def canary(self) -> bool:
        """Whether it learns from a supervision that the harness makes."""
        return self.method in CANARY_METHODS


def check_method_options(options: Mapping[str, Mapping[str, Any]], methods: list[str]) -> None:
    """Refuse options (by method) that no method of a run has, or whose values are of another kind than the default.

    Raises:
        W2SError: names the option and the nearest one that there is.
    """
    for method, own in options.items():
        if method not in METHODS:
            raise unknown_name("method", method, METHODS.names())
        if method not in methods:
            raise W2SError(f"--set {method}.{next(iter(own))}: '{method}' is none of this run's methods")
        defaults = method_options(METHODS[method]())
        for name, value in own.items():
            said = f"--set {method}.{name}={value}"
            if name not in defaults:
                raise W2SError(f"{said}: {unknown_name(f'option of {method}', name, defaults)}")
            kinds = {type(value), type(defaults[name])} - {type(None)}
            if len(kinds) > 1 and kinds != {int, float}:
                raise W2SError(f"{said}: expected a value like the default, {defaults[name]!r}")
        try:
            method_options(METHODS[method](**own))
        except Exception as error:
            raise W2SError(f"--set {method}: {own} is no choice of options ({error})") from None
