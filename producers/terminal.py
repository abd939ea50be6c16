"""What all commands share: the bucket of the settings, a console, JSON on standard output."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from shared.settings import Settings, read_settings

# rich and the bucket are imported when they are needed, so that --help is quick
if TYPE_CHECKING:
    from rich.console import Console

    from shared.bucket import Bucket
    from shared.catalog.releases import UnreadableRelease
    from shared.catalog.results import UnreadableResult

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def open_bucket_here() -> "tuple[Settings, Bucket]":
    """The settings, and the bucket that they name."""
    from shared.bucket import open_bucket

    settings = read_settings()
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


def warn(text: str) -> None:
    """Print a sentence on standard error that does not change how the command ends."""
    click.secho(f"Warning: {text}", fg="yellow", err=True)


def warn_of_unreadable(unreadable: "Sequence[UnreadableRelease | UnreadableResult]") -> None:
    """Name each manifest that was left out of a list."""
    for found in unreadable:
        warn(f"{found.path} cannot be read and is left out: {found.reason}")
