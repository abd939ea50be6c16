"""Names for processes that tell anybody on the same machine (or in the same container) whether the process is gone."""

import os
import secrets
import socket
from pathlib import Path


def _space() -> str:
    """What process ids are unique in: the machine, or the container."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}-{namespace.stat().st_ino if namespace.exists() else ''}"


_SPACE = _space()


def mark_of_process() -> str:
    """A new name that belongs to this process: ``<machine>.<process id>.<random>``; fit for a file name."""
    return f"{_SPACE}.{os.getpid()}.{secrets.token_hex(8)}"


def is_gone(mark: str) -> bool:
    """True when the process of this name has ended; False also when that cannot be known from here."""
    space, _, rest = mark.rpartition(".")[0].rpartition(".")
    can_tell = space == _SPACE and rest.isdigit() and Path("/proc/self").exists()
    return can_tell and not Path(f"/proc/{rest}").exists()
