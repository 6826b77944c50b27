"""Names to methods and tasks: what is refused, what is suggested, and what a broken plug-in may not do."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from benchmark.base.errors import W2SError
from benchmark.core import registry as registry_module
from benchmark.core.method import Method, product_grid
from benchmark.core.names import CANARIES, RESERVED
from benchmark.core.records import MethodName, TaskName
from benchmark.core.registry import METHODS, TASKS, Registry, load_plugin, register_method, register_task
from support.made_up import Blobs, registries_restored


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with registries_restored():
        yield


def accept(item: object) -> None:
    """Whatever is registered is fine."""


@pytest.fixture
def gadgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    """A registry of its own, whose plug-in folder has two modules."""
    folder = tmp_path / "gadget_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "hammers.py").write_text(
        "from gadget_registry import REGISTRY\nREGISTRY.register('hammer', '1', __name__)"
    )
    (folder / "saws.py").write_text(
        "from gadget_registry import REGISTRY\nREGISTRY.register('hand_saw', '2', __name__)"
    )
    registry: Registry[str] = Registry("gadget", "gadget_plugins", "test.gadgets", accept)
    module = type(sys)("gadget_registry")
    module.REGISTRY = registry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gadget_registry", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("gadget_plugins", "gadget_plugins.hammers", "gadget_plugins.saws"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return registry


@dataclass
class Entry:
    """An entry point of an installed package."""

    name: str
    load: Callable[[], object]


def give_entry_points(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    def entry_points(group: str) -> tuple[Entry, ...]:
        return entries if group == "test.gadgets" else ()

    monkeypatch.setattr(registry_module, "entry_points", entry_points)


def test_the_folder_is_found_at_the_first_look_up(gadgets: Registry[str]) -> None:
    assert "gadget_plugins.saws" not in sys.modules
    assert gadgets.names() == ["hammer", "hand_saw"]
    assert list(gadgets) == ["1", "2"]
    assert gadgets["hammer"] == "1"
    assert gadgets.broken == {}


def test_entry_points_are_found_and_a_broken_one_is_reported_and_not_fatal(
    gadgets: Registry[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> object:
        raise ImportError("no module named 'gone'")

    give_entry_points(
        monkeypatch,
        Entry("broken", fail),
        Entry("twice", lambda: gadgets.register("hammer", "3", "twice")),
        Entry("exits", lambda: sys.exit(0)),
        Entry("good", lambda: gadgets.register("drill", "4", "good")),
    )
    assert gadgets.names() == ["drill", "hammer", "hand_saw"]
    assert gadgets["hammer"] == "1"
    assert gadgets.broken["broken"] == "ImportError: no module named 'gone'"
    assert gadgets.broken["exits"] == "SystemExit: 0"
    assert "'hammer': registered by gadget_plugins.hammers and by twice" in gadgets.broken["twice"]
    assert set(gadgets.broken) == {"broken", "twice", "exits"}


def test_entry_points_have_the_documented_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def entry_points(group: str) -> tuple[Entry, ...]:
        asked.append(group)
        return ()

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    for registry in (METHODS, TASKS):
        monkeypatch.setattr(registry, "_discovered", False)
        registry.discover()
        registry.discover()
    assert asked == ["w2s.methods", "w2s.tasks"]


def test_reserved_names_are_refused(gadgets: Registry[str]) -> None:
    for name in RESERVED:
        with pytest.raises(W2SError, match=f"gadget name '{name}' in mine is reserved for a canary or reference row"):
            gadgets.register(name, "3", "mine")
        assert name not in gadgets.names()
    assert set(CANARIES) < RESERVED


def test_an_unknown_name_suggests_the_nearest(gadgets: Registry[str]) -> None:
    with pytest.raises(W2SError, match=r"^unknown gadget 'hamer': did you mean 'hammer'\?$"):
        gadgets["hamer"]
    with pytest.raises(W2SError, match=r"^unknown gadget 'xyz': known: hammer, hand_saw$"):
        gadgets["xyz"]
    for registry, wrong, right in ((METHODS, "ravn", "raven"), (TASKS, "digits-to-minst", "digits-to-mnist")):
        with pytest.raises(W2SError, match=f"'{wrong}': did you mean '{right}'"):
            registry[wrong]


def test_what_is_built_in_is_found_and_selected_but_no_plug_in() -> None:
    assert set(CANARIES) <= set(METHODS.select(["*"])) - set(METHODS.names())
    assert all(name in METHODS and METHODS[name].name == name for name in CANARIES)
    assert METHODS.select(["ground_*", "raven"]) == ["ground_truth", "raven"]


words = st.text("ab_*?", min_size=1, max_size=3)


@given(st.sets(st.text("ab_", min_size=1, max_size=3), max_size=6), st.lists(words, max_size=3))
def test_globs_select_sorted_names_and_each_must_match(names: set[str], globs: list[str]) -> None:
    registry: Registry[str] = Registry("gadget", "methods", "test.gadgets", accept)
    for name in sorted(names):
        registry.register(name, name.upper(), "here")
    assert registry.names() == sorted(names)
    assert [registry[name] for name in names] == [name.upper() for name in names]
    if all(fnmatch.filter(names, glob) for glob in globs):
        assert registry.select(globs) == sorted({name for glob in globs for name in fnmatch.filter(names, glob)})
    else:
        with pytest.raises(W2SError, match="unknown gadget '"):
            registry.select(globs)


def make_method(**attributes: Any) -> type[Method]:
    values = {"name": "made_up_method", "title": "t", "citation": "c", "kind": "ensemble", **attributes}
    return type("MadeUp", (Method,), {k: v for k, v in values.items() if v is not None})


@given(st.text(max_size=5) | st.from_regex(r"\A[\w-]{1,5}\Z"))
@example("²")
@example("_tasks")
def test_names_are_those_that_records_can_have(name: str) -> None:
    """Else a run would end without its results."""
    for registry, kind, item in (
        (METHODS, MethodName, make_method(name=name)),
        (TASKS, TaskName, Blobs(name=name)),
    ):
        try:
            TypeAdapter(kind).validate_python(name)
            fits = registry is TASKS or name.isidentifier()
        except ValidationError:
            fits = False
        if fits:
            registry.replace(name, item, "here")
            assert registry[name] is item
        else:
            with pytest.raises(W2SError, match="name '"):
                registry.register(name, item, "here")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"name": None}, "declare the class attribute `name`"),
        ({"title": None}, "declare the class attribute `title`"),
        ({"citation": 7}, "declare the class attribute `citation`"),
        ({"kind": "both"}, "kind is 'both', expected 'single' or 'ensemble'"),
        ({"family": "voting"}, "family is 'voting', expected one of averaging, label model, "),
        ({"name": "made-up"}, "name 'made-up' is not snake_case"),
        ({"version": 0}, "version is 0, expected an integer from 1"),
        ({"version": "2"}, "version is '2', expected an integer from 1"),
        ({"uses": ("truth",)}, r"uses is \('truth',\), expected a tuple of features, source_scores"),
        ({"uses": "features"}, "uses is 'features', expected a tuple of features, source_scores"),
    ],
)
def test_a_method_that_declares_too_little_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(W2SError, match=f"^method .*{message}"):
        register_method(make_method(**attributes))
    assert "made_up_method" not in METHODS.names()


def test_a_product_that_is_no_grid_is_refused_before_anybody_cuts_it() -> None:
    assert len(product_grid(a=(1, 2, 3), epochs_times=(0.3,))) == 8
    message = "product_grid: 12 settings, expected 8; values, with the default: 3 of a, 2 of b, 2 of c"
    with pytest.raises(W2SError, match=f"^{message}$"):
        product_grid(a=(1, 2), b=(3,), c=(4,))[:8]
    with pytest.raises(W2SError, match="4 settings, expected 8"):
        product_grid(a=(1,), b=(3,))


def test_only_methods_and_tasks_are_registered() -> None:
    with pytest.raises(W2SError, match=r"expected a subclass of benchmark\.api\.Method"):
        register_method(Blobs)  # type: ignore[type-var]
    with pytest.raises(W2SError, match=r"expected a subclass of benchmark\.api\.Method"):
        METHODS.register("made_up_method", make_method()(), "here")  # type: ignore[arg-type]
    with pytest.raises(W2SError, match=r"expected an instance of benchmark\.api\.Task"):
        register_task(make_method())  # type: ignore[arg-type]


def test_a_task_that_declares_too_little_is_refused() -> None:
    for attribute in ("name", "card", "encoder"):
        task = Blobs()
        delattr(task, attribute)
        with pytest.raises(W2SError, match=f"task Blobs: declare `{attribute}`"):
            register_task(task)
    with pytest.raises(W2SError, match="name 'a/b' may hold letters, digits"):
        register_task(Blobs(name="a/b"))


def test_tasks_are_registered_as_classes_or_instances() -> None:
    assert register_task(Blobs) is Blobs
    task = Blobs(name="another")
    assert register_task(task) is task
    assert TASKS["another"] is task
    with pytest.raises(W2SError, match="duplicate task name 'another'"):
        register_task(Blobs(name="another"))
    assert isinstance(TASKS["blobs"], Blobs)


PLUGIN = '''
from dataclasses import dataclass
from benchmark.api import Method, cross_entropy, register_method

@register_method
@dataclass(eq=False)
class Mine(Method):
    """CE(q, mean p)."""
    name = "{name}"
    title = "{title}"
    citation = "none"
    kind = "ensemble"

    def loss(self, logits, batch):
        return cross_entropy(logits, batch.soft_labels.mean(2))
'''


def test_a_plugin_file_is_registered_and_may_be_named_twice(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="mine", title="Mine"))
    for _ in range(2):
        load_plugin(path)
        assert METHODS["mine"].title == "Mine"


MINE = PLUGIN.format(name="mine", title="t")
REFUSED: dict[str, tuple[dict[str, str], str]] = {  # files, the last of which is refused with this message
    "raises": ({"bad.py": "raise ValueError('not today')"}, "ValueError: not today"),
    "exits": ({"bad.py": "import sys; sys.exit(0)"}, "SystemExit: 0"),
    "import": (
        {"bad.py": "import no_such_module_at_all"},
        "ModuleNotFoundError: No module named 'no_such_module_at_all'",
    ),
    "syntax": ({"bad.py": "def broken(:"}, "SyntaxError: invalid syntax"),
    "taken": (
        {"bad.py": PLUGIN.format(name="raven", title="t")},
        r"duplicate method name 'raven': registered by methods\.raven\.Raven",
    ),
    "reserved": ({"bad.py": PLUGIN.format(name="ground_truth", title="t")}, "'ground_truth' in .*Mine is reserved"),
    "name": ({"bad.py": PLUGIN.format(name="not a name", title="t")}, "name 'not a name' is not snake_case"),
    "two files": ({"one.py": MINE, "two.py": MINE}, "duplicate method name 'mine'"),
    "files of one name": ({"a/plugin.py": MINE, "b/plugin.py": MINE}, "duplicate method name 'mine'"),
    "classes of one name": ({"bad.py": MINE + MINE}, "duplicate method name 'mine'"),
    "no file": ({"none.py": ""}, r"--plugin .*none\.py: no such file"),
    "a folder": ({"folder/": ""}, "no such file"),
    "no Python": ({"plugin.txt": "x = 1"}, r"not a Python file \(expected a name that ends in \.py\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_plugin_that_fails_is_refused_with_the_reason_each_time(what: str, tmp_path: Path) -> None:
    files, message = REFUSED[what]
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if content:
            path.write_text(content)
    paths = [tmp_path / name for name in files]
    for path in paths[:-1]:
        load_plugin(path)
    before = METHODS["raven"], METHODS["mine"] if len(paths) > 1 else None
    for _ in range(2):
        with pytest.raises(W2SError, match=message):
            load_plugin(paths[-1])
        assert METHODS["raven"] is before[0]
        assert before[1] is None or METHODS["mine"] is before[1]
