"""What all commands share: the bucket of the settings, a console, JSON on standard output."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from shared.processes import limit_new_files
from shared.settings import Settings, read_settings

# rich and the bucket are imported when they are needed, so that --help is quick
if TYPE_CHECKING:
    from rich.console import Console

    from shared.bucket import Bucket

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def open_bucket_here() -> "tuple[Settings, Bucket]":
    """The settings, and the bucket that they name."""
    from shared.bucket import open_bucket

    settings = read_settings()
    limit_new_files(settings.umask)
    return settings, open_bucket(settings.bucket_url, settings.signer)


def console(*, stderr: bool = False) -> "Console":
    """A console on standard output, or standard error."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # a table that goes to a file or a pipe is not cut to the width of a terminal that is not there
    return Console(file=stream, width=None if stream.isatty() else 220)


def print_json(data: Any) -> None:  # noqa: ANN401 - anything that JSON can say
    """Print what JSON can say."""
    click.echo(json.dumps(data, indent=1, default=str))
