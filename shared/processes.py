"""Names for processes that tell anybody on the same machine (or in the same container) whether the process is gone."""

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path


def _space() -> str:
    """What process ids are unique in: the machine, or the container."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}-{namespace.stat().st_ino if namespace.exists() else ''}"


_SPACE = _space()


def mark_of_process() -> str:
    """A new name that belongs to this process: ``<machine>.<process id>.<random>``; fit for a file name."""
    return f"{_SPACE}.{os.getpid()}.{secrets.token_hex(8)}"


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder below ``parent`` that goes with the block, or, when this process is killed in it, with the next one there."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stray in parent.iterdir():
        if is_gone(stray.name):
            shutil.rmtree(stray, ignore_errors=True)
    folder = parent / mark_of_process()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_gone(mark: str) -> bool:
    """True when the process of this name has ended; False also when that cannot be known from here."""
    space, _, rest = mark.rpartition(".")[0].rpartition(".")
    can_tell = space == _SPACE and rest.isdigit() and Path("/proc/self").exists()
    return can_tell and not Path(f"/proc/{rest}").exists()
