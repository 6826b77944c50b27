"""What takes time: `run`, `pack`, `download`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.base.process import one_thread
from benchmark.cli.common import DATA_ROOT, DOWNLOAD, MIRROR, app, check_mirror, guarded, names_in, use_data_root


@app.command(epilog="Example: w2s run --suite default --tasks 'sentiment-*' --methods 'raven*,ensemble' --seeds 2")
@guarded
def run(
    suite: Annotated[str, typer.Option(help="name of a suite (w2s list suites)")] = "default",
    full: Annotated[bool, typer.Option("--full", help="the suite's larger grid, for a GPU")] = False,
    tasks: Annotated[str | None, typer.Option(help="globs, comma-separated; the suite's tasks when left out")] = None,
    methods: Annotated[str | None, typer.Option(help="globs, comma-separated, of methods and canaries")] = None,
    conditions: Annotated[str | None, typer.Option(help="ind, ood or both, comma-separated")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="number of seeds, from 0")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    results: Annotated[
        str | None,
        typer.Option(help="results folder [default: runs/<suite>, with --tune runs/<suite>-tuned]"),
    ] = None,
    cache: Annotated[str | None, typer.Option(help="folder or address for features and soft labels")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="Python file with methods or tasks; repeatable")] = None,
    executor: Annotated[
        str | None, typer.Option(help="local (this process), processes or ray [default: what fits the machine]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="units at a time [default: one a core or GPU]")] = None,
    limit: Annotated[
        float | None, typer.Option(min=1, help="seconds after which a unit that says nothing is stopped")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="of a Ray cluster to join [default: start one on this machine]")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.1, help="with --executor ray: GB that a unit keeps for itself [default: 2]")
    ] = None,
    arrays: Annotated[Path | None, typer.Option(help="npz or safetensors file to run on instead of tasks")] = None,
    split_by_group: Annotated[bool, typer.Option("--split-by-group", help="with --arrays: keep groups whole")] = False,
    pack: Annotated[str | None, typer.Option(help="feature pack to run on: a folder or data-set id (w2s pack)")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="name=value: a model, a size, the student's recipe; or method.option=value; repeatable"
        ),
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="train each method's grid of 8 settings, choose by agreement on validation")
    ] = False,
    replies: Annotated[int, typer.Option(min=0, help="replies that each policy writes, for w2s judge")] = 0,
    data_root: Annotated[Path | None, DATA_ROOT] = None,
    download: Annotated[bool, DOWNLOAD] = False,
    mirror: Annotated[str | None, MIRROR] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be run, and stop")] = False,
    force: Annotated[bool, typer.Option("--force", help="run and replace also what is there")] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="redo just the records whose engine, task or method was raised since")
    ] = False,
) -> None:
    """Run methods on tasks; what the results folder already holds is not run again."""
    one_thread()
    use_data_root(data_root)
    check_mirror(mirror, download)
    from benchmark.cli.sources import source_of
    from benchmark.running.request import Request
    from benchmark.running.runner import Workforce
    from benchmark.running.session import foresee, start

    workforce = Workforce(executor, workers, limit, ray_address, memory)
    request = Request(
        suite=suite,
        full=full,
        tasks=names_in("--tasks", tasks),
        methods=names_in("--methods", methods),
        conditions=names_in("--conditions", conditions),
        seeds=seeds,
        device=device,
        here=ray_address is None,
        results=results,
        cache=cache,
        plugins=tuple(plugin or ()),
        source=source_of(arrays, split_by_group, pack, download and not dry_run),
        options=options or (),
        tune=tune,
        replies=replies,
        download=download,
        mirror=mirror,
        force=force,
        stale=stale,
        fetch=not dry_run,
    )
    raise typer.Exit(foresee(request, typer.echo) if dry_run else start(request, typer.echo, workforce))


@app.command(epilog="Example: w2s pack digits-to-uci --seeds 5 --out packs/uci")
@guarded
def pack(
    task: Annotated[str, typer.Argument(help="name of a task")],
    out: Annotated[Path, typer.Option(help="folder to write; made anew")],
    conditions: Annotated[str | None, typer.Option(help="ind, ood or both, comma-separated [default: both]")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="number of seeds, from 0")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[str | None, typer.Option(help="folder or address for features and soft labels")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="Python file with tasks; repeatable")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: an option of the task, as its encoder; repeatable")
    ] = None,
    data_root: Annotated[Path | None, DATA_ROOT] = None,
    download: Annotated[bool, DOWNLOAD] = False,
    mirror: Annotated[str | None, MIRROR] = None,
) -> None:
    """Write features, soft labels, splits and truth of a task to a folder that runs without the data and the encoder.

    `w2s run --pack` runs on it, `w2s describe` prints its data sheet.
    """
    one_thread()
    use_data_root(data_root)
    check_mirror(mirror, download)
    from benchmark.core.names import CANARIES
    from benchmark.packs.write import pack_task
    from benchmark.running.request import Request

    request = Request(
        suite="default",
        tasks=[task],
        methods=tuple(CANARIES),  # a pack is of problems, whatever the methods
        conditions=names_in("--conditions", conditions),
        seeds=seeds,
        device=device,
        cache=cache,
        plugins=tuple(plugin or ()),
        options=options or (),
        download=download,
        mirror=mirror,
    )
    pack_task(request, out, typer.echo)


@app.command(epilog="Example: w2s download camelyon17 --data-root /data/wilds")
@guarded
def download(
    tasks: Annotated[str, typer.Argument(help="globs, comma-separated")],
    data_root: Annotated[Path | None, DATA_ROOT] = None,
    mirror: Annotated[str | None, MIRROR] = None,
) -> None:
    """Get large data sets into the data root, and models and data of a hub into its cache.

    A download that broke off goes on where it was. Says how large an archive is before it is downloaded, and at the
    end what is still missing. A mirror has each archive as <mirror>/<folder>.tar.gz.
    """
    use_data_root(data_root)
    from benchmark.running.session import download as get

    raise typer.Exit(get(names_in("tasks", tasks), mirror, typer.echo))
