"""``scoring notebook``: opens the repository's notebook in JupyterLab, by default on 127.0.0.1."""

import importlib.util
import os
import secrets
import sys
from pathlib import Path

import click

from shared.errors import RequestError

REPOSITORY = Path(__file__).resolve().parents[3]
INSTALL = f"Install it with: {sys.executable} -m pip install -e '{REPOSITORY}[notebook]'"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 allows other machines.")
@click.option("--port", default=9999, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def notebook(host: str, port: int, no_browser: bool) -> None:
    """Open the analysis of the models in JupyterLab, until Ctrl-C.

    Prints its address with a secret token. JUPYTER_TOKEN sets the token.

    \b
    Example:
        scoring notebook
        scoring notebook --host 0.0.0.0 --port 8888 --no-browser
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise RequestError("JupyterLab is not installed here", next_step=INSTALL)
    # in the environment, because every user of this machine can read the arguments
    environment = {**os.environ, "JUPYTER_TOKEN": os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(24)}
    arguments = [
        f"--ServerApp.ip={host}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",  # fail if the port is taken, instead of using another one
        f"--ServerApp.root_dir={REPOSITORY}",
        "--LabApp.default_url=/lab/tree/analytics/analytics.ipynb",
        *(["--ServerApp.open_browser=False"] if no_browser else []),
        *(["--allow-root"] if os.geteuid() == 0 else []),  # containers run as root
    ]
    os.execve(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments], environment)  # noqa: S606 - no shell is wanted
