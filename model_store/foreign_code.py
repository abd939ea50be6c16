"""The boundary around a definition's code: turns its failures into one sentence that names the definition, file and line.

Every call of a definition's code runs in ``calling``: ``Model()``, ``data_preparation``, ``train``, ``predict``, ``save``, ``load``,
``importance`` and the rest. Three exceptions pass through: the time limit of a step, marked with the definition that was running; the
shutdown of the worker; and a ``TableError``, with which a definition refuses a table.
"""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from billiard.exceptions import SoftTimeLimitExceeded  # raised by the worker's pool; this module knows no queue

from shared.errors import ModelError, ScoringError, TableError
from shared.memory_limit import describe_memory

ON_A_TABLE = " --table FILE"
"""Option of ``scoring models check``: generated values may not reproduce a failure on the rows of a real table."""
LONGEST_REASON = 300
"""Maximum characters quoted of an exception."""

MORE_MEMORY = "Give the workers more memory or fewer processes"

GUARDED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM)
"""Signals that the worker and its pool handle; a definition's handler is removed after each call."""


class DefinitionError(ModelError):
    """Raised when a definition's own code fails, or returns an invalid value."""

    def __init__(self, what: str, reason: str = "", *, rows: str = "", joint: str = " on ", step: str = "", next_step: str = "") -> None:
        super().__init__(what + (joint + rows if rows else "") + reason, next_step=next_step)
        self.what, self.reason, self.joint, self.step = what, reason, joint, step

    def on(self, rows: str, reason: str | None = None) -> "DefinitionError":
        """Returns the same error, which names the rows that cause it, with their ``reason`` if given."""
        reason = self.reason if reason is None else reason
        return DefinitionError(self.what, reason, rows=rows, joint=self.joint, step=self.step, next_step=self.next_step)


class DefinitionHungError(SoftTimeLimitExceeded):
    """Raised when a step reaches its time limit while a definition's code runs; still a SoftTimeLimitExceeded for all other code."""

    def __init__(self, failure: DefinitionError) -> None:
        super().__init__(failure.message)
        self.failure = failure
        """The error that fails a job which cannot be tried in pieces."""

    def __str__(self) -> str:
        return self.failure.message


@contextlib.contextmanager
def calling(name: str, folder: Path, step: str) -> Iterator[None]:
    """Runs code of the definition ``name`` in ``folder``; ``step`` names the method that is called.

    Raises:
        DefinitionError: the code raised any other exception, including ``SystemExit``.
        TableError: the definition refuses the table.
        DefinitionHungError: the step reached its time limit.
    """
    try:
        with process_kept_as_it_is():
            yield
    except (TableError, DefinitionError, DefinitionHungError):
        raise
    except SoftTimeLimitExceeded as error:
        hung = failure(name, folder, step, f"it hung, and was stopped in {place_of(error, folder)}")
        raise DefinitionHungError(hung) from error
    except MemoryError as error:
        reason = f"it ran out of memory, of which its process may use {describe_memory()} ({place_of(error, folder)})"
        raise failure(name, folder, step, reason, f"{MORE_MEMORY}, or let {folder / 'model.py'} use less of it.") from error
    except BaseException as error:  # foreign code may raise anything, which must not end the worker
        if is_shutdown(error):
            raise
        raise failure(name, folder, step, f"{describe(error)} ({place_of(error, folder)})", getattr(error, "next_step", "")) from error


def failure(name: str, folder: Path, step: str, reason: str, next_step: str = "") -> DefinitionError:
    """Returns the error for a failure of a definition's code."""
    return DefinitionError(
        f"the definition {name} failed in {step}",
        f": {reason}",
        step=step,
        next_step=next_step or f"Correct {folder / 'model.py'}; find out more with: scoring models check {name}{ON_A_TABLE}",
    )


def describe(error: BaseException) -> str:
    """Describes an exception of foreign code on one line of bounded length; one of our own by its message."""
    if isinstance(error, ScoringError):
        shown = error.message
    else:
        try:
            shown = repr(error)
        except Exception:  # noqa: BLE001 - even its repr is foreign code
            shown = type(error).__name__
    shown = " ".join(shown.split())
    return shown if len(shown) <= LONGEST_REASON else f"{shown[:LONGEST_REASON]}..."


def place_of(error: BaseException, folder: Path) -> str:
    """Returns the deepest line of the definition itself in a traceback, as ``file, line n``; its ``model.py`` if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    # not traceback.extract_tb, which reads the source of every frame
    deepest = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).is_relative_to(folder):
            deepest = f"{frame.f_code.co_filename}, line {line}"
    return deepest or f"{folder / 'model.py'}"


def is_shutdown(error: BaseException) -> bool:
    """Returns True if an exception stops the worker, and was not raised by a definition."""
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # a pool process ignores Ctrl-C
    # on SIGTERM, billiard raises SystemExit in this function, at any point of the running code
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, SystemExit) and frames[-1:] == ["_shutdown_cleanup"]


@contextlib.contextmanager
def process_kept_as_it_is() -> Iterator[None]:
    """Restores what a definition changes for the whole process: numpy's error handling, the working directory, signal handlers."""
    folder = _working_folder()
    is_main = threading.current_thread() is threading.main_thread()
    handlers = [signal.getsignal(number) for number in GUARDED_SIGNALS] if is_main else []
    try:
        with np.errstate():
            yield
    finally:
        if folder and _working_folder() != folder:
            os.chdir(folder)
        for number, handler in zip(GUARDED_SIGNALS, handlers, strict=False):
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _working_folder() -> str:
    """Returns the working directory; empty if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - a str is enough, and this runs for each chunk
    except FileNotFoundError:
        return ""
