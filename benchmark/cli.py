"""The command `w2s`: thin, one function per subcommand."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from benchmark.errors import W2SError
from benchmark.threads import one_thread

F = TypeVar("F", bound=Callable[..., Any])

app = typer.Typer(
    name="w2s",
    help="Benchmark of weak-to-strong generalization under distribution shift.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _guarded(function: F) -> F:
    """Bad input is one line on standard error and exit status 2, without a traceback."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except W2SError as error:
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None

    return wrapper  # type: ignore[return-value]


_DATA_ROOT = typer.Option("--data-root", help="folder of large data sets [default: W2S_DATA]", metavar="DIR")
_MIRROR = typer.Option("--mirror", help="base address of a copy of large data sets", metavar="URL")
_DOWNLOAD = typer.Option("--download", help="fetch data sets and models that are missing")


@app.command("list", epilog="Example: w2s list methods")
@_guarded
def list_(
    kind: Annotated[
        str, typer.Argument(help="tasks, methods or suites, all three when left out; or results: what a folder holds")
    ] = "",
    results: Annotated[Path | None, typer.Option(help="with results: the folder [default: results/default]")] = None,
) -> None:
    """List tasks, methods and suites, a line each; or the rows of a results folder, and which of them are stale."""
    from benchmark import suite
    from benchmark.registry import CANARIES, METHODS, TASKS

    known = ("tasks", "methods", "suites")
    if kind and kind not in (*known, "results"):
        raise W2SError(f"unknown kind '{kind}': expected one of {', '.join((*known, 'results'))}")
    if results and kind != "results":
        raise W2SError("--results: only with `w2s list results`")
    if kind == "results":
        from benchmark.results import ResultStore
        from benchmark.stale import overview

        for line in overview(ResultStore(results or Path("results/default"))):
            typer.echo(line)
        return
    for wanted in (kind,) if kind else known:
        if not kind:
            typer.echo(f"{wanted}:")
        rows: list[tuple[str, str]] = []
        if wanted == "tasks":
            rows = [(task.name, f"{task.card.modality}: {task.card.shift}") for task in TASKS]
        elif wanted == "methods":
            rows = [(method.name, f"{method.kind}: {method.title} ({method.citation})") for method in METHODS]
            rows += [(name, f"canary: {what}") for name, what in CANARIES.items()]
        else:
            rows = [(name, suite.load_suite(name).description) for name in suite.suite_names()]
        width = max((len(name) for name, _ in rows), default=0)
        for name, text in rows:
            typer.echo(f"  {name:<{width}}  {text}")
    for registry in (METHODS, TASKS):
        for line in registry.warnings():
            typer.echo(line, err=True)


@app.command(epilog="Example: w2s describe sentiment-to-tweets")
@_guarded
def describe(
    name: Annotated[str, typer.Argument(help="a task, method, canary or suite, or the folder of a feature pack")],
    data_root: Annotated[Path | None, _DATA_ROOT] = None,
) -> None:
    """Say what a task, method, suite or feature pack is, without running it, and what this machine lacks to run it."""
    _use_data_root(data_root)
    from benchmark.describe import describe_any

    typer.echo(describe_any(name))


@app.command(epilog="Example: w2s run --suite default --tasks 'sentiment-*' --methods 'raven*,ensemble' --seeds 2")
@_guarded
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
        typer.Option(help="results folder, or an address [default: runs/<suite>, with --tune runs/<suite>-tuned]"),
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
    arrays: Annotated[Path | None, typer.Option(help="npz or safetensors file to run on instead of tasks")] = None,
    split_by_group: Annotated[bool, typer.Option("--split-by-group", help="with --arrays: keep groups whole")] = False,
    pack: Annotated[str | None, typer.Option(help="feature pack to run on: a folder or data-set id (w2s pack)")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: a model, a size, the student's recipe; repeatable")
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="train each method's grid of 8 settings, choose by agreement on validation")
    ] = False,
    replies: Annotated[int, typer.Option(min=0, help="replies that each policy writes, for w2s judge")] = 0,
    data_root: Annotated[Path | None, _DATA_ROOT] = None,
    download: Annotated[bool, _DOWNLOAD] = False,
    mirror: Annotated[str | None, _MIRROR] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be run, and stop")] = False,
    force: Annotated[bool, typer.Option("--force", help="run and replace also what is there")] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="redo just the records whose engine, task or method was raised since")
    ] = False,
) -> None:
    """Run methods on tasks; what the results folder already holds is not run again."""
    one_thread()
    _use_data_root(data_root)
    _check_mirror(mirror, download)
    from benchmark.runner import Workforce
    from benchmark.session import Request, start

    request = Request(
        suite=suite,
        full=full,
        tasks=_names("--tasks", tasks),
        methods=_names("--methods", methods),
        conditions=_names("--conditions", conditions),
        seeds=seeds,
        device=device,
        results=results,
        cache=cache,
        plugins=tuple(plugin or ()),
        arrays=arrays,
        split_by_group=split_by_group,
        pack=pack,
        options=options or [],
        tune=tune,
        replies=replies,
        download=download,
        mirror=mirror,
        force=force,
        stale=stale,
        workforce=Workforce(executor, workers, limit, ray_address),
    )
    raise typer.Exit(start(request, dry_run=dry_run, say=typer.echo))


