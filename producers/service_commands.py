"""``scoring run`` and ``scoring health``: one process of the stack by itself, as a container runs it."""

import click

from producers.display.terminal import say
from shared.settings import read_settings

service_argument = click.argument("service", type=click.Choice(["worker", "control", "beat", "flower"]))


@click.command()
@service_argument
def run(service: str) -> None:
    """Run one process of the stack in the foreground, as a container does.

    `worker` scores and trains, `control` plans, finishes, sweeps and tells people, `beat` keeps the schedule, `flower` is the dashboard.
    One beat, and as many of the others as you like. A worker stops on SIGTERM within 30 s and hands back what it has not finished,
    so give it 45 s. On a machine without containers `scoring up` starts all of them.

    \b
    Example, with REDIS_URL and BUCKET_URL set to what all of them share:
        scoring run worker
    """
    from producers.services import run

    run(service, read_settings())


@click.command()
@service_argument
def health(service: str) -> int:
    """Say whether a process of the stack does its work.

    It looks at one on this machine, and ends with exit code 1 when it does not. A worker must answer through Redis and leave no message
    lying that it has a process for, beat must send its sweep, Flower serve its page. Made for the health check of a container.

    \b
    Example:
        scoring health worker
    """
    from producers.health import find_illness

    illness = find_illness(service, read_settings())
    say(illness or "healthy", err=illness is not None)
    return 1 if illness else 0
