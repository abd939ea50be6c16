"""Files that commands write for spreadsheets: new, whole or not at all, and without formulas."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from shared.errors import OutputError, RequestError

FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")
"""Characters that start a formula in a spreadsheet."""


def disarmed(text: str) -> str:
    """The text, prefixed with ``'`` if a spreadsheet would read it as a formula. It is never read back."""
    return f"'{text}" if text.startswith(FORMULA_BEGINS) else text


@contextlib.contextmanager
def new_file(out: Path) -> Iterator[TextIO]:
    """Yields a new file to write to, which is removed when the block raises an error.

    Raises:
        RequestError: ``out`` already exists, or cannot be written.
        OutputError: the disk is full.
    """
    try:
        target = out.open("x", encoding="utf-8", newline="")
    except FileExistsError:
        raise RequestError(f"{out} is there already", next_step="Name another file.") from None
    except OSError as error:
        raise RequestError(f"{out} cannot be written: {error.strerror}", next_step="Name another file.") from error
    try:
        with target:
            yield target
    except BaseException as error:
        out.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(f"{out} cannot be written: {error.strerror}", next_step="Name a file on another disk.") from error
        raise
