"""The application that the subcommands belong to, and what several of them share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from benchmark.base.errors import W2SError
from benchmark.base.paths import settings, use, using
from benchmark.base.process import STOPPED, one_thread

F = TypeVar("F", bound=Callable[..., Any])

# options and arguments that several commands have
Suite = Annotated[str, Option(help="name of a suite (w2s list suites)")]
Full = Annotated[bool, Option("--full", help="the suite's larger grid, for a GPU")]
Task = Annotated[str, Argument(help="name of a task")]
Seeds = Annotated[int | None, Option(min=1, help="number of seeds, from 0")]
Results = Annotated[Path, Option(help="results folder")]
Published = Annotated[Path | None, Option(help="what is published [default: results/<suite>]")]
Device = Annotated[str, Option(help="auto, cpu or cuda")]
Cache = Annotated[str | None, Option(help="folder or address for features and soft labels")]
DataPlaces = Annotated[list[str] | None, Option("--set", help="name=value: where a task's data are; repeatable")]
DataRoot = Annotated[Path | None, Option(help="folder of large data sets [default: W2S_DATA]", metavar="DIR")]
Mirror = Annotated[str | None, Option(help="base address of a copy of large data sets", metavar="URL")]
Download = Annotated[bool, Option("--download", help="fetch data sets and models that are missing")]


class _Commands(TyperGroup):
    """A command that is interrupted, where it has not said more itself, ends with one line and status 130."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _stopped_in_words():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _stopped_in_words():
            return super().invoke(ctx)


@contextmanager
def _stopped_in_words() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(STOPPED, err=True)
        raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    name="w2s",
    help="Benchmark of weak-to-strong generalization under distribution shift.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"w2s-bench {version('w2s-bench')}")
        raise typer.Exit


@app.callback()
def _of_all(
    version: Annotated[
        bool, Option("--version", is_eager=True, callback=_say_version, help="print the version and exit")
    ] = False,
) -> None:
    """What stands before a subcommand."""


def guarded(function: F) -> F:
    """Bad input is one line on standard error and exit status 2, without a traceback; settings end with the command."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with using():
                return function(*args, **kwargs)
        except W2SError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None

    return wrapper  # type: ignore[return-value]


def prepare(data_root: Path | None, mirror: str | None = None, download: bool = True) -> None:
    """What comes before torch is imported, and before anything looks for data."""
    one_thread()
    if data_root is not None:
        use(replace(settings(), data=data_root.absolute()))
    if mirror and not download:
        raise W2SError("--mirror: only with --download")


def names_in(option: str, text: str | None) -> list[str]:
    """The names in a comma-separated option; none when it was left out."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise W2SError(f"{option}: expected names, found nothing")
    return names
