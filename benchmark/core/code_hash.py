"""The source of methods: which files it is, its hash, and which records were made from another one.

A method's source is its file and what that imports from plug-ins, and these import in turn: modules of `methods/`, and
modules that lie beside its file. The hash is of what runs: comments, docstrings and layout don't count. Nothing is
imported here, and torch is not needed.
"""

import ast
import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from benchmark.core.records import Record

PACKAGE = "methods"  # of the project's own


def source_of(method: type) -> str | None:
    """The hash of a method's source, SHA-256; None for the harness's own, and where there is no file."""
    module = method.__module__
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    if module.startswith("benchmark.") or file.suffix != ".py" or not file.is_file():
        return None
    return _kept_hash(file, file.stat().st_mtime_ns)


@cache
def _kept_hash(file: Path, changed: int) -> str:
    return source_hash(file)


def source_hash(file: Path) -> str:
    """The hash of the source of the methods in a file."""
    texts: dict[Path, str] = {}
    waiting = [file.resolve()]
    while waiting:
        if (path := waiting.pop()) not in texts:
            content = path.read_bytes()
            try:
                tree = ast.parse(content)
            except (SyntaxError, ValueError):  # whoever imports it says so
                texts[path] = content.decode(errors="replace")
                continue
            waiting += _imported(tree, path, file.resolve().parent)
            texts[path] = _plain(tree)
    own = texts.pop(file.resolve())
    return hashlib.sha256("\0".join([own, *sorted(texts.values())]).encode()).hexdigest()


def sources_here() -> dict[str, str]:
    """The hashes of the project's own methods, by name, whether or not they can be imported."""
    found: dict[str, str] = {}
    for file in sorted(path for folder in _package() for path in folder.glob("[!_]*.py")):
        try:
            names = list(_names(ast.parse(file.read_bytes())))
            found |= dict.fromkeys(names, source_hash(file)) if names else {}
        except (SyntaxError, ValueError):
            continue
    return found


def source_findings(records: Iterable[Record]) -> list[str]:
    """A line for each method some of whose records of one version were made from different sources, or from another
    one than the project's method has now."""
    sources: dict[tuple[str, int], set[str]] = defaultdict(set)
    for record in records:
        if record.source_sha256 is not None:
            sources[record.method, record.method_version].add(record.source_sha256)
    here: Mapping[str, str] = sources_here() if sources else {}
    lines = []
    for (method, version), found in sorted(sources.items()):
        if method in here and found != {here[method]}:
            lines.append(f"{method}: records of version {version} are of another source than the method has now")
        elif len(found) > 1:
            lines.append(f"{method}: records of version {version} are of {len(found)} different sources")
    return lines


def _package() -> list[Path]:
    spec = find_spec(PACKAGE)
    return [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []


def _names(tree: ast.Module) -> Iterator[str]:
    """What classes of a module declare as their `name`."""
    for own in (node for parent in tree.body if isinstance(parent, ast.ClassDef) for node in parent.body):
        if isinstance(own, ast.Assign) and [ast.unparse(target) for target in own.targets] == ["name"]:
            yield ast.literal_eval(own.value)


def _imported(tree: ast.Module, path: Path, beside: Path) -> Iterator[Path]:
    """Files of plug-ins that a module at `path` imports; `beside` is the folder of the plug-in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            base, names = "", [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            names = [f"{base}{alias.name}" for alias in node.names]
        else:
            continue
        level = node.level if isinstance(node, ast.ImportFrom) else 0
        for parts in (name.split(".") for name in names):
            if level:
                roots = [path.parents[level - 1]]
            elif parts[0] == PACKAGE:
                roots = [folder.parent for folder in _package()]
            else:
                roots = [] if parts[0] == "benchmark" or "site-packages" in beside.parts[-1:] else [beside]
            for root in roots:
                for end in range(1, len(parts) + 1):
                    stem = root.joinpath(*parts[:end])
                    found = (stem.with_name(f"{stem.name}.py"), stem / "__init__.py")
                    yield from (file.resolve() for file in found if file.is_file())


def _plain(tree: ast.Module) -> str:
    """A module's code without docstrings, written out in one way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            texts = [own for own in node.body if isinstance(own, ast.Expr) and isinstance(own.value, ast.Constant)]
            node.body = [own for own in node.body if own not in texts] or [ast.Pass()]
    return ast.unparse(tree)
