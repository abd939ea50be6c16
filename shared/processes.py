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
    """A new folder below ``parent`` that goes with the block, or with ``drop_abandoned`` when this process is killed in it."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    drop_abandoned(parent)
    folder = parent / mark_of_process()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drop_abandoned(parent: Path) -> None:
    """Remove the temporary folders below ``parent`` whose processes are gone."""
    for stray in parent.iterdir() if parent.is_dir() else ():
        if is_gone(stray.name):
            shutil.rmtree(stray, ignore_errors=True)


def is_gone(mark: str) -> bool:
    """True when the process of this name has ended; False also when that cannot be known from here."""
    space, _, rest = mark.rpartition(".")[0].rpartition(".")
    can_tell = space == _SPACE and rest.isdigit() and Path("/proc/self").exists()
    return can_tell and not Path(f"/proc/{rest}").exists()
