"""Methods of others: `submit`, `validate`, `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.base.process import one_thread
from benchmark.cli.common import DATA_ROOT, DOWNLOAD, MIRROR, app, check_mirror, guarded, use_data_root


@app.command(epilog="Example: w2s submit my_method.py --suite default")
@guarded
def submit(
    file: Annotated[Path, typer.Argument(help="Python file with the method")],
    suite: Annotated[str, typer.Option(help="name of a suite (w2s list suites)")] = "default",
    full: Annotated[bool, typer.Option("--full", help="the suite's larger grid, for a GPU")] = False,
    method: Annotated[str | None, typer.Option(help="which one, if the file has several")] = None,
    out: Annotated[Path | None, typer.Option(help="where its folder goes [default: submissions/<suite>]")] = None,
    results: Annotated[Path | None, typer.Option(help="what is published [default: results/<suite>]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[str | None, typer.Option(help="folder or address for features and soft labels")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: where a task's data are; repeatable")
    ] = None,
    data_root: Annotated[Path | None, DATA_ROOT] = None,
    download: Annotated[bool, DOWNLOAD] = False,
    mirror: Annotated[str | None, MIRROR] = None,
) -> None:
    """Run a method of your own on a suite and write the folder that you submit.

    What is done is kept in runs/submissions, so the same command goes on where it was stopped.
    """
    one_thread()
    use_data_root(data_root)
    check_mirror(mirror, download)
    from benchmark.running.request import Request
    from benchmark.submissions.submit import submit as run_and_write

    request = Request(
        suite=suite,
        full=full,
        device=device,
        cache=cache,
        plugins=(file,),
        options=options or (),
        download=download,
        mirror=mirror,
    )
    raise typer.Exit(run_and_write(request, method, out, results, typer.echo))


@app.command(epilog="Example: w2s validate submissions/default/my_method")
@guarded
def validate(
    path: Annotated[Path, typer.Argument(help="folder of a submission, or of a published method")],
    suite: Annotated[
        str | None, typer.Option(help="a suite, as its results' folder is named [default: its manifest's]")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="what is published [default: results/<suite>]")] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="make the problems from the data again, to check the published truth too")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="with --rebuild: folder for features and soft labels")] = None,
) -> None:
    """Re-score a submission and check all that can be checked without running its method; a line for each finding.

    The method's source is never imported. Exit status 0, 1 if anything is wrong, 2 if PATH is no submission.
    """
    one_thread()
    from benchmark.submissions.validate import validate as check

    raise typer.Exit(check(path, suite, results, rebuild, cache, typer.echo))


@app.command(epilog="Example: w2s verify raven digits-to-mnist --condition ood --seed 0")
@guarded
def verify(
    method: Annotated[str, typer.Argument(help="name of a published method")],
    task: Annotated[str, typer.Argument(help="name of a task")],
    condition: Annotated[str, typer.Option(help="ind or ood")] = "ood",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Annotated[Path, typer.Option(help="what is published")] = Path("results/default"),
    suite: Annotated[str | None, typer.Option(help="[default: the one that the results are named after]")] = None,
    plugin: Annotated[Path | None, typer.Option(help="source of a submitted method; it is never run unasked")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[str | None, typer.Option(help="folder or address for features and soft labels")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: where a task's data are; repeatable")
    ] = None,
    data_root: Annotated[Path | None, DATA_ROOT] = None,
) -> None:
    """Run one published cell again and compare its predictions; results are left alone.

    Exit status 0 if they are equal, or differ by no more than another machine's arithmetic explains; else 1.
    """
    one_thread()
    use_data_root(data_root)
    from benchmark.running.request import Request
    from benchmark.submissions.verify import verify as run_again

    request = Request(
        suite=suite or "",
        tasks=[task],
        methods=[method],
        conditions=[condition],
        device=device,
        cache=cache,
        plugins=() if plugin is None else (plugin,),
        options=options or (),
    )
    raise typer.Exit(run_again(request, results, seed, typer.echo))