@app.command(epilog="Example: w2s pack digits-to-uci --seeds 5 --out packs/uci")
@_guarded
def pack(
    task: Annotated[str, typer.Argument(help="name of a task")],
    out: Annotated[Path, typer.Option(help="folder to write; made anew")],
    conditions: Annotated[str | None, typer.Option(help="ind, ood or both, comma-separated [default: both]")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="number of seeds, from 0")] = 5,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="folder for features and soft labels")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="Python file with tasks; repeatable")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: an option of the task, as its encoder; repeatable")
    ] = None,
    data_root: Annotated[Path | None, _DATA_ROOT] = None,
    download: Annotated[bool, _DOWNLOAD] = False,
    mirror: Annotated[str | None, _MIRROR] = None,
) -> None:
    """Write features, soft labels, splits and truth of a task to a folder that runs without the data and the encoder.

    `w2s run --pack` runs on it, `w2s describe` prints its data sheet.
    """
    one_thread()
    _use_data_root(data_root)
    _check_mirror(mirror, download)
    from benchmark.packs.write import pack_task

    pack_task(
        task,
        _names("--conditions", conditions),
        seeds,
        out,
        device=device,
        cache=cache,
        plugins=plugin or (),
        options=options or (),
        fetch=download,
        mirror=mirror,
        say=typer.echo,
    )


@app.command(epilog="Example: w2s download camelyon17 --data-root /data/wilds")
@_guarded
def download(
    tasks: Annotated[str, typer.Argument(help="globs, comma-separated")],
    data_root: Annotated[Path | None, _DATA_ROOT] = None,
    mirror: Annotated[str | None, _MIRROR] = None,
) -> None:
    """Get large data sets into the data root, and models and data of a hub into its cache.

    A download that broke off goes on where it was. Says how large an archive is before it is downloaded, and at the
    end what is still missing. A mirror has each archive as <mirror>/<folder>.tar.gz.
    """
    _use_data_root(data_root)
    from benchmark.session import download as get

    raise typer.Exit(get(_names("tasks", tasks), mirror, typer.echo))


@app.command(epilog="Example: w2s leaderboard --results runs/default")
@_guarded
def leaderboard(
    results: Annotated[Path, typer.Option(help="results folder")] = Path("results/default"),
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit 1 on anything stale or wrong")] = False,
) -> None:
    """Write the tables of a results folder as Markdown, and print the headline.

    results/default gives LEADERBOARD.md beside the folder `results`; any other folder its own LEADERBOARD.md.
    A folder under runs/ is compared with the published one of the same name.
    """
    from benchmark.publish import publish

    raise typer.Exit(publish(results, check=check, say=typer.echo))


@app.command(epilog="Example: w2s compare raven ensemble --condition ind")
@_guarded
def compare(
    first: Annotated[str, typer.Argument(help="a method, canary or reference row")],
    second: Annotated[str, typer.Argument(help="another")],
    results: Annotated[Path, typer.Option(help="results folder")] = Path("results/default"),
    condition: Annotated[str | None, typer.Option(help="ind or ood [default: ood where there is some]")] = None,
) -> None:
    """Print the paired difference of two rows, per task, per modality and over all tasks, with p-values."""
    from benchmark.comparison import compare_rows
    from benchmark.results import ResultStore

    typer.echo(compare_rows(ResultStore(results), first, second, condition))


