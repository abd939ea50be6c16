"""The ``scoring`` command.

Exit codes: 0 done, 1 a defect in this program, 2 the request or a setting (also a repeated request whose result was replaced since),
3 a table, 4 a model, 5 the job failed or was cancelled, 6 Redis or the bucket cannot be reached,
7 the result is held, 130 stopped with Ctrl-C.
"""

import contextlib
import importlib
import io
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import click

from producers.display.streams import prepare_streams, written_out
from producers.display.terminal import (
    say,
    say_error,
)
from shared.errors import RequestError, ScoringError


def main() -> None:
    """Runs the command line; an error becomes a message on standard error and an exit code."""
    prepare_streams()
    sys.exit(_run())


def _run() -> int:
    try:
        with written_out():
            code = scoring.main(standalone_mode=False)
    except ScoringError as error:
        say_error(error.message, error.next_step)
        return error.exit_code
    except click.ClickException as error:
        said = io.StringIO()
        error.show(file=said)
        with contextlib.suppress(OSError):
            say(said.getvalue().rstrip("\n"), err=True)
        return RequestError.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:  # noqa: BLE001 - a person must get a message for any error
        say_error(f"a defect in this program, in {_place_of(error)}: {error!r}", "Please report it with the command that you typed.")
        return ScoringError.exit_code
    return code if isinstance(code, int) else 0


def _place_of(error: Exception) -> str:
    """The file and line of this program where the error was raised, for a report of the defect."""
    root = Path(__file__).resolve().parents[2]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(root)]
    return f"{Path(frames[-1].filename).relative_to(root)}, line {frames[-1].lineno}" if frames else "an unknown place"


COMMANDS = {
    "up": "stack:up",
    "run": "stack:run",
    "health": "stack:health",
    "serve": "stack:serve",
    "sample": "sample:sample",
    "columns": "columns:columns",
    "train": "submit:train",
    "score": "submit:score",
    "jobs": "jobs:jobs",
    "models": "models:models",
    "results": "results:results",
    "why": "why:why",
    "schedule": "schedule:schedule",
    "gc": "gc:gc",
    "doctor": "operations:doctor",
    "metrics": "operations:metrics",
    "notebook": "notebook:notebook",
}
"""Each command -> its module in ``producers.cli.commands``, and its name there."""


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands of a group; each is imported at its first use."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, attribute = self._places[name].partition(":")
            self._loaded[name] = getattr(importlib.import_module(f"producers.cli.commands.{module}"), attribute)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places, self._loaded[name] = {**self._places, name: ""}, command

    def __delitem__(self, name: str) -> None:
        self._places = {known: place for known, place in self._places.items() if known != name}

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@click.group(commands=LazyCommands(COMMANDS), context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="keyword-scoring")
def scoring() -> None:
    """Score keyword tables with the probability that a click becomes a purchase.

    A stack of workers must be running: start one on this machine with `scoring up`.

    \b
    Example, from nothing to a result:
        scoring up                       (in another terminal)
        scoring sample --rows 100000
        scoring train v1
        scoring score data/predict/input/2026/11/23 --model v1
        scoring results list

    \b
    Exit codes: 0 done, 2 the request or a setting, 3 a table, 4 a model, 5 the job failed or was cancelled,
    6 Redis or the bucket, 7 the result is held, 130 Ctrl-C.
    """
