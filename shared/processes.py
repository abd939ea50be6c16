"""Names for processes that tell anybody on the same machine (or in the same container) whether the process is gone."""

import contextlib
import functools
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from shared.errors import RequestError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""A new one each time the machine starts; unlike the host name, no two machines share it, cloned ones included."""

NAMESPACE = Path("/proc/self/ns/pid")
"""Its inode names the container: the first namespace of every machine has the same one."""


def _space() -> str:
    """What process ids are unique in: the machine since it was started, or the container on it."""
    try:
        return f"{BOOT_ID.read_text().strip()}-{NAMESPACE.stat().st_ino}"
    except OSError:  # no Linux, or a container that hides it: then no other process is ever taken for gone
        return f"{socket.gethostname()}-{secrets.token_hex(8)}"


def _started(process: int | str) -> str:
    """When a process of this machine was started, in ticks since the boot; empty when there is none. An id alone is given out again."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # the name before it may hold anything


_SPACE = _space()


@functools.cache
def _own_start(process: int) -> str:
    return _started(process)  # known by the id of this process, which is another one behind a fork


def process_token() -> str:
    """A new name that belongs to this process: ``<machine>.<process id>-<start>.<random>``; fit for a file name."""
    return f"{_SPACE}.{os.getpid()}-{_own_start(os.getpid())}.{secrets.token_hex(8)}"


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A new folder below ``parent`` that goes with the block, or with ``drop_abandoned`` when this process is killed in it.

    Raises:
        RequestError: others may write into ``parent``.
    """
    private_place(parent)
    drop_abandoned(parent)
    folder = parent / process_token()
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
    process, _, started = rest.partition("-")
    if space != _SPACE or not process.isdigit() or not Path("/proc/self").exists():
        return False
    return _started(process) != started if started else not Path(f"/proc/{process}").exists()


def limit_new_files(umask: str) -> None:
    """Take these rights (octal) away from every file and folder that this process and its children make from now on."""
    os.umask(int(umask, 8))


def private_place(folder: Path) -> Path:
    """A folder that is ours alone, made if it is not there.

    Raises:
        RequestError: others may write into it, or had made it: what is put there could be theirs.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise RequestError(
            f"the folder {folder} cannot be used: {error.strerror}", next_step="Set SCORING_HOME to a folder that can be written."
        ) from error
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_ours or found.st_mode & 0o077:
        raise RequestError(
            f"the folder {folder} is {'open to other users' if is_ours else 'not a folder of this user'}",
            next_step="Remove it, or set SCORING_HOME to a folder of your own.",
        )
    return folder
