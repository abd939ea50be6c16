"""The commands of the operator's watch: ``scoring metrics`` and ``scoring doctor``."""

import click

from shared.settings import read_settings

METRICS_PORT = 9808


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; other machines see nothing of the default.")
@click.option("--port", type=click.IntRange(1, 65535), default=METRICS_PORT, show_default=True)
def metrics(host: str, port: int) -> None:
    """Serve metrics for Prometheus on /metrics, until Ctrl-C.

    \b
    Example:
        scoring metrics
        scoring metrics --host 0.0.0.0 --port 9808
    """
    from producers.metrics import serve

    stop, thread = serve(read_settings(), host, port)
    click.echo(f"Metrics on http://{host}:{port}/metrics (Ctrl-C stops)")
    try:
        thread.join()
    finally:
        stop()
