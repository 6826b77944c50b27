"""Skeletons of methods and tasks for `w2s new`."""

import keyword
import re
from pathlib import Path

from benchmark import api
from benchmark.base.errors import W2SError
from benchmark.base.files import write_output
from benchmark.core.names import RESERVED
from benchmark.core.registry import METHODS, TASKS

TEMPLATES = Path(__file__).parents[1] / "templates"


def write_skeleton(kind: str, name: str, folder: Path | None = None) -> Path:
    """Write the skeleton and return its path: in the plug-in folder of a checkout, else in the current folder.

    Raises:
        W2SError: an unknown kind, a name that is malformed or taken, a file that exists or can't be written.
    """
    if kind not in ("method", "task"):
        raise W2SError(f"unknown kind '{kind}': expected method or task")
    separator, example = ("_", "my_method") if kind == "method" else ("-", "my-task")
    if not re.fullmatch(f"[a-z][a-z0-9]*({separator}[a-z0-9]+)*", name):
        raise W2SError(f"{kind} name '{name}': expected lower-case letters, digits and '{separator}', as in {example}")
    if name in RESERVED or name in (METHODS if kind == "method" else TASKS).names():
        raise W2SError(f"{kind} name '{name}' is taken")
    class_name = "".join(part.capitalize() for part in re.split("[-_]", name))
    if keyword.iskeyword(class_name) or hasattr(api, class_name):
        raise W2SError(f"{kind} name '{name}': would give a class '{class_name}', which Python or benchmark.api has")
    if folder is None:
        plugins = Path(f"{kind}s")
        folder = plugins if (plugins / "__init__.py").is_file() else Path()
    path = folder / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise W2SError(f"{path}: exists already")
    text = (TEMPLATES / f"{kind}.py.txt").read_text()
    write_output(path, text.replace("{name}", name).replace("{class_name}", class_name).encode())
    return path
