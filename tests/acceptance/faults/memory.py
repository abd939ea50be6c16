"""A limit on the memory of a worker: a control group of the machine where this process may make one, else a limit of the process.

With a control group (version 1 or 2, which takes root) the kernel kills the process that needs too much, as in a container. With a limit
of the process (``prlimit``) the process is refused memory and Python raises MemoryError.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[list[str]]:
    """What to put before a command so that it and its children may use so many bytes; empty where no limit can be set."""
    group = _make_group(size)
    if group is None:
        prlimit = shutil.which("prlimit")
        yield [prlimit, f"--as={size}"] if prlimit else []
        return
    try:
        yield ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        with contextlib.suppress(OSError):  # a process in it has not ended yet
            group.rmdir()


def kills(command: list[str]) -> bool:
    """True when the limit of ``memory_limit`` kills, and does not only refuse."""
    return bool(command) and command[0] == "/bin/sh"


def _make_group(size: int) -> Path | None:
    """A new control group with this limit and no swap; None where none can be made."""
    for parent, limit, swap in ((V1, "memory.limit_in_bytes", None), (V2, "memory.max", "memory.swap.max")):
        group = parent / f"scoring-faults-{os.getpid()}-{secrets.token_hex(4)}"
        if not (parent / limit).exists() and not _offers_memory(parent):
            continue
        try:
            group.mkdir()
            (group / limit).write_text(str(size))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        if swap is not None:
            with contextlib.suppress(OSError):
                (group / swap).write_text("0")
        return group
    return None


def _offers_memory(parent: Path) -> bool:
    """True for a group of version 2 whose children may have a limit on memory."""
    try:
        return "memory" in (parent / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
