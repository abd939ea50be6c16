"""Opens files below a folder by handle, so that a symbolic link that appears meanwhile cannot lead outside the folder.

Checking for links before opening leaves a gap in which another process can swap a folder for a link. Instead, ``O_PATH`` opens the path
first (this reads nothing and touches no device), then ``/proc/self/fd`` says what was opened, and every later access uses that handle.
Systems without ``O_PATH`` or ``/proc`` check first and open afterwards.
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


class OpenedPath:
    """An existing file or folder below ``root``, held open while the block runs; links are followed.

    A class, because a generator takes twice the time and a chunk opens a dozen files.
    """

    def __init__(self, root: str, path: str) -> None:
        self._root, self._path = root, path
        self._handle: int | None = None

    def __enter__(self) -> str:
        """Returns a path that refers to the same file while the block runs.

        Raises:
            RequestError: the path leads outside ``root``.
            OSError: the path cannot be opened; FileNotFoundError when nothing is there.
        """
        root, path = self._root, self._path
        full = f"{root}/{path}" if path else root
        if not HAS_HANDLES:
            if _escapes(root, path):
                raise escape_error(root, path)
            return full
        try:
            self._handle = os.open(full, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            # without this check, a link to nowhere or to itself would count as a missing file
            if error.errno in (errno.ENOENT, errno.ELOOP) and _escapes(root, path):
                raise escape_error(root, path) from None
            raise
        opened = f"{_OPENED}/{self._handle}"
        if not _is_inside(root, os.readlink(opened)):  # noqa: PTH115 - a Path takes as long again
            self._close()
            raise escape_error(root, path)
        return opened

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class OpenedParent:
    """The path of a file below ``root``, existing or not, through the handle of its folder: for creating or removing the file.

    With ``make``, missing folders are created, each inside the handle of its parent.
    """

    def __init__(self, root: str, path: str, *, make: bool = False) -> None:
        self._root, self._path, self._make = root, path, make
        self._folder = OpenedPath(root, path.rpartition("/")[0])

    def __enter__(self) -> Path:
        """Returns a path that refers to the same place while the block runs.

        Raises:
            RequestError: the folder, or the target of a link at the path, lies outside ``root``.
            OSError: the folder cannot be opened or created.
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
        if os.path.islink(at) and _escapes(self._root, self._path):  # noqa: PTH114 - a Path takes as long again
            self._folder.__exit__(None, None, None)
            raise escape_error(self._root, self._path)
        return Path(at)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._folder.__exit__(kind, error, trace)


@contextlib.contextmanager
def listed_folder(name: str, inside: int | None = None) -> Iterator[int]:
    """Yields a handle for listing a folder and removing its entries; ``name`` is a path from ``OpenedPath`` or a name ``inside`` a handle.

    Raises:
        FileNotFoundError: the folder is gone, or a link has replaced it.
        OSError: the folder cannot be opened.
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
    """Forces the entries of a folder onto the disk, as ``fsync`` does for the content of a file."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def escape_error(root: str, path: str) -> RequestError:
    """The error for a path that leads outside the bucket in ``root``."""
    return RequestError(f"the path {path!r} leads outside the bucket {root}", next_step="Remove the symbolic link.")


def _make_folder(root: str, folder: str) -> None:
    if not folder:
        Path(root).mkdir(parents=True, exist_ok=True)
        return
    with OpenedParent(root, folder, make=True) as new, contextlib.suppress(FileExistsError):
        new.mkdir()


def _is_inside(root: str, place: str) -> bool:
    """Returns True when a real path is ``root`` or below it. Also covers a folder above ``root`` that was replaced by a link since."""
    return _is_below(root, place) or _is_below(str(Path(root).resolve()), place)


def _is_below(root: str, place: str) -> bool:
    return place == root or place.startswith(root.rstrip("/") + "/")


def _escapes(root: str, path: str) -> bool:
    """Returns True when a link in the path leads outside ``root`` or forms a loop."""
    if not any(map(os.path.islink, itertools.accumulate(path.split("/"), "{}/{}".format, initial=root))):
        return False
    try:
        return not _is_inside(root, str(Path(root, path).resolve()))
    except (RuntimeError, OSError):  # a link that leads to itself
        return True
