"""Methods of others: `submit`, `validate`, `verify`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from benchmark.base.process import one_thread
from benchmark.cli import common
from benchmark.cli.common import app, guarded, prepare


@app.command(epilog="Example: w2s submit my_method.py --suite default")
@guarded
def submit(
    file: Annotated[Path, Argument(help="Python file with the method")],
    suite: common.Suite = "default",
    full: common.Full = False,
    method: Annotated[str | None, Option(help="which one, if the file has several")] = None,
    developed_on: Annotated[
        str | None, Option(help="what the method was made and tuned on, e.g. 'suite development'", metavar="TEXT")
    ] = None,
    out: Annotated[Path | None, Option(help="where its folder goes [default: submissions/<suite>]")] = None,
    results: common.Published = None,
    device: common.Device = "auto",
    cache: common.Cache = None,
    options: common.DataPlaces = None,
    data_root: common.DataRoot = None,
    download: common.Download = False,
    mirror: common.Mirror = None,
) -> None:
    """Run a method of your own on a suite and write the folder that you submit.

    What is done is kept in runs/submissions, so the same command goes on where it was stopped.
    """
    prepare(data_root, mirror, download)
    from benchmark.running.request import Request
    from benchmark.submissions.submit import submit as run_and_write

    request = Request(
        suite,
        full,
        device=device,
        cache=cache,
        plugins=(file,),
        options=options or (),
        download=download,
        mirror=mirror,
    )
    raise typer.Exit(run_and_write(request, method, out, results, typer.echo, developed_on))


@app.command(epilog="Example: w2s validate submissions/default/my_method")
@guarded
def validate(
    path: Annotated[Path, Argument(help="folder of a submission, or of a published method")],
    suite: Annotated[
        str | None, Option(help="a suite, as its results' folder is named [default: its manifest's]")
    ] = None,
    results: common.Published = None,
    rebuild: Annotated[
        bool, Option("--rebuild", help="make the problems from the data again, to check the published truth too")
    ] = False,
    cache: Annotated[Path | None, Option(help="with --rebuild: folder for features and soft labels")] = None,
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
    method: Annotated[str, Argument(help="name of a published method")],
    task: common.Task,
    condition: Annotated[str, Option(help="ind or ood")] = "ood",
    seed: Annotated[int, Option(min=0)] = 0,
    results: Annotated[Path, Option(help="what is published")] = Path("results/default"),
    suite: Annotated[str | None, Option(help="[default: the one that the results are named after]")] = None,
    plugin: Annotated[Path | None, Option(help="source of a submitted method; it is never run unasked")] = None,
    device: common.Device = "auto",
    cache: common.Cache = None,
    options: common.DataPlaces = None,
    data_root: common.DataRoot = None,
) -> None:
    """Run one published cell again and compare its predictions; results are left alone.

    Exit status 0 if they are equal, or differ by no more than another machine's arithmetic explains; else 1.
    """
    prepare(data_root)
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
