"""The commands for operators: ``scoring metrics`` and ``scoring doctor``."""

import signal
import threading

import click

from producers.display.terminal import json_option, print_json, say
from producers.operations.checks.finding import State
from shared.errors import TransientError
from shared.settings import read_settings
from shared.text.plain import plain

METRICS_PORT = 9808


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; other machines cannot reach the default.")
@click.option("--port", type=click.IntRange(1, 65535), default=METRICS_PORT, show_default=True, help="Port to listen on.")
def metrics(host: str, port: int) -> None:
    """Serve metrics for Prometheus on /metrics, until Ctrl-C or SIGTERM.

    \b
    Example:
        scoring metrics
        scoring metrics --host 0.0.0.0 --port 9808
    """
    from producers.operations.metrics import serve

    # without a handler, the kernel drops SIGTERM for process 1 of a container
    asked_to_end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_end.set())
    stop, _ = serve(read_settings(), host, port)
    say(f"Metrics on http://{host}:{port}/metrics (Ctrl-C stops)")
    try:
        while not asked_to_end.wait(1):
            pass  # a signal that arrives just before the wait does not end it
    finally:
        stop()


MARKS = {State.OK: ("ok", "green"), State.WARNING: ("warning", "yellow"), State.ERROR: ("ERROR", "red")}


@click.command()
@click.option("--send", "send_test_notice", is_flag=True, help="Also have a worker send a message to the webhook.")
@json_option
def doctor(send_test_notice: bool, as_json: bool) -> int:
    """Check everything that a job needs, and print what to do.

    Checks settings, Redis, bucket, disk, clock, a message through every queue, beat, sweep, webhook, and whether the workers have what
    the releases were trained with. Ends with exit code 6 if a check fails.

    \b
    Example:
        scoring doctor
        scoring doctor --send
    """
    from producers.operations.doctor import examine

    findings = []
    for finding in examine(read_settings(), send_test_notice=send_test_notice):
        findings.append(finding)
        if not as_json:
            mark, colour = MARKS[finding.state]
            click.echo(click.style(f"{mark:>8}", fg=colour) + plain(f"  {finding.subject}: {finding.text}"))
            if finding.next_step:
                say(f"{'':>8}  -> {finding.next_step}")
    if as_json:
        print_json([vars(finding) for finding in findings])
    return TransientError.exit_code if any(finding.state == State.ERROR for finding in findings) else 0
