"""What there is, and what came of it: `list`, `describe`, `leaderboard`, `compare`, `export`, `page`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from benchmark.base.errors import W2SError
from benchmark.base.files import write_output
from benchmark.cli.common import DataRoot, Results, app, guarded, prepare


@app.command("list", epilog="Example: w2s list methods")
@guarded
def list_(
    kind: Annotated[
        str, Argument(help="tasks, methods or suites, all three when left out; or results: what a folder holds")
    ] = "",
    results: Annotated[Path | None, Option(help="with results: the folder [default: results/default]")] = None,
    plugin: Annotated[list[Path] | None, Option(help="with results: Python file with methods; repeatable")] = None,
) -> None:
    """List tasks, methods and suites, a line each; or the rows of a results folder, and which of them are stale."""
    known = ("tasks", "methods", "suites")
    if kind and kind not in (*known, "results"):
        raise W2SError(f"unknown kind '{kind}': expected one of {', '.join((*known, 'results'))}")
    if (results or plugin) and kind != "results":
        raise W2SError(f"--{'results' if results else 'plugin'}: only with `w2s list results`")
    if kind == "results":
        from benchmark.core.registry import load_plugin
        from benchmark.results.store import ResultStore
        from benchmark.running.stale import overview

        for path in plugin or ():
            load_plugin(path)
        for line in overview(ResultStore(results or Path("results/default"))):
            typer.echo(line)
        return
    from benchmark.cli.describe import overview as all_of

    for wanted in (kind,) if kind else known:
        if not kind:
            typer.echo(f"{wanted}:")
        rows, warnings = all_of(wanted)
        width = max((len(name) for name in rows), default=0)
        for name, text in rows.items():
            typer.echo(f"  {name:<{width}}  {text}")
        for line in warnings:
            typer.echo(line, err=True)


@app.command(epilog="Example: w2s describe --suite default")
@guarded
def describe(
    name: Annotated[str, Argument(help="a task, method, canary or suite, or the folder of a feature pack")] = "",
    suite: Annotated[str | None, Option(help="a suite's tasks, and what they are worth by its results")] = None,
    results: Annotated[
        Path | None, Option(help="of a method or suite: its results [default: results/default, results/<suite>]")
    ] = None,
    out: Annotated[Path | None, Option(help="with --suite: Markdown file to write")] = None,
    data_root: DataRoot = None,
) -> None:
    """Say what a task, method, suite or feature pack is, without running it, and what this machine lacks to run it.

    Of a method: its formula, options and family, and where it does well and badly by results that are there.

    With --suite: its tasks, and where there are results for each task floor, ceiling, reliability and share of pairs of
    methods told apart, and how many families of tasks there are in effect.
    """
    if bool(name) == bool(suite):
        raise W2SError("describe: expected a name, or --suite and the name of a suite")
    if out and not suite:
        raise W2SError("--out: only with --suite")
    prepare(data_root)
    from benchmark.cli.describe import describe_any, describe_suite

    if not suite:
        typer.echo(describe_any(name, results))
        return
    text = describe_suite(suite, results)
    if out is None:
        typer.echo(text)
        return
    write_output(out, f"{text}\n".encode())
    typer.echo(f"wrote {out}")


@app.command(epilog="Example: w2s leaderboard --results runs/default")
@guarded
def leaderboard(
    results: Results = Path("results/default"),
    check: Annotated[bool, Option("--check", help="write nothing; exit 1 on anything stale or wrong")] = False,
) -> None:
    """Write the tables of a results folder as Markdown, and print the headline.

    results/default gives LEADERBOARD.md beside the folder `results`; any other folder its own LEADERBOARD.md.
    A folder under runs/ is compared with the published one of the same name.
    """
    from benchmark.reports.publish import check_published, publish

    if check:
        from benchmark.running.stale import stale_findings  # with the versions of methods, and so with torch

        raise typer.Exit(check_published(results, typer.echo, stale_findings))
    publish(results, typer.echo)


@app.command(epilog="Example: w2s compare raven ensemble --condition ind")
@guarded
def compare(
    first: Annotated[str, Argument(help="a method, canary or reference row")],
    second: Annotated[str, Argument(help="another")],
    results: Results = Path("results/default"),
    condition: Annotated[str | None, Option(help="ind or ood [default: ood where there is some]")] = None,
) -> None:
    """Print the paired difference of two rows, per task, per modality and over all families, with p-values."""
    from benchmark.reports.comparison import compare_rows
    from benchmark.results.store import ResultStore

    typer.echo(compare_rows(ResultStore(results), first, second, condition))


@app.command(epilog="Example: w2s export --format csv --out results.csv")
@guarded
def export(
    format_: Annotated[str, Option("--format", help="csv, latex, json or parquet", metavar="FORMAT")],
    results: Results = Path("results/default"),
    out: Annotated[Path | None, Option(help="file to write; standard output when left out")] = None,
) -> None:
    """Give results to other programs: all records as csv, json or parquet, or the headline table as LaTeX.

    A row is a (task, condition, method, seed); `benchmark.load_results(DIR)` gives the same table in Python. What
    can't be used is named on standard error.
    """
    from benchmark.reports.export import export as give

    give(results, format_, out, typer.echo, lambda line: typer.echo(f"warning: {line}", err=True))


@app.command(epilog="Example: w2s page --results runs/default --out page")
@guarded
def page(
    results: Results = Path("results/default"),
    out: Annotated[Path, Option(help="folder for index.html")] = Path("page"),
) -> None:
    """Write a results folder, with the suites beside a published one, as one HTML file that opens from disk."""
    from benchmark.page.render import write_page

    typer.echo(f"wrote {write_page(results, out)}")
