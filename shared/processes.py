"""Process tokens: names from which any process on the same machine (or in the same container) sees whether their process has ended."""

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
"""A new id at each boot; unlike host names, ids of two machines never match, even if one is a clone."""

NAMESPACE = Path("/proc/self/ns/pid")
"""Its inode identifies the container: the initial namespace of every machine has the same inode."""


def _space() -> str:
    """The scope in which process ids are unique: one boot of a machine, or a container on it."""
    try:
        return f"{BOOT_ID.read_text().strip()}-{NAMESPACE.stat().st_ino}"
    except OSError:  # not Linux, or a container that hides it: then no other process ever counts as gone
        return f"{socket.gethostname()}-{secrets.token_hex(8)}"


def _started(process: int | str) -> str:
    """The start time of a local process in ticks since boot, or an empty text when it does not exist. Ids alone are reused."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # the process name before it may contain anything


_SPACE = _space()


@functools.cache
def _own_start(process: int) -> str:
    return _started(process)  # cached by process id, which changes after a fork


def process_token() -> str:
    """A new name that belongs to this process: ``<machine>.<process id>-<start>.<random>``; valid as a file name."""
    return f"{_SPACE}.{os.getpid()}-{_own_start(os.getpid())}.{secrets.token_hex(8)}"


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yields a new folder below ``parent``. It is removed at the end of the block, or by ``drop_abandoned`` after this process is killed.

    Raises:
        RequestError: other users may write into ``parent``.
    """
    make_private_folder(parent)
    drop_abandoned(parent)
    folder = parent / process_token()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drop_abandoned(parent: Path) -> None:
    """Removes the temporary folders below ``parent`` whose processes are gone."""
    for folder in parent.iterdir() if parent.is_dir() else ():
        if has_ended(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def has_ended(token: str) -> bool:
    """Returns True when the process of this token has ended; False also when this cannot be determined from here."""
    space, _, rest = token.rpartition(".")[0].rpartition(".")
    process, _, started = rest.partition("-")
    if space != _SPACE or not process.isdigit() or not Path("/proc/self").exists():
        return False
    return _started(process) != started if started else not Path(f"/proc/{process}").exists()


def limit_new_files(umask: str) -> None:
    """Sets the umask (octal): this process and its children create files and folders without these permissions."""
    os.umask(int(umask, 8))


def make_private_folder(folder: Path) -> Path:
    """A folder that only this user can access; it is created if needed.

    Raises:
        RequestError: other users may write into it, or own it: its contents could be theirs.
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