@app.command(epilog="Example: w2s export --format csv --out results.csv")
@_guarded
def export(
    format_: Annotated[str, typer.Option("--format", help="csv, latex, json or parquet", metavar="FORMAT")],
    results: Annotated[Path, typer.Option(help="results folder")] = Path("results/default"),
    out: Annotated[Path | None, typer.Option(help="file to write; standard output when left out")] = None,
) -> None:
    """Give results to other programs: all records as csv, json or parquet, or the headline table as LaTeX.

    A row is a (task, condition, method, seed); `benchmark.load_results(DIR)` gives the same table in Python. What
    can't be used is named on standard error.
    """
    from benchmark.export import export as give

    give(results, format_, out, typer.echo, lambda line: typer.echo(f"warning: {line}", err=True))


@app.command(epilog="Example: w2s submit my_method.py --suite default")
@_guarded
def submit(
    file: Annotated[Path, typer.Argument(help="Python file with the method")],
    suite: Annotated[str, typer.Option(help="name of a suite (w2s list suites)")] = "default",
    full: Annotated[bool, typer.Option("--full", help="the suite's larger grid, for a GPU")] = False,
    method: Annotated[str | None, typer.Option(help="which one, if the file has several")] = None,
    out: Annotated[Path | None, typer.Option(help="where its folder goes [default: submissions/<suite>]")] = None,
    results: Annotated[Path | None, typer.Option(help="what is published [default: results/<suite>]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="folder for features and soft labels")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: where a task's data are; repeatable")
    ] = None,
    data_root: Annotated[Path | None, _DATA_ROOT] = None,
    download: Annotated[bool, _DOWNLOAD] = False,
    mirror: Annotated[str | None, _MIRROR] = None,
) -> None:
    """Run a method of your own on a suite and write the folder that you submit.

    What is done is kept in runs/submissions, so the same command goes on where it was stopped.
    """
    one_thread()
    _use_data_root(data_root)
    _check_mirror(mirror, download)
    from benchmark.submissions.submit import SubmitRequest
    from benchmark.submissions.submit import submit as run_and_write

    request = SubmitRequest(
        file=file,
        suite=suite,
        full=full,
        method=method,
        out=out,
        published=results,
        device=device,
        cache=cache,
        options=options or [],
        download=download,
        mirror=mirror,
    )
    raise typer.Exit(run_and_write(request, say=typer.echo))


@app.command(epilog="Example: w2s validate submissions/default/my_method")
@_guarded
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
@_guarded
def verify(
    method: Annotated[str, typer.Argument(help="name of a published method")],
    task: Annotated[str, typer.Argument(help="name of a task")],
    condition: Annotated[str, typer.Option(help="ind or ood")] = "ood",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    results: Annotated[Path, typer.Option(help="what is published")] = Path("results/default"),
    suite: Annotated[str | None, typer.Option(help="[default: the one that the results are named after]")] = None,
    plugin: Annotated[Path | None, typer.Option(help="source of a submitted method; it is never run unasked")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="folder for features and soft labels")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="name=value: where a task's data are; repeatable")
    ] = None,
    data_root: Annotated[Path | None, _DATA_ROOT] = None,
) -> None:
    """Run one published cell again and compare its predictions; results are left alone.

    Exit status 0 if they are equal, or differ by no more than another machine's arithmetic explains; else 1.
    """
    one_thread()
    _use_data_root(data_root)
    from benchmark.submissions.verify import VerifyRequest
    from benchmark.submissions.verify import verify as run_again

    request = VerifyRequest(
        method=method,
        task=task,
        condition=condition,
        seed=seed,
        results=results,
        suite=suite,
        plugin=plugin,
        device=device,
        cache=cache,
        options=options or [],
    )
    raise typer.Exit(run_again(request, say=typer.echo))


@app.command(epilog="Example: w2s page --results runs/default --out page")
@_guarded
def page(
    results: Annotated[Path, typer.Option(help="results folder")] = Path("results/default"),
    out: Annotated[Path, typer.Option(help="folder for index.html")] = Path("page"),
) -> None:
    """Write a results folder, with the suites beside a published one, as one HTML file that opens from disk."""
    from benchmark.page.render import write_page

    typer.echo(f"wrote {write_page(results, out)}")


