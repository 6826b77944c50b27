"""Names to methods and tasks, found at the first look-up: the two plug-in folders, entry points, --plugin files."""

import hashlib
import importlib
import importlib.util
import json
import math
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from benchmark.base.errors import W2SError, unknown_name
from benchmark.core.canaries import CANARY_METHODS
from benchmark.core.method import Method, method_options
from benchmark.core.names import GRID_SIZE, RESERVED, TIMES, Family, Use
from benchmark.core.records import MethodName, TaskName
from benchmark.core.task import Task

T = TypeVar("T")


class Registry(Generic[T]):
    """Unique names to objects of one kind.

    Args:
        kind: the word for error messages.
        package: plug-in folder, a package whose modules register themselves on import.
        group: entry-point group through which installed packages register theirs.
        check: raises `W2SError` when an object does not fulfil the contract.
        built_in: the harness's own, which are found and selected as the others are, but no plug-ins.
    """

    def __init__(
        self, kind: str, package: str, group: str, check: Callable[[T], None], built_in: Mapping[str, T] | None = None
    ) -> None:
        self.kind, self.package, self._group, self._check = kind, package, group, check
        self._built_in = dict(built_in or {})
        self._items: dict[str, T] = {}
        self._origin: dict[str, str] = {}
        self._discovered = False
        self.broken: dict[str, str] = {}  # outside plug-ins that could not be imported, and why

    def register(self, name: str, item: T, origin: str) -> None:
        """Add an item; a taken name is refused."""
        self._check(item)
        if name in RESERVED:
            raise W2SError(f"{self.kind} name '{name}' in {origin} is reserved for a canary or reference row")
        if name in self._items:
            raise W2SError(f"duplicate {self.kind} name '{name}': registered by {self._origin[name]} and by {origin}")
        self._items[name], self._origin[name] = item, origin

    def replace(self, name: str, item: T, origin: str) -> None:
        """Add an item in the place of the one that has its name, if there is one."""
        self._items.pop(name, None)
        self.register(name, item, origin)

    def forget(self, origin: str) -> None:
        """Drop what was registered from `origin`, a file or module that is about to be loaded again."""
        for name in self.registered_by(origin):
            self._items.pop(name, None)
            del self._origin[name]

    def registered_by(self, origin: str) -> list[str]:
        """Names that were registered from `origin`, a file or module."""
        return sorted(n for n, known in self._origin.items() if known == origin or known.startswith(f"{origin}."))

    def discover(self) -> None:
        """Import the plug-in folder and the entry points, once."""
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(self.package)
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{self.package}.{module}")
        for entry in entry_points(group=self._group):
            try:
                entry.load()
            except (Exception, SystemExit) as error:  # an installed package must not stop the others
                self.broken[entry.name] = f"{type(error).__name__}: {error}"

    def warnings(self) -> list[str]:
        """A line for each outside plug-in that could not be imported."""
        self.discover()
        return [f"warning: {self.kind} plug-in '{name}' cannot be imported: {why}" for name, why in self.broken.items()]

    def names(self) -> list[str]:
        """All names of plug-ins, sorted."""
        self.discover()
        return sorted(self._items)

    def __contains__(self, name: str) -> bool:
        self.discover()
        return name in self._items or name in self._built_in

    def __iter__(self) -> Iterator[T]:
        return iter(self[name] for name in self.names())

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise unknown_name(self.kind, name, self._items)
        return self._items[name] if name in self._items else self._built_in[name]

    def select(self, globs: Sequence[str]) -> list[str]:
        """Names that match any of the globs, built-in ones too, sorted; a glob that matches nothing is an error."""
        known = {*self.names(), *self._built_in}
        chosen = {glob: {name for name in known if fnmatchcase(name, glob)} for glob in globs}
        if lost := [glob for glob, names in chosen.items() if not names]:
            raise unknown_name(self.kind, lost[0], known)
        return sorted(set().union(*chosen.values()))


def _check_method(method: type[Method]) -> None:
    where = f"method {getattr(method, '__name__', method)!s}"
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise W2SError(f"{where}: expected a subclass of benchmark.api.Method")
    for attribute in ("name", "title", "citation", "kind"):
        if not isinstance(getattr(method, attribute, None), str):
            raise W2SError(f"{where}: declare the class attribute `{attribute}` (a string)")
    if not method.name.isidentifier() or not _fits(method.name, MethodName):
        raise W2SError(f"{where}: name '{method.name}' is not snake_case (a letter, then letters, digits, '_')")
    if method.kind not in ("single", "ensemble"):
        raise W2SError(f"{where}: kind is '{method.kind}', expected 'single' or 'ensemble'")
    if method.family not in (None, *get_args(Family)):
        raise W2SError(f"{where}: family is {method.family!r}, expected one of {', '.join(get_args(Family))}")
    if not isinstance(method.uses, tuple) or not set(method.uses) <= set(get_args(Use)):
        raise W2SError(f"{where}: uses is {method.uses!r}, expected a tuple of {', '.join(get_args(Use))}")
    try:
        method_options(method())
    except Exception as error:
        what = f"the options of '{method.name}' must have defaults that are JSON values"
        raise W2SError(f"{where}: {what} ({type(error).__name__}: {error})") from None
    if not isinstance(method.version, int) or method.version < 1:
        raise W2SError(f"{where}: version is {method.version!r}, expected an integer from 1")
    check_grid(method, f"{where}: grid")


