"""The one boundary around a definition's code: what goes wrong in it becomes one sentence that names the definition, file and line.

Everything that runs a definition's code runs it in ``calling``: ``Model()``, ``data_preparation``, ``train``, ``predict``, ``save``,
``load``, ``importance`` and the rest. Three things pass through: the end of the time of a step, marked with whose code it struck;
the shutdown of the worker; and a ``TableError``, by which a definition refuses a table.
"""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from billiard.exceptions import SoftTimeLimitExceeded  # what the pool that runs us raises; it knows no queue

from shared.errors import ModelError, ScoringError, TableError
from shared.memory_limit import describe_memory

ON_A_TABLE = " --table FILE"
"""Of ``scoring models check``: made-up values may not show what the rows of a real table do."""
LONGEST_REASON = 300
"""Characters that are quoted of an exception."""

MORE_MEMORY = "Give the workers more memory or fewer processes"

GUARDED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM)
"""What the worker and its pool listen to; a definition that takes one for itself gives it back."""


class DefinitionError(ModelError):
    """Raised when a definition's own code fails, or gives something else than it promises."""

    def __init__(self, what: str, reason: str = "", *, rows: str = "", joint: str = " on ", step: str = "", next_step: str = "") -> None:
        super().__init__(what + (joint + rows if rows else "") + reason, next_step=next_step)
        self.what, self.reason, self.joint, self.step = what, reason, joint, step

    def on(self, rows: str, reason: str | None = None) -> "DefinitionError":
        """The same failure, which says on which rows it happened, and with the ``reason`` that they gave."""
        reason = self.reason if reason is None else reason
        return DefinitionError(self.what, reason, rows=rows, joint=self.joint, step=self.step, next_step=self.next_step)


class DefinitionHungError(SoftTimeLimitExceeded):
    """Raised when the time of a step is over while a definition's code runs; still the end of the step's time to everybody else."""

    def __init__(self, failure: DefinitionError) -> None:
        super().__init__(failure.message)
        self.failure = failure
        """What ends a job that cannot be tried in pieces."""

    def __str__(self) -> str:
        return self.failure.message


@contextlib.contextmanager
def calling(name: str, folder: Path, step: str) -> Iterator[None]:
    """Runs a definition's code: ``step`` of the definition ``name``, which lies in ``folder``.

    Raises:
        DefinitionError: whatever the code raised, ``SystemExit`` included, in one sentence.
        TableError: the definition refuses the table.
        DefinitionHungError: the time of the step was over.
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
    except BaseException as error:  # foreign code may raise anything, and none of it may end the worker
        if is_shutdown(error):
            raise
        raise failure(name, folder, step, f"{describe(error)} ({place_of(error, folder)})", getattr(error, "next_step", "")) from error


def failure(name: str, folder: Path, step: str, reason: str, next_step: str = "") -> DefinitionError:
    """The error that says that a definition's code failed, and why."""
    return DefinitionError(
        f"the definition {name} failed in {step}",
        f": {reason}",
        step=step,
        next_step=next_step or f"Correct {folder / 'model.py'}; find out more with: scoring models check {name}{ON_A_TABLE}",
    )


def describe(error: BaseException) -> str:
    """An exception of foreign code on one line of bounded length; one of ours by its sentence."""
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
    """The deepest line of the definition itself that an error came through, as ``file, line n``; its ``model.py`` when there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    # by hand, because traceback.extract_tb reads the source of every frame
    deepest = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).is_relative_to(folder):
            deepest = f"{frame.f_code.co_filename}, line {line}"
    return deepest or f"{folder / 'model.py'}"


def is_shutdown(error: BaseException) -> bool:
    """True when an exception is the worker being stopped, and none that a definition raised."""
    if isinstance(error, KeyboardInterrupt):
        return signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # a pool process ignores Ctrl-C
    # billiard ends a pool process that is sent SIGTERM by a SystemExit out of this function of its own, in the middle of anything
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, SystemExit) and frames[-1:] == ["_shutdown_cleanup"]


@contextlib.contextmanager
def process_kept_as_it_is() -> Iterator[None]:
    """Undoes what a definition changes for the whole process: numpy's handling of errors, the working folder, handlers of signals."""
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
    """The working folder; empty when it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - a text is enough, and this runs for each chunk
    except FileNotFoundError:
        return ""
