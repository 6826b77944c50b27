"""The page's script is checked against payload.d.ts, which says what payload.py does."""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

from benchmark.page import payload

PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", NoneType: "null"}


def script_type(hint: Any) -> str:
    """A type of payload.py as TypeScript writes it; a dictionary may lack any name."""
    origin, args = get_origin(hint), get_args(hint)
    if hint == payload.Interval:
        return "Interval"
    if origin is list:
        return f"{script_type(args[0])}[]" if get_origin(args[0]) != UnionType else f"({script_type(args[0])})[]"
    if origin is dict:
        return f"{{ [name: string]: {script_type(args[1])} | undefined }}"
    if origin is tuple:
        return f"[{', '.join(map(script_type, args))}]"
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in args)
    if origin in (Union, UnionType):
        return " | ".join(map(script_type, args))
    return PLAIN.get(hint) or hint.__name__


def declarations() -> Iterator[str]:
    yield "// Written from payload.py, which says what these are; tests/page/test_payload_types.py compares them.\n"
    yield f"type Interval = [{', '.join(map(script_type, get_args(payload.Interval)))}];"
    for name, kind in vars(payload).items():
        if not is_typeddict(kind):
            continue
        yield f"\ninterface {name} {{"
        for field, hint in get_type_hints(kind, include_extras=True).items():
            optional = get_origin(hint) is NotRequired
            yield f"  {field}{'?' * optional}: {script_type(get_args(hint)[0] if optional else hint)};"
        yield "}"


def test_the_scripts_types_are_the_payloads() -> None:
    declared = Path(payload.__file__).with_suffix(".d.ts").read_text()
    assert declared == "\n".join(declarations()) + "\n"
