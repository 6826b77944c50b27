"""`judge`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from benchmark.cli.common import app, guarded, names_in


@app.command(epilog="Example: w2s judge runs/paper --endpoint http://localhost:8000/v1 --model NAME --dry-run")
@guarded
def judge(
    results: Annotated[Path, Argument(help="results folder with replies (w2s run --replies)")],
    endpoint: Annotated[str, Option(help="base address of an OpenAI-compatible server, e.g. https://HOST/v1")],
    model: Annotated[str, Option(help="the judge, as the server names it")],
    tasks: Annotated[str | None, Option(help="globs, comma-separated; all with replies when left out")] = None,
    methods: Annotated[str | None, Option(help="globs, comma-separated; all with replies when left out")] = None,
    limit: Annotated[int | None, Option(min=1, help="prompts of each task, condition and seed")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="print calls, tokens and cost, and ask nothing")] = False,
    price_in: Annotated[float | None, Option(min=0, help="of a million tokens asked")] = None,
    price_out: Annotated[float | None, Option(min=0, help="of a million tokens answered")] = None,
    key_variable: Annotated[str, Option(help="environment variable with the key; may be unset")] = "OPENAI_API_KEY",
    parallel: Annotated[int, Option(min=1, max=64, help="questions at a time")] = 4,
    timeout: Annotated[float, Option(min=0.1, help="seconds to wait for an answer")] = 60.0,
) -> None:
    """Let a language model compare students' replies with the data set's chosen responses.

    Every reply is asked about in both orders. What has been judged is not asked again.
    """
    from benchmark.judging.client import Client
    from benchmark.judging.judge import judge as ask

    client, prices = Client(endpoint, model, key_variable, timeout), (price_in, price_out)
    chosen = names_in("--tasks", tasks), names_in("--methods", methods)
    raise typer.Exit(ask(results, client, typer.echo, *chosen, limit, prices, parallel, dry_run))
