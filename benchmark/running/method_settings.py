"""A method with its setting: chosen once, then planned, trained and recorded as it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from benchmark.base.errors import W2SError, unknown_name
from benchmark.core.canaries import CANARY_METHODS
from benchmark.core.code_hash import source_of
from benchmark.core.data import Recipe
from benchmark.core.method import Method, method_options
from benchmark.core.names import TIMES
from benchmark.core.records import setting_hash
from benchmark.core.registry import METHODS
from benchmark.results.trials import TRIALS

Values = Mapping[str, Any]
NOTHING: Values = {}


class Trial(NamedTuple):
    """One setting of one method.

    `number` is the setting's place in the grid, 0 the default; `options` are values that are not the default.
    """

    method: str
    number: int
    options: Mapping[str, Any]
    recipe: Recipe

    def instance(self) -> Method:
        return METHODS[self.method](**self.options)

    @property
    def staged(self) -> bool:
        return METHODS[self.method].fit is not Method.fit


@dataclass(frozen=True)
class MethodSetting:
    """A method or canary, and all that was chosen for it: its trial, or with `--tune` those of the whole grid.

    Records hold the hyperparameters: of each trial the method's options, the student's recipe and own parameters; and
    the hash of the method's source.
    """

    method: str
    version: int
    hash: str
    trials: tuple[Trial, ...] = field(compare=False, repr=False)
    hyperparameters: Mapping[str, Any] = field(compare=False, repr=False)
    source: str | None = field(compare=False, repr=False)

    @classmethod
    def of(
        cls, method: str, recipe: Recipe, student: Values = NOTHING, options: Values = NOTHING, tune: bool = False
    ) -> Self:
        """Of a method, with `tune` of its grid, where `recipe` and parameters of its own (`student`) train students."""
        kind, trials, tried = METHODS[method], [], []
        for number, setting in enumerate(kind.grid if tune else ({},)):
            own = {**options, **{name: value for name, value in setting.items() if name not in TIMES}}
            trials.append(Trial(method, number, own, recipe.times(*(setting.get(times, 1) for times in TIMES))))
            trained = {**trials[-1].recipe.chosen(), **student}
            tried.append({"method": method_options(trials[-1].instance()), "student": trained})
        hyperparameters = {TRIALS: tried} if tune else tried[0]
        hashed = setting_hash(hyperparameters)
        return cls(method, kind.version, hashed, tuple(trials), hyperparameters, source_of(kind))

    @property
    def canary(self) -> bool:
        """Whether it learns from a supervision that the harness makes."""
        return self.method in CANARY_METHODS


def check_method_options(options: Mapping[str, Mapping[str, Any]], methods: list[str]) -> None:
    """Refuse options (by method) that no method of a run has, or whose values are of another kind than the default."""
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
            whole = type(value) is int and type(defaults[name]) is float  # 1 for 1.0
            endless = isinstance(value, float) and not math.isfinite(value)  # no JSON value
            if endless or (len(kinds) > 1 and not whole):
                raise W2SError(f"{said}: expected a value like the default, {defaults[name]!r}")
        try:
            method_options(METHODS[method](**own))
        except Exception as error:
            raise W2SError(f"--set {method}: {own} is no choice of options ({error})") from None