def check_grid(method: type[Method], where: str) -> None:
    """Every method has the same number of settings, all different, the default first; each option varies.

    Raises:
        W2SError: this one has not; the message begins with `where`.
    """
    grid, known = method.grid, method_options(method())
    if not isinstance(grid, tuple) or not all(isinstance(setting, Mapping) for setting in grid):
        raise W2SError(f"{where}: expected a tuple of mappings, such as `product_grid` makes, found {grid!r}")
    if len(grid) != GRID_SIZE or grid[0]:
        found = f"{len(grid)}, the first {dict(grid[0])}" if grid else "none"
        raise W2SError(f"{where}: expected {GRID_SIZE} settings, the first {{}} (the default), found {found}")
    seen: dict[str, int] = {}
    tried: list[dict[str, Any]] = []
    for number, setting in enumerate(grid, 1):
        what = f"{where}: setting {number} of {GRID_SIZE}"
        for name, value in setting.items():
            if name not in (*TIMES, *known):
                raise W2SError(f"{what}: {unknown_name('option', name, (*TIMES, *known))}")
            number_wanted = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
            if name in TIMES and not number_wanted:
                raise W2SError(f"{what}: {name} is {value!r}, expected a positive number")
        try:
            options = method_options(method(**{name: value for name, value in setting.items() if name in known}))
        except Exception as error:
            raise W2SError(f"{what}: {setting} is no choice of options ({type(error).__name__}: {error})") from None
        tried.append(options | {name: float(setting.get(name, 1)) for name in TIMES})
        effective = json.dumps(tried[-1], sort_keys=True)
        if (first := seen.setdefault(effective, number)) != number:
            raise W2SError(f"{what}: is the same as setting {first}")
    for name in {name: None for setting in grid for name in setting}:
        if len(values := {json.dumps(own[name]) for own in tried}) == 1:
            raise W2SError(f"{where}: {name} has one value only, {values.pop()}; leave it out, or vary it")


def _check_task(task: Task) -> None:
    where = f"task {type(task).__name__}"
    if not isinstance(task, Task):
        raise W2SError(f"{where}: expected an instance of benchmark.api.Task")
    for attribute in task.declared():
        if not hasattr(task, attribute):
            raise W2SError(f"{where}: declare `{attribute}`")
    if not _fits(task.name, TaskName):
        raise W2SError(f"{where}: name '{task.name}' may hold letters, digits, '-' and '_' only")


def _fits(name: str, kind: Any) -> bool:
    """Whether a record could have this name: what it refuses must not be found out after the training."""
    try:
        return bool(TypeAdapter(kind).validate_python(name))
    except ValidationError:
        return False


METHODS: Registry[type[Method]] = Registry("method", "methods", "w2s.methods", _check_method, CANARY_METHODS)
TASKS: Registry[Task] = Registry("task", "tasks", "w2s.tasks", _check_task)


def register_method(method: type[Method]) -> type[Method]:
    """Class decorator: make a method known under its `name`."""
    METHODS.register(getattr(method, "name", "?"), method, f"{method.__module__}.{method.__qualname__}")
    return method


def register_task(task: Task | type[Task]) -> Task | type[Task]:
    """Make a task known under its `name`: an instance, or (as a decorator) a class without arguments."""
    instance = task() if isinstance(task, type) else task
    origin = f"{type(instance).__module__}.{type(instance).__qualname__}"
    TASKS.register(getattr(instance, "name", "?"), instance, origin)
    return task


def load_plugin(path: Path, copy: Path | None = None) -> str:
    """Import a Python file that registers methods or tasks (`--plugin FILE`); returns its name as a module.

    Args:
        copy: where it lies on a machine that doesn't see `path`; names and fingerprints are those of `path`.
    """
    if not (copy or path).is_file():
        raise W2SError(f"--plugin {path}: no such file")
    METHODS.discover()  # first, so that a duplicate name is blamed on the plug-in
    TASKS.discover()
    name = f"w2s_plugin_{path.resolve().stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    METHODS.forget(name)
    TASKS.forget(name)
    spec = importlib.util.spec_from_file_location(name, copy or path)
    if spec is None or spec.loader is None:
        raise W2SError(f"--plugin {path}: not a Python file (expected a name that ends in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except W2SError:
        raise
    except BaseException as error:  # also a sys.exit in the plug-in
        del sys.modules[name]
        raise W2SError(f"--plugin {path}: {type(error).__name__}: {error}") from error
    return name
