"""A bucket in a local folder, or in a folder on a file system that several machines share."""

import contextlib
import errno
import io
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from shared.bucket.early_writeback import EarlyWriteback
from shared.bucket.folder_handles import OpenedParent, OpenedPath, listed_folder, sync_folder
from shared.bucket.interface import Bucket, FileInfo, check_names, storage_errors
from shared.errors import RequestError
from shared.processes import has_ended, process_token
from shared.records import FileDigest, check_bucket_path

ORPHAN_SECONDS = 24 * 3600
"""A temporary file older than this belongs to no living writer."""

TEMPORARY = ".tmp"
"""Folder inside a local bucket for files that are being written: the same file system, so that putting in place is one rename."""


class LocalBucket(Bucket):
    """A bucket in a folder of a local or shared file system with hard links."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = str(self.root)

    def place(self, path: str) -> Path:
        """The local path of a file; raises RequestError when it is outside the bucket, also through a symbolic link."""
        with contextlib.suppress(OSError), self._reached(path):
            pass
        return self.root / path

    def _checked(self, path: str) -> str:
        try:
            return check_bucket_path(path)
        except ValueError as error:
            raise RequestError(f"the path {path!r} {error}", next_step="Name a path inside the bucket.") from None

    def _reached(self, path: str) -> OpenedPath:
        """A handle of an existing file or folder."""
        return OpenedPath(self.url, self._checked(path))

    def _room(self, path: str, *, make: bool = True) -> OpenedParent:
        """The final path of a file. With ``make``, its folder is created only now, so that an abandoned write leaves no empty folder."""
        return OpenedParent(self.url, self._checked(path), make=make)

    def stat(self, path: str) -> FileInfo | None:
        with storage_errors(path, "read"):
            try:
                with self._reached(path) as at:
                    found = os.stat(at)  # noqa: PTH116 - see shared.bucket.folder_handles
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _local_info(path, found) if stat.S_ISREG(found.st_mode) else None

    def read(self, path: str) -> bytes | None:
        with storage_errors(path, "read"):
            try:
                with self._reached(path) as at, _open_file(at) as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def open(self, path: str) -> io.BufferedReader:
        with storage_errors(path, "read"), self._reached(path) as at:
            return _open_file(at)

    @contextlib.contextmanager
    def _aside(self, path: str) -> Iterator[Path]:
        with storage_errors(path, "written"):
            self.place(path)
            with self._room(f"{TEMPORARY}/{process_token()}") as aside:
                try:
                    yield aside
                finally:
                    aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writer(self, path: str, *, durable: bool = False) -> Iterator[IO[bytes]]:
        with self._aside(path) as aside:
            with EarlyWriteback(aside.open("xb", buffering=0)) if durable else aside.open("xb") as out:
                yield out
                if durable:
                    out.flush()
                    os.fsync(out.fileno())
            with self._room(path) as at:
                aside.replace(at)

    def create(self, path: str, data: bytes) -> bool:
        with self._aside(path) as aside:
            with aside.open("xb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            with self._room(path) as at:
                try:
                    os.link(aside, at)
                except FileExistsError:
                    return False
            return True

    def upload(self, local: Path, path: str) -> None:
        with self.writer(path) as out, local.open("rb") as source:
            shutil.copyfileobj(source, out, 1 << 20)

    def copy(self, source: str, target: str, *, durable: bool = False) -> None:
        # a hard link would let an in-place edit of the copy change the original as well
        with self._aside(target) as aside:
            with self._reached(source) as at:
                shutil.copyfile(at, aside)
            if durable:
                _sync_file(aside)
            with self._room(target) as at:
                aside.replace(at)

    @contextlib.contextmanager
    def _scan(self, folder: str) -> Iterator[list[os.DirEntry[str]]]:
        """Yields the entries of a folder, which is held open while the block runs: entries are examined through its handle."""
        with storage_errors(folder, "listed"), contextlib.ExitStack() as held:
            try:
                at = held.enter_context(self._reached(folder))
                entries = held.enter_context(os.scandir(at))
            except (FileNotFoundError, NotADirectoryError):
                yield []
                return
            yield sorted(entries, key=lambda entry: entry.name)

    def settle(self, folder: str) -> None:
        with storage_errors(folder, "written"), self._reached(folder) as at:
            sync_folder(Path(at))

    def files(self, folder: str) -> list[FileInfo]:
        infos = []
        with self._scan(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file():
                        infos.append(_local_info(f"{folder}/{entry.name}", entry.stat()))
        return infos

    def folders(self, folder: str) -> list[str]:
        with self._scan(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir()]

    def delete(self, path: str) -> None:
        with storage_errors(path, "removed"), contextlib.suppress(FileNotFoundError), self._room(path, make=False) as at:
            at.unlink()

    def delete_folder(self, folder: str) -> None:
        with storage_errors(folder, "removed"), contextlib.suppress(FileNotFoundError), self._room(folder, make=False) as at:
            shutil.rmtree(at)

    def tree(self, folder: str, prefix: str = "") -> list[FileInfo]:
        infos: list[FileInfo] = []
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with storage_errors(folder, "listed"), missing, self._reached(folder) as at, listed_folder(at) as handle:
            infos = _files_in(handle, folder, prefix)
        return sorted(infos, key=lambda info: info.path)

    def delete_many(self, paths: Sequence[str]) -> None:
        folders = set()
        for path in paths:
            self.delete(path)
            folders.add(path.rpartition("/")[0])
        for folder in sorted(folders, key=len, reverse=True):
            self._drop_if_empty(folder)

    def _drop_if_empty(self, folder: str) -> None:
        """Removes a folder and its parents while they are empty, except top-level folders and folders of marks (``_``)."""
        while folder.count("/") > 0 and not folder.rpartition("/")[2].startswith("_"):
            try:
                with self._room(folder, make=False) as at:
                    at.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # not empty
                return
            folder = folder.rpartition("/")[0]

    def drop_empty_folders(self, folder: str, older_than: float) -> int:
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with storage_errors(folder, "cleared"), missing, self._reached(folder) as at, listed_folder(at) as handle:
            return _drop_empty_in(handle, time.time() - older_than)
        return 0

    def put_folder(self, local: Path, folder: str, *, last: str) -> bool:
        del last  # the rename below puts all files in place together
        with self._aside(folder) as aside:
            try:
                aside.mkdir()
                for file in local.iterdir():
                    shutil.copyfile(file, aside / file.name)
                    _sync_file(aside / file.name)
                sync_folder(aside)
                with self._room(folder) as at:
                    aside.rename(at)
                    sync_folder(at.parent)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                return False
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            return True

    def stored_at(self, folder: str, name: str, sha256: str) -> str:
        del sha256
        return f"{folder}/{name}"

    def local_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Path:
        del cache
        check_names(folder, files)
        return self.place(folder)

    @contextlib.contextmanager
    def held_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Iterator[Path]:
        del cache
        check_names(folder, files)
        with self._reached(folder) as at:
            yield Path(at)

    def drop_orphans(self) -> None:
        with storage_errors(TEMPORARY, "cleared"), contextlib.suppress(FileNotFoundError), self._reached(TEMPORARY) as folder:
            for aside in Path(folder).iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if _is_orphan(aside):
                        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


def _files_in(handle: int, folder: str, prefix: str = "") -> list[FileInfo]:
    """All files below an open folder whose path is ``folder``. Links are not followed: they may lead outside the bucket."""
    infos: list[FileInfo] = []
    with os.scandir(handle) as found:
        entries = [entry for entry in found if entry.name.startswith(prefix)]
    for entry in entries:
        path = f"{folder}/{entry.name}"
        with contextlib.suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False):
                infos.append(_local_info(path, entry.stat(follow_symlinks=False)))
            elif entry.is_dir(follow_symlinks=False):
                with listed_folder(entry.name, handle) as inner:
                    infos += _files_in(inner, path)
    return infos


def _drop_empty_in(handle: int, before: float) -> int:
    """Removes the empty folders below an open folder that were last changed before ``before``; returns how many."""
    dropped = 0
    with os.scandir(handle) as found:
        inner = [entry for entry in found if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("_")]
    for entry in inner:
        with contextlib.suppress(OSError):
            changed = entry.stat(follow_symlinks=False).st_mtime
            with listed_folder(entry.name, handle) as folder:
                dropped += _drop_empty_in(folder, before)
            if changed < before:
                os.rmdir(entry.name, dir_fd=handle)  # fails when the folder is not empty
                dropped += 1
    return dropped


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():  # nearly always true; the check takes a fifth of the time of mkdir
        folder.mkdir(parents=True, exist_ok=True)


def _open_file(at: str) -> io.BufferedReader:
    """Opens a file for reading. A pipe or a device, which may never end, is refused without opening it."""
    mode = os.stat(at).st_mode  # noqa: PTH116 - see shared.bucket.folder_handles
    if not stat.S_ISREG(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "it is not a file")
    return open(at, "rb")  # noqa: PTH123 - see shared.bucket.folder_handles


def _sync_file(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_orphan(aside: Path) -> bool:
    """Returns True when the process that writes this file is gone: by its token on this machine, by the file's age on another."""
    return has_ended(aside.name) or time.time() - aside.stat().st_mtime > ORPHAN_SECONDS


def _local_info(path: str, found: os.stat_result) -> FileInfo:
    return FileInfo(
        path=path,
        size=found.st_size,
        stamp=f"{found.st_size}-{found.st_mtime_ns}",
        modified=found.st_mtime,
        version=f"{found.st_ino}-{found.st_ctime_ns}",
    )
