"""Reaches files below a folder by open handles, so that a link that is put there meanwhile leads nobody out of it.

To look for links first and to open then leaves a gap, in which whoever may write there swaps a folder for a link. Here a place is opened
first, which reads nothing yet and touches no device (``O_PATH``), and then the kernel says where that is (``/proc/self/fd``); all that
follows goes by the handle, whatever its path means by then. Systems without either look first and open then.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from shared.errors import RequestError

_OPENED = "/proc/self/fd"
HAS_HANDLES = hasattr(os, "O_PATH") and Path(_OPENED).is_dir()


class Reached:
    """A file or folder below ``root`` that is there, held while the block runs; links are followed.

    No generator: that would take as long again, and a chunk looks at a dozen files.
    """

    def __init__(self, root: str, path: str) -> None:
        self._root, self._path = root, path
        self._handle: int | None = None

    def __enter__(self) -> str:
        """A name that means the same while the block runs.

        Raises:
            RequestError: it lies outside ``root``.
            OSError: it cannot be opened; FileNotFoundError when there is none.
        """
        root, path = self._root, self._path
        full = f"{root}/{path}" if path else root
        if not HAS_HANDLES:
            if _leads_out(root, path):
                raise outside(root, path)
            return full
        try:
            self._handle = os.open(full, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            # a link that leads nowhere, or to itself, would otherwise be taken for no file
            if error.errno in (errno.ENOENT, errno.ELOOP) and _leads_out(root, path):
                raise outside(root, path) from None
            raise
        opened = f"{_OPENED}/{self._handle}"
        if not _is_inside(root, os.readlink(opened)):  # noqa: PTH115 - a Path takes as long again
            self._close()
            raise outside(root, path)
        return opened

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class ReachedByFolder:
    """The place of a file below ``root``, there or not, by way of the handle of its folder: to put a file there or to take it away.

    ``make`` makes the folders that are not there yet, each inside the one that is held open.
    """

    def __init__(self, root: str, path: str, *, make: bool = False) -> None:
        self._root, self._path, self._make = root, path, make
        self._folder = Reached(root, path.rpartition("/")[0])

    def __enter__(self) -> Path:
        """A path that means the same while the block runs.

        Raises:
            RequestError: its folder, or what a link in its place leads to, lies outside ``root``.
            OSError: its folder cannot be opened or made.
        """
        folder, _, name = self._path.rpartition("/")
        try:
            held = self._folder.__enter__()
        except FileNotFoundError:
            if not self._make:
                raise
            _make_folder(self._root, folder)
            held = self._folder.__enter__()
        at = f"{held}/{name}"
        if os.path.islink(at) and _leads_out(self._root, self._path):  # noqa: PTH114 - a Path takes as long again
            self._folder.__exit__(None, None, None)
            raise outside(self._root, self._path)
        return Path(at)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._folder.__exit__(kind, error, trace)


@contextlib.contextmanager
def listed_folder(name: str, inside: int | None = None) -> Iterator[int]:
    """A handle by which a folder is listed and its names are removed: a path of ``Reached``, or a name ``inside`` the folder of a handle.

    Raises:
        FileNotFoundError: there is none by now, or a link has taken the place of the name.
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        handle = os.open(name, flags) if inside is None else os.open(name, flags | os.O_NOFOLLOW, dir_fd=inside)
    except OSError as error:
        if inside is not None and error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
        raise
    try:
        yield handle
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder onto the disk, as ``fsync`` does the content of a file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def outside(root: str, path: str) -> RequestError:
    """The refusal of a path that leads out of the bucket in ``root``."""
    return RequestError(f"the path {path!r} leads outside the bucket {root}", next_step="Remove the symbolic link.")


def _make_folder(root: str, folder: str) -> None:
    if not folder:
        Path(root).mkdir(parents=True, exist_ok=True)
        return
    with ReachedByFolder(root, folder, make=True) as new, contextlib.suppress(FileExistsError):
        new.mkdir()


def _is_inside(root: str, place: str) -> bool:
    """True when a real path is ``root`` or below it, also when a folder above ``root`` was replaced by a link since."""
    return _is_below(root, place) or _is_below(str(Path(root).resolve()), place)


def _is_below(root: str, place: str) -> bool:
    return place == root or place.startswith(root.rstrip("/") + "/")


def _leads_out(root: str, path: str) -> bool:
    """True when a link on the way leads out of ``root``, or in a circle."""
    if not any(map(os.path.islink, itertools.accumulate(path.split("/"), "{}/{}".format, initial=root))):
        return False
    try:
        return not _is_inside(root, str(Path(root, path).resolve()))
    except (RuntimeError, OSError):  # a link that leads to itself
        return True
