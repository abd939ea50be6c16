"""The commands ``up``, ``run`` and ``health``: a whole stack, or one of its processes, as a container runs it."""

from pathlib import Path

import click

from producers.display.terminal import (
    say,
)
from shared.settings import read_settings

service_argument = click.argument("service", type=click.Choice(["worker", "control", "beat", "flower"]))


@click.command()
@service_argument
def run(service: str) -> None:
    """Run one process of the stack in the foreground, as a container does.

    `worker` scores and trains, `control` plans, finishes, sweeps and sends notices, `beat` runs the schedule, `flower` is the dashboard.
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
    message when it has a free process; beat must send its sweep; Flower must serve its page. Use it as the health check of a container.

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
def up(ready_file: Path | None, stop_seconds: float) -> int:
    """Start everything on this machine: server, workers, beat and Flower.

    The server is an embedded Valkey unless REDIS_URL is set. Ctrl-C stops all of it and waits for work in hand.

    \b
    Example:
        scoring up
    """
    from producers.stack.launcher import Options, run_stack

    return run_stack(read_settings(), Options(ready_file=ready_file, stop_seconds=stop_seconds))
