"""Skeletons and the cache: `new`, `cache`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from benchmark.cli.common import app, guarded


@app.command(epilog="Example: w2s new method my_method")
@guarded
def new(
    kind: Annotated[str, Argument(help="method or task")],
    name: Annotated[str, Argument(help="snake_case for a method, kebab-case for a task")],
    out: Annotated[Path | None, Option(help="folder [default: the plug-in folder of a checkout, else .]")] = None,
) -> None:
    """Write a commented skeleton that already passes the contract tests."""
    from benchmark.cli.skeletons import write_skeleton

    path = write_skeleton(kind, name, out)
    flag = "" if path.parent.name in ("methods", "tasks") else f" --plugin {path}"
    typer.echo(f"wrote {path}; run it with: w2s run{flag} --{kind}s {name}")


cache_app = typer.Typer(
    help="The store of features and soft labels.", no_args_is_help=True, epilog="Example: w2s cache info"
)
app.add_typer(cache_app, name="cache")


@cache_app.command(epilog="Example: w2s cache info")
@guarded
def info(cache: Annotated[Path | None, Option(help="the cache's folder")] = None) -> None:
    """Say where the cache is and what it holds."""
    from benchmark.store.cache import Cache

    store = Cache(cache)
    typer.echo(store.root)
    for kind, (files, size) in store.info().items():
        typer.echo(f"  {kind:<12} {files:>6} files {size / 2**20:>9.1f} MiB")


@cache_app.command(epilog="Example: w2s cache clear --cache /tmp/w2s-cache")
@guarded
def clear(cache: Annotated[Path | None, Option(help="the cache's folder")] = None) -> None:
    """Delete the cache; everything in it can be made again."""
    from benchmark.store.cache import Cache

    store = Cache(cache)
    typer.echo(f"freed {store.clear() / 2**20:.1f} MiB of {store.root}")
