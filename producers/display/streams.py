"""The standard streams of a command: they take any character, may be closed, full or a broken pipe, and end no command in a traceback."""

import contextlib
import os
import sys
from collections.abc import Iterator

from shared.errors import OutputError

BROKEN_PIPE_EXIT = 141
"""128 + SIGPIPE: what a shell reports of every other program whose reader has gone."""


def prepare_streams() -> None:
    """Open those that the caller closed, and let those of a narrow encoding write escapes for what they lack."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _open_closed() -> None:
    # a file that is opened later would get the number of a closed stream, and what is printed would go into it
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - by its number, for the life of the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def written_out() -> Iterator[None]:
    """Name what keeps the output of a command from being written.

    Raises:
        OutputError: standard output cannot be written, such as on a full disk.
        SystemExit: whoever read it has gone.
    """
    stdout = sys.stdout
    try:
        try:
            yield
        finally:
            stdout.flush()
    except BrokenPipeError:
        _reader_has_gone()
    except SystemExit:
        # click ends so, with the exit code of a defect, where a pipe is broken; it puts another stream in place first
        if sys.stdout is not stdout:
            _reader_has_gone()
        raise
    except OSError as error:
        discard_output()
        raise OutputError(
            f"the output cannot be written: {error.strerror or error}", next_step="What was asked for may be done: see scoring jobs list"
        ) from error


def _reader_has_gone() -> None:
    discard_output()
    sys.exit(BROKEN_PIPE_EXIT)


def discard_output() -> None:
    """Let nothing more be written: Python would try once more at its end, and fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
