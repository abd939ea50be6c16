"""The commands ``up``, ``run`` and ``health``: a whole stack, or one of its processes, as a container runs it."""

from pathlib import Path

import click

from producers.display.terminal import (
    say,
)
from shared.settings import read_settings

service_argument = click.argument("service", type=click.Choice(["worker", "control", "beat", "flower", "serve"]))


@click.command()
@service_argument
def run(service: str) -> None:
    """Run one process of the stack in the foreground, as a container does.

    `worker` scores and trains, `control` plans, finishes, sweeps and sends notices, `beat` runs the schedule, `flower` is the dashboard,
    `serve` answers over HTTP.
    Run one beat, and any number of the others. A worker stops within 30 s of SIGTERM and hands back unfinished work, so allow it 45 s.
    On a machine without containers `scoring up` starts all of them.

    \b
    Example, with REDIS_URL and BUCKET_URL set to what all of them share:
        scoring run worker
    """
    from producers.stack.services import run

    run(service, read_settings())


@click.command()
@service_argument
def health(service: str) -> int:
    """Check whether a process of the stack is healthy.

    Checks a process on this machine, and ends with exit code 1 if it is unhealthy. A worker must answer through Redis and take a waiting
    message when it has a free process; beat must send its sweep; Flower and the HTTP server must answer.
    Use it as the health check of a container.

    \b
    Example:
        scoring health worker
    """
    from producers.stack.health import find_problem

    problem = find_problem(service, read_settings())
    say(problem or "healthy", err=problem is not None)
    return 1 if problem else 0


@click.command()
@click.option("--ready-file", type=click.Path(path_type=Path), help="Write a JSON file with the addresses once everything is up.")
@click.option("--stop-seconds", default=60.0, show_default=True, help="How long to wait for work in hand when stopping.")
@click.option("--serve", "with_http", is_flag=True, help="Also answer rates over HTTP, as `scoring serve` does.")
def up(ready_file: Path | None, stop_seconds: float, with_http: bool) -> int:
    """Start everything on this machine: server, workers, beat and Flower.

    The server is an embedded Valkey unless REDIS_URL is set. Ctrl-C stops all of it and waits for work in hand.

    \b
    Example:
        scoring up
        scoring up --serve
    """
    from producers.stack.launcher import Options, run_stack

    return run_stack(read_settings(), Options(ready_file=ready_file, stop_seconds=stop_seconds, with_http=with_http))


@click.command()
@click.option("--model", help="Alias, release or definition that computes rates.  [default: SCORING_SERVE_MODEL, else champion]")
@click.option("--channel", help="Channel whose published rates are answered.  [default: SCORING_SERVE_CHANNEL, else live]")
@click.option("--host", help="Address to listen on; any but a loopback one needs tokens.  [default: SCORING_SERVE_HOST, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: SCORING_SERVE_PORT, else 8080]")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes.  [default: SCORING_SERVE_WORKERS, else 1]")
@click.option("--max-rows", type=click.IntRange(1, 100_000), help="Rows of one request.  [default: SCORING_SERVE_MAX_ROWS, else 1000]")
@click.option("--max-age", help="Age from which a published rate is OUTSIDE_MAX_AGE.  [default: SCORING_SERVE_MAX_AGE, else 36h]")
@click.option(
    "--limit-concurrency",
    type=click.IntRange(1, 100_000),
    help="Requests at once in a process.  [default: SCORING_SERVE_CONCURRENCY, else 200]",
)
def serve(
    model: str | None,
    channel: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    max_rows: int | None,
    max_age: str | None,
    limit_concurrency: int | None,
) -> None:
    """Answer single rates over HTTP, in the foreground.

    A published rate comes from the result that the channel shows; that of another keyword is computed if the request brings its
    columns. Both have the digits of a score job. A promoted release and a new result are taken over while requests are answered.

    \b
    Example, and a request from another terminal:
        scoring serve --model champion --channel live
        curl localhost:8080/v1/rates/20458/Smartphone
    """
    from producers.stack.services import SERVE, run

    given = {
        "MODEL": model,
        "CHANNEL": channel,
        "HOST": host,
        "PORT": port,
        "WORKERS": workers,
        "MAX_ROWS": max_rows,
        "MAX_AGE": max_age,
        "CONCURRENCY": limit_concurrency,
    }
    options = {f"SCORING_SERVE_{name}": str(value) for name, value in given.items() if value is not None}
    run(SERVE, read_settings(options), options)
