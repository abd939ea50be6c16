"""Functions that all commands share: the configured bucket, consoles, JSON on standard output, and messages."""

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from shared.processes import limit_new_files
from shared.settings import Settings, read_settings
from shared.text.numbered import in_lines
from shared.text.plain import plain

# rich and the bucket are imported when they are used, so that --help is fast
if TYPE_CHECKING:
    from rich.console import Console

    from shared.bucket.interface import Bucket
    from shared.catalog.releases import UnreadableRelease
    from shared.catalog.results import UnreadableResult

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def open_bucket_here() -> "tuple[Settings, Bucket]":
    """Reads the settings and opens their bucket."""
    from shared.bucket.opening import open_bucket

    settings = read_settings()
    limit_new_files(settings.umask)
    return settings, open_bucket(settings.bucket_url, settings.signer)


def console(*, stderr: bool = False) -> "Console":
    """A console on standard output, or standard error."""
    from producers.display.consoles import PlainConsole

    stream = sys.stderr if stderr else sys.stdout
    # output to a file or a pipe is not cut to the width of a terminal
    return PlainConsole(file=stream, width=None if stream.isatty() else 220)


def say(text: object, *, err: bool = False, colour: str | None = None) -> None:
    """Prints lines of text, with terminal commands escaped."""
    click.secho(plain(text, lines=True), fg=colour, err=err)


def say_empty(bucket: "Bucket", nothing: str, next_step: str = "") -> None:
    """Prints that a list is empty, or that the bucket's folder does not exist: its name may be mistyped."""
    from shared.bucket.local import LocalBucket

    if isinstance(bucket, LocalBucket) and not bucket.root.is_dir():
        say(f"{nothing} in the bucket {bucket.url}: that folder does not exist. If it should, check BUCKET_URL for a mistake.")
        return
    say(f"{nothing} in the bucket {bucket.url}{f'. {next_step}' if next_step else ''}")


def print_json(data: Any) -> None:  # noqa: ANN401 - any JSON value
    """Prints a value as JSON."""
    click.echo(json.dumps(data, indent=1, default=str))


def warn(text: str) -> None:
    """Prints a warning on standard error; it does not change the exit code."""
    say(f"Warning: {plain(text)}", err=True, colour="yellow")


def warn_of_forced(bucket: "Bucket", release: str) -> None:
    """Warns if a release was trained with ``--force``; a release with an unreadable manifest is skipped."""
    from shared.catalog.releases import FoundRelease, inspect_release

    found = inspect_release(bucket, release)
    if isinstance(found, FoundRelease) and found.manifest.forced:
        warn(f"the release {release} was {found.manifest.forced_in_words}")


def say_error(message: str, next_step: str = "") -> None:
    """Prints the error of a command, its numbered reasons in a line each, and its next step. A closed standard error is ignored."""
    with contextlib.suppress(OSError, ValueError):
        say("\n  ".join(in_lines(f"Error: {plain(message)}.")), err=True, colour="red")
        if next_step:
            say(next_step, err=True)


def warn_of_unreadable(unreadable: "Sequence[UnreadableRelease | UnreadableResult]") -> None:
    """Warns about each manifest that was left out of a list."""
    for found in unreadable:
        warn(f"{found.path} cannot be read and is left out: {found.reason}")


def command_line(*more: str) -> str:
    """The running command as it can be typed, with further options at its end."""
    context = click.get_current_context()
    words = [*context.command_path.split(), *_given_words(context), *more]
    return shlex.join(["scoring", *words[1:]])  # a test or a wrapper may have started the program under another name


def _given_words(context: click.Context) -> Iterator[str]:
    """Yields the arguments and options that were typed; an option is followed by its value."""
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if context.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        if isinstance(parameter, click.Option):
            is_off = parameter.is_flag and value is False
            yield (parameter.secondary_opts if is_off else parameter.opts)[0]
            if parameter.is_flag:
                continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            yield str(item)
