"""What takes time: `run`, `pack`, `download`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from benchmark.cli import common
from benchmark.cli.common import app, guarded, names_in, prepare


@app.command(epilog="Example: w2s run --suite default --tasks 'sentiment-*' --methods 'raven*,ensemble' --seeds 2")
@guarded
def run(
    suite: common.Suite = "default",
    full: common.Full = False,
    tasks: Annotated[str | None, Option(help="globs, comma-separated; the suite's tasks when left out")] = None,
    methods: Annotated[str | None, Option(help="globs, comma-separated, of methods and canaries")] = None,
    conditions: Annotated[str | None, Option(help="ind, ood or ind,ood")] = None,
    seeds: common.Seeds = None,
    device: common.Device = "auto",
    results: Annotated[
        str | None, Option(help="results folder [default: runs/<suite>, with --tune runs/<suite>-tuned]")
    ] = None,
    cache: common.Cache = None,
    plugin: Annotated[list[Path] | None, Option(help="Python file with methods or tasks; repeatable")] = None,
    executor: Annotated[
        str | None, Option(help="local (this process), processes or ray [default: what fits the machine]")
    ] = None,
    workers: Annotated[int | None, Option(min=1, help="units at a time [default: one a core or GPU]")] = None,
    limit: Annotated[
        float | None, Option(min=1, help="seconds after which a unit that says nothing is stopped")
    ] = None,
    ray_address: Annotated[
        str | None, Option(help="of a Ray cluster to join [default: start one on this machine]")
    ] = None,
    memory: Annotated[
        float | None, Option(min=0.1, help="with --executor ray: GB that a unit keeps for itself [default: 2]")
    ] = None,
    arrays: Annotated[Path | None, Option(help="npz or safetensors file to run on instead of tasks")] = None,
    split_by_group: Annotated[bool, Option("--split-by-group", help="with --arrays: keep groups whole")] = False,
    pack: Annotated[str | None, Option(help="feature pack to run on: a folder or data-set id (w2s pack)")] = None,
    options: Annotated[
        list[str] | None,
        Option("--set", help="name=value: a model, a size, the student's recipe; or method.option=value; repeatable"),
    ] = None,
    tune: Annotated[
        bool, Option("--tune", help="train each method's grid of 8 settings, choose by agreement on validation")
    ] = False,
    replies: Annotated[int, Option(min=0, help="replies that each policy writes, for w2s judge")] = 0,
    data_root: common.DataRoot = None,
    download: common.Download = False,
    mirror: common.Mirror = None,
    dry_run: Annotated[bool, Option("--dry-run", help="print what would be run, and stop")] = False,
    force: Annotated[bool, Option("--force", help="run and replace also what is there")] = False,
    stale: Annotated[
        bool, Option("--stale", help="redo just records whose engine, task or method was raised, or method was edited")
    ] = False,
) -> None:
    """Run methods on tasks; what the results folder already holds is not run again.

    Methods are made on the suite development, and run once on the suite default.
    """
    prepare(data_root, mirror, download)
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
    task: common.Task,
    out: Annotated[Path, Option(help="folder to make")],
    conditions: Annotated[str | None, Option(help="ind, ood or ind,ood [default: ind,ood]")] = None,
    seeds: Annotated[int, Option(min=1, help="number of seeds, from 0")] = 5,
    device: common.Device = "auto",
    cache: common.Cache = None,
    plugin: Annotated[list[Path] | None, Option(help="Python file with tasks; repeatable")] = None,
    options: Annotated[
        list[str] | None, Option("--set", help="name=value: an option of the task, as its encoder; repeatable")
    ] = None,
    data_root: common.DataRoot = None,
    download: common.Download = False,
    mirror: common.Mirror = None,
) -> None:
    """Write features, soft labels, splits and truth of a task to a folder that runs without the data and the encoder.

    `w2s run --pack` runs on it, `w2s describe` prints its data sheet.
    """
    prepare(data_root, mirror, download)
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
    tasks: Annotated[str, Argument(help="globs, comma-separated")],
    data_root: common.DataRoot = None,
    mirror: common.Mirror = None,
) -> None:
    """Get large data sets into the data root, and models and data of a hub into its cache.

    A download that broke off goes on where it was. Says how large an archive is before it is downloaded, and at the
    end what is still missing. A mirror has each archive as <mirror>/<folder>.tar.gz.
    """
    prepare(data_root)
    from benchmark.running.session import download as get

    raise typer.Exit(get(names_in("tasks", tasks), mirror, typer.echo))
