"""Maps an open file of a bucket into memory."""

import contextlib
import io
import mmap
import shutil
import tempfile
from typing import IO


def map_file(raw: IO[bytes]) -> mmap.mmap | bytes:
    """Returns the content of an open file by memory map; that of an object store is first copied to a temporary file without a name."""
    with contextlib.ExitStack() as held:
        try:
            number = raw.fileno()
        except io.UnsupportedOperation:
            copy = held.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(raw, copy, 1 << 20)
            copy.flush()
            number = copy.fileno()
        try:
            return mmap.mmap(number, 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            return b""