@app.command(epilog="Example: w2s judge runs/paper --endpoint http://localhost:8000/v1 --model NAME --dry-run")
@_guarded
def judge(
    results: Annotated[Path, typer.Argument(help="results folder with replies (w2s run --replies)")],
    endpoint: Annotated[str, typer.Option(help="base address of an OpenAI-compatible server, e.g. https://HOST/v1")],
    model: Annotated[str, typer.Option(help="the judge, as the server names it")],
    tasks: Annotated[str | None, typer.Option(help="globs, comma-separated; all with replies when left out")] = None,
    methods: Annotated[str | None, typer.Option(help="globs, comma-separated; all with replies when left out")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="prompts of each task, condition and seed")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print calls, tokens and cost, and ask nothing")] = False,
    price_in: Annotated[float | None, typer.Option(min=0, help="of a million tokens asked")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="of a million tokens answered")] = None,
    key_variable: Annotated[str, typer.Option(help="environment variable with the key; may be unset")] = (
        "OPENAI_API_KEY"
    ),
    parallel: Annotated[int, typer.Option(min=1, max=64, help="questions at a time")] = 4,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds to wait for an answer")] = 60.0,
) -> None:
    """Let a language model compare students' replies with the data set's chosen responses.

    Every reply is asked about in both orders. What has been judged is not asked again.
    """
    from benchmark.judging.judge import JudgeRequest
    from benchmark.judging.judge import judge as ask

    request = JudgeRequest(
        results=results,
        endpoint=endpoint,
        model=model,
        tasks=_names("--tasks", tasks),
        methods=_names("--methods", methods),
        limit=limit,
        price_in=price_in,
        price_out=price_out,
        key_variable=key_variable,
        parallel=parallel,
        timeout=timeout,
    )
    raise typer.Exit(ask(request, dry_run=dry_run, say=typer.echo))


@app.command(epilog="Example: w2s new method my_method")
@_guarded
def new(
    kind: Annotated[str, typer.Argument(help="method or task")],
    name: Annotated[str, typer.Argument(help="snake_case for a method, kebab-case for a task")],
    out: Annotated[Path | None, typer.Option(help="folder [default: the plug-in folder of a checkout, else .]")] = None,
) -> None:
    """Write a commented skeleton that already passes the contract tests."""
    from benchmark.skeletons import write_skeleton

    path = write_skeleton(kind, name, out)
    flag = "" if path.parent.name in ("methods", "tasks") else f" --plugin {path}"
    typer.echo(f"wrote {path}; run it with: w2s run{flag} --{kind}s {name}")


cache_app = typer.Typer(
    help="The store of features and soft labels.", no_args_is_help=True, epilog="Example: w2s cache info"
)
app.add_typer(cache_app, name="cache")


@cache_app.command(epilog="Example: w2s cache info")
@_guarded
def info(cache: Annotated[Path | None, typer.Option(help="the cache's folder")] = None) -> None:
    """Say where the cache is and what it holds."""
    from benchmark.cache import Cache

    store = Cache(cache)
    typer.echo(store.root)
    for kind, (files, size) in store.info().items():
        typer.echo(f"  {kind:<12} {files:>6} files {size / 2**20:>9.1f} MiB")


@cache_app.command(epilog="Example: w2s cache clear --cache /tmp/w2s-cache")
@_guarded
def clear(cache: Annotated[Path | None, typer.Option(help="the cache's folder")] = None) -> None:
    """Delete the cache; everything in it can be made again."""
    from benchmark.cache import Cache

    store = Cache(cache)
    typer.echo(f"freed {store.clear() / 2**20:.1f} MiB of {store.root}")


def _use_data_root(folder: Path | None) -> None:
    """Through the environment, so that worker processes know it too."""
    if folder is not None:
        os.environ["W2S_DATA"] = str(folder.absolute())


def _check_mirror(mirror: str | None, download: bool) -> None:
    if mirror and not download:
        raise W2SError("--mirror: only with --download")


def _names(option: str, text: str | None) -> list[str]:
    """The names in a comma-separated option; none when it was left out."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if text is not None and not names:
        raise W2SError(f"{option}: expected names, found nothing")
    return names


def main() -> None:
    """Entry point of `w2s`. SIGTERM ends a command like SIGINT does."""

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
