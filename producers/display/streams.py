"""The standard streams of a command. They accept any character, and may be closed, full or a broken pipe without a traceback."""

import contextlib
import os
import sys
from collections.abc import Iterator

from shared.errors import OutputError

BROKEN_PIPE_EXIT = 141
"""128 + SIGPIPE: the exit code that a shell reports for any program whose reader is gone."""


def prepare_streams() -> None:
    """Opens streams that the caller closed, and lets streams with a narrow encoding write escapes for missing characters."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _open_closed() -> None:
    # a file that is opened later would get the number of a closed stream, and printed text would go into it
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - by its number, for the life of the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def written_out() -> Iterator[None]:
    """Turns a failure to write the output of a command into an error.

    Raises:
        OutputError: standard output cannot be written, such as on a full disk.
        SystemExit: the reader of the output is gone.
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
        # for a broken pipe click exits with the code of a defect; it replaces the stream first
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
    """Discards further output: Python would otherwise flush at exit, and fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
