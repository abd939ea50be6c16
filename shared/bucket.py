"""The place where all files live: a local folder, S3 or Google Cloud Storage, with one promise on each of them.

A file is there whole or not at all: it is written aside and then put in place, so no reader ever sees half of it. ``create`` puts a
file in place only if none is there yet, and tells whether it did: that is the only agreement between workers that this product
needs (``os.link`` on a disk, a conditional put on an object store). There are no locks.
"""

import contextlib
import errno
import functools
import hashlib
import io
import os
import shutil
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from shared.errors import BucketError, RequestError, ScoringError
from shared.folder_handles import Reached, ReachedByFolder, listed_folder, sync_folder
from shared.processes import is_gone, mark_of_process
from shared.records import FileDigest, check_bucket_path, check_file_name
from shared.signatures import NO_SIGNER, Signer

DELETED_AT_ONCE = 1000
"""Objects that S3 removes in one request at most."""

STRAY_SECONDS = 24 * 3600
"""Nobody writes one file for a day."""

CONNECT_SECONDS, ANSWER_SECONDS = 5, 10
"""What an object store gets to take a connection, and to say anything on it."""

TRIES = 3
"""For each call to an object store. Its libraries' own tries multiply (5 x 5 of 15 s each: six minutes for one call to a store that hangs);
whoever calls tries a whole step again after seconds, and a process that waits renews a lease that nobody else may take."""

FETCHED_AT_ONCE = 8 << 20
"""Bytes of a file of a release that one request to an object store brings."""

REASON_CHARACTERS = 500
"""How much is told of what a storage says about a failure."""

TEMPORARY = ".tmp"
"""Folder inside a local bucket for files that are being written; same file system, so that putting in place is one rename."""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One file: its path inside the bucket, its size in bytes, and a stamp that changes when the content does."""

    path: str
    size: int
    stamp: str
    """Of a disk: size and time, which a copy of the file may share. Of an object store: what it calls the content."""
    modified: float
    """Seconds since the epoch."""
    version: str = ""
    """Of a disk: inode and time of its last change, which tell a file from another of the same size and time; else empty."""


class Bucket(ABC):
    """What every kind of bucket does; paths are relative, with ``/`` between parts. Raises BucketError when it cannot."""

    url: str
    is_remote = False
    """True where every call waits for an answer over the network."""
    signer: Signer = NO_SIGNER
    """Belongs to the place as its address does: whoever reads or writes a manifest there must not forget it."""

    @abstractmethod
    def stat(self, path: str) -> FileInfo | None:
        """The file at ``path``, or None when there is none (a folder is not a file)."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """The whole content, or None when there is no such file."""

    @abstractmethod
    def open(self, path: str) -> io.BufferedReader:
        """The file opened for reading, seekable; raises BucketError when there is none."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Put a file in place unless one is there; True when this call was the first."""

    @abstractmethod
    def upload(self, local: Path, path: str) -> None:
        """Put a copy of a file of this machine in place, replacing what is there."""

    @abstractmethod
    def writer(self, path: str, *, durable: bool = False) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A file to write to; put in place when the block ends without an error, and never seen otherwise.

        ``durable`` also forces it onto the disk first, so that it is never seen empty after a power cut.
        """

    @abstractmethod
    def copy(self, source: str, target: str, *, durable: bool = False) -> None:
        """Put a copy of one file of the bucket in place at another path, without reading it here where possible.

        ``durable`` as for ``writer``.
        """

    @abstractmethod
    def files(self, folder: str) -> list[FileInfo]:
        """The files directly inside a folder, by name; empty when there is no such folder."""

    @abstractmethod
    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly inside a folder, sorted."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file; nothing happens when there is none."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all that is in it; nothing happens when there is none."""

    @abstractmethod
    def put_folder(self, local: Path, folder: str, *, last: str) -> bool:
        """Put a folder of files in place whole, unless it is there; True when this call was the first.

        ``last`` names the file whose presence says that the folder is complete. Of several at once, one is there in the end, unmixed.
        """

    @abstractmethod
    def local_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Path:
        """A folder that was put in place as a folder of this machine: in place for a local bucket, else a copy in ``cache``.

        ``files`` gives the name and digest of every file that belongs to it; of none more than one byte too many is copied.

        Raises:
            RequestError: one of the names would lead out of the folder.
        """

    @contextlib.contextmanager
    def held_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Iterator[Path]:
        """The same while the block runs: whatever takes the folder's place in a local bucket meanwhile, the path leads to the one found."""
        yield self.local_folder(folder, cache, files)

    def drop_local_folder(self, folder: str, cache: Path) -> bool:
        """Remove the copy that ``local_folder`` keeps in ``cache``, so that the next call copies it again; False when there is none."""
        del folder, cache
        return False

    @abstractmethod
    def stored_at(self, folder: str, name: str, sha256: str) -> str:
        """The path of a file of a folder that was put in place."""

    @abstractmethod
    def drop_strays(self) -> None:
        """Remove what processes that were killed had begun to write."""

    @abstractmethod
    def tree(self, folder: str, prefix: str = "") -> list[FileInfo]:
        """Every file below a folder, by path; if so only in the part of it whose paths go on with ``prefix``."""

    @abstractmethod
    def delete_many(self, paths: Sequence[str]) -> None:
        """Remove files, in few requests; folders of a disk that are empty then go as well.

        When this is broken off, any of the files may be left.
        """

    def drop_empty_folders(self, folder: str, older_than: float) -> int:
        """Remove the folders below ``folder`` that have been empty for so many seconds; how many. Only a disk has such folders."""
        del folder, older_than
        return 0

    def settle(self, folder: str) -> None:  # noqa: B027 - what an object store has confirmed is on its disks
        """Force onto the disk which files are in a folder: until then a power cut may take the last names away, or put old ones back.

        A file that is forced onto the disk later takes the names before it along, so this is for the last one.
        """

    def exists(self, path: str) -> bool:
        """True when there is a file at ``path``."""
        return self.stat(path) is not None

    def write(self, path: str, data: bytes | memoryview, *, durable: bool = False) -> None:
        """Put a file with this content in place, replacing what is there."""
        with self.writer(path, durable=durable) as out:
            out.write(data)


class LocalBucket(Bucket):
    """A bucket in a folder of this machine or of a shared file system with hard links."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = str(self.root)

    def place(self, path: str) -> Path:
        """The path of a file on this machine; raises RequestError when it would lie outside the bucket, also through a symlink."""
        with contextlib.suppress(OSError), self._reached(path):
            pass
        return self.root / path

    def _checked(self, path: str) -> str:
        try:
            return check_bucket_path(path)
        except ValueError as error:
            raise RequestError(f"the path {path!r} {error}", next_step="Name a path inside the bucket.") from None

    def _reached(self, path: str) -> Reached:
        """What the operating system opens for a file or folder that is there."""
        return Reached(self.url, self._checked(path))

    def _room(self, path: str, *, make: bool = True) -> ReachedByFolder:
        """What the operating system puts in place, or takes away. Its folder comes only now: what is never put in place leaves none."""
        return ReachedByFolder(self.url, self._checked(path), make=make)

    def stat(self, path: str) -> FileInfo | None:
        with _named(path, "read"):
            try:
                with self._reached(path) as at:
                    found = os.stat(at)  # noqa: PTH116 - as in shared.folder_handles
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _local_info(path, found) if stat.S_ISREG(found.st_mode) else None

    def read(self, path: str) -> bytes | None:
        with _named(path, "read"):
            try:
                with self._reached(path) as at, _open_file(at) as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def open(self, path: str) -> io.BufferedReader:
        with _named(path, "read"), self._reached(path) as at:
            return _open_file(at)

    @contextlib.contextmanager
    def _aside(self, path: str) -> Iterator[Path]:
        with _named(path, "written"):
            self.place(path)
            with self._room(f"{TEMPORARY}/{mark_of_process()}") as aside:
                try:
                    yield aside
                finally:
                    aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writer(self, path: str, *, durable: bool = False) -> Iterator[IO[bytes]]:
        with self._aside(path) as aside:
            with aside.open("xb") as out:
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
        # a hard link would let somebody who edits the copy in place change the original as well
        with self._aside(target) as aside:
            with self._reached(source) as at:
                shutil.copyfile(at, aside)
            if durable:
                _sync_file(aside)
            with self._room(target) as at:
                aside.replace(at)

    @contextlib.contextmanager
    def _scan(self, folder: str) -> Iterator[list[os.DirEntry[str]]]:
        """What is in a folder, which is held open while the block runs: the entries are looked at by its handle."""
        with _named(folder, "listed"), contextlib.ExitStack() as held:
            try:
                at = held.enter_context(self._reached(folder))
                entries = held.enter_context(os.scandir(at))
            except (FileNotFoundError, NotADirectoryError):
                yield []
                return
            yield sorted(entries, key=lambda entry: entry.name)

    def settle(self, folder: str) -> None:
        with _named(folder, "written"), self._reached(folder) as at:
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
        with _named(path, "removed"), contextlib.suppress(FileNotFoundError), self._room(path, make=False) as at:
            at.unlink()

    def delete_folder(self, folder: str) -> None:
        with _named(folder, "removed"), contextlib.suppress(FileNotFoundError), self._room(folder, make=False) as at:
            shutil.rmtree(at)

    def tree(self, folder: str, prefix: str = "") -> list[FileInfo]:
        infos: list[FileInfo] = []
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with _named(folder, "listed"), missing, self._reached(folder) as at, listed_folder(at) as handle:
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
        """Remove a folder and those around it that are empty then; not the first one below the bucket's own, nor one of marks."""
        while folder.count("/") > 0 and not folder.rpartition("/")[2].startswith("_"):
            try:
                with self._room(folder, make=False) as at:
                    at.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # something is in it
                return
            folder = folder.rpartition("/")[0]

    def drop_empty_folders(self, folder: str, older_than: float) -> int:
        missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with _named(folder, "cleared"), missing, self._reached(folder) as at, listed_folder(at) as handle:
            return _drop_empty_in(handle, time.time() - older_than)
        return 0

    def put_folder(self, local: Path, folder: str, *, last: str) -> bool:
        del last  # the rename below puts all files in place at once
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
        _check_names(folder, files)
        return self.place(folder)

    @contextlib.contextmanager
    def held_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Iterator[Path]:
        del cache
        _check_names(folder, files)
        with self._reached(folder) as at:
            yield Path(at)

    def drop_strays(self) -> None:
        with _named(TEMPORARY, "cleared"), contextlib.suppress(FileNotFoundError), self._reached(TEMPORARY) as folder:
            for aside in Path(folder).iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if _is_stray(aside):
                        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


def _files_in(handle: int, folder: str, prefix: str = "") -> list[FileInfo]:
    """All files below a folder that is held open, ``folder`` by name; none where a link leads to, which may be out of the bucket."""
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
    """Remove the folders below a folder that is held open which were last changed before a time and are empty; how many."""
    dropped = 0
    with os.scandir(handle) as found:
        inner = [entry for entry in found if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("_")]
    for entry in inner:
        with contextlib.suppress(OSError):
            changed = entry.stat(follow_symlinks=False).st_mtime
            with listed_folder(entry.name, handle) as folder:
                dropped += _drop_empty_in(folder, before)
            if changed < before:
                os.rmdir(entry.name, dir_fd=handle)  # fails when something is in it
                dropped += 1
    return dropped


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():  # nearly always: to look takes a fifth of the time of trying to make it
        folder.mkdir(parents=True, exist_ok=True)


def _open_file(at: str) -> io.BufferedReader:
    """Open a file for reading; a pipe or a device, which may never end, is refused unopened."""
    mode = os.stat(at).st_mode  # noqa: PTH116 - as in shared.folder_handles
    if not stat.S_ISREG(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "it is no file")
    return open(at, "rb")  # noqa: PTH123 - as in shared.folder_handles


def _sync_file(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RemoteBucket(Bucket):
    """A bucket on an object store, reached through fsspec (s3fs or gcsfs, installed as an extra)."""

    is_remote = True

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol, _, self.root = self.url.partition("://")
        self._protocol = protocol

    @property
    def fs(self) -> Any:  # noqa: ANN401 - fsspec has no types
        """The file system, opened at first use: its event loop does not survive a fork."""
        try:
            return _open_store(self._protocol)
        except ImportError as error:
            extra = "s3" if self._protocol == "s3" else "gcs"
            raise BucketError(
                f"the bucket {self.url} needs a library that is not installed: {error}",
                next_step=f"Install it with: pip install 'keyword-scoring[{extra}]'",
            ) from error

    def place(self, path: str) -> str:
        """The key of a file, with the bucket's name before it."""
        try:
            return f"{self.root}/{check_bucket_path(path)}"
        except ValueError as error:
            raise RequestError(f"the path {path!r} {error}", next_step="Name a path inside the bucket.") from None

    def stat(self, path: str) -> FileInfo | None:
        with _remotely(path, "read"):
            try:
                found = self.fs.info(self.place(path))
            except FileNotFoundError:
                return None
        return _remote_info(path, found) if found["type"] == "file" else None

    def read(self, path: str) -> bytes | None:
        with _remotely(path, "read"):
            try:
                # one request: s3fs would ask for the size first, to fetch more than 50 MB in pieces; what is read whole is smaller
                content: bytes = self.fs.cat_file(self.place(path), max_concurrency=1)
            except FileNotFoundError:
                return None
            return content

    def open(self, path: str) -> io.BufferedReader:
        return io.BufferedReader(self._open(path, cache_type="readahead"), 1 << 20)

    def _open(self, path: str, *, cache_type: str) -> "_RemoteFile":
        with _remotely(path, "read"):
            opened = self.fs.open(self.place(path), "rb", block_size=8 << 20, cache_type=cache_type)
            if opened.details["type"] != "file":
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return _RemoteFile(opened, path)

    def create(self, path: str, data: bytes) -> bool:
        with _remotely(path, "written"):
            try:
                self.fs.pipe_file(self.place(path), data, mode="create")
            except OSError as error:
                if isinstance(error, FileExistsError) or _was_there(error):
                    return False
                raise
            return True

    def upload(self, local: Path, path: str) -> None:
        with _remotely(path, "written"):
            self.fs.put_file(str(local), self.place(path))

    @contextlib.contextmanager
    def writer(self, path: str, *, durable: bool = False) -> Iterator[IO[bytes]]:
        # a remote file that is closed after an error would be put in place half-written, so it is made whole here first
        del durable
        # without a name, so that a process that is killed leaves nothing on this machine
        with _named(path, "written"), tempfile.TemporaryFile() as aside:
            yield aside
            aside.seek(0)
            self.upload(Path(f"/dev/fd/{aside.fileno()}"), path)

    def copy(self, source: str, target: str, *, durable: bool = False) -> None:
        del durable  # what an object store has confirmed is on its disks
        with _remotely(target, "written"):
            self.fs.cp_file(self.place(source), self.place(target))

    def _ls(self, folder: str) -> list[dict[str, Any]]:
        with _remotely(folder, "listed"):
            try:
                found: list[dict[str, Any]] = self.fs.ls(self.place(folder), detail=True, refresh=True)
            except FileNotFoundError:
                return []
            # a store lists a file, and the marker that stands for an empty folder, as if they were inside themselves
            within = [entry for entry in found if entry["name"].rstrip("/") != self.place(folder)]
            return sorted(within, key=lambda entry: entry["name"])

    def files(self, folder: str) -> list[FileInfo]:
        return [_remote_info(f"{folder}/{_last(entry)}", entry) for entry in self._ls(folder) if entry["type"] == "file"]

    def folders(self, folder: str) -> list[str]:
        return [_last(entry) for entry in self._ls(folder) if entry["type"] == "directory"]

    def delete(self, path: str) -> None:
        with _remotely(path, "removed"), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.place(path))

    def tree(self, folder: str, prefix: str = "") -> list[FileInfo]:
        with _remotely(folder, "listed"):
            found: dict[str, dict[str, Any]] = self.fs.find(self.place(folder), detail=True, prefix=prefix, refresh=True)
        own = self.place(folder)
        # without the markers that stand for empty folders
        inside = [(name, entry) for name, entry in found.items() if name.startswith(f"{own}/") and entry["type"] == "file"]
        files = [(name, entry) for name, entry in inside if not str(entry.get("name", name)).endswith("/")]
        return [_remote_info(name.removeprefix(f"{self.root}/"), entry) for name, entry in sorted(files)]

    def delete_many(self, paths: Sequence[str]) -> None:
        if paths:
            with _remotely(paths[0], "removed"):
                self._delete_keys([self.place(path) for path in paths])

    def _delete_keys(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), DELETED_AT_ONCE):
            lot = keys[start : start + DELETED_AT_ONCE]
            if self._protocol == "s3":
                _delete_on_s3(self.fs, lot)
                continue
            for key in lot:
                with contextlib.suppress(FileNotFoundError):  # somebody else removes the same
                    self.fs.rm_file(key)

    def delete_folder(self, folder: str) -> None:
        # by their names: what removes a whole folder takes a * in its name for a pattern
        with _remotely(folder, "removed"):
            self._delete_keys(self.fs.find(self.place(folder)))

    def put_folder(self, local: Path, folder: str, *, last: str) -> bool:
        if self.exists(f"{folder}/{last}"):
            return False
        for file in sorted(local.iterdir()):
            if file.name != last:
                # named by its content: whoever puts another file of this name here at the same time does not replace it
                with file.open("rb") as content:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
                self.upload(file, f"{folder}/{_by_content(file.name, digest)}")
        return self.create(f"{folder}/{last}", (local / last).read_bytes())

    def stored_at(self, folder: str, name: str, sha256: str) -> str:
        by_content = f"{folder}/{_by_content(name, sha256)}"
        # under its own name in folders of an earlier version
        return by_content if self.exists(by_content) else f"{folder}/{name}"

    def local_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Path:
        self.place(folder)  # a path that leads elsewhere must not lead out of the cache either
        _check_names(folder, files)
        target = cache / folder
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        for stray in target.parent.glob(".*"):
            if is_gone(stray.name.removeprefix(".")):
                shutil.rmtree(stray, ignore_errors=True)
        aside = target.parent / f".{mark_of_process()}"
        aside.mkdir()
        try:
            lacking = [name for name, digest in files.items() if not self._fetch(folder, name, digest, aside)]
            sync_folder(aside)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        if lacking:
            return aside  # not kept: it may be whole the next time
        try:
            aside.rename(target)
        except OSError:  # another process of this machine was faster
            shutil.rmtree(aside, ignore_errors=True)
        sync_folder(target.parent)
        return target

    def drop_local_folder(self, folder: str, cache: Path) -> bool:
        self.place(folder)
        target = cache / folder
        aside = target.parent / f".{mark_of_process()}"
        try:
            target.rename(aside)  # whoever copies from it sees all of it or nothing
        except OSError:
            return False
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def _fetch(self, folder: str, name: str, digest: FileDigest, into: Path) -> bool:
        """Copy a file of a folder to this machine, but no more of it than a byte too many; False when there is none."""
        local = into / name
        if local.parent != into:
            raise _leads_out(folder, name)
        path = self.stored_at(folder, name, digest.sha256)
        if not self.exists(path):
            return False
        left = digest.size + 1
        with self._open(path, cache_type="none") as content, local.open("xb") as out:
            # without a cache it asks for just the bytes that are wanted here, whatever the object has grown to
            while left and (block := content.read(min(left, FETCHED_AT_ONCE))):
                left -= out.write(block)
            out.flush()
            os.fsync(out.fileno())
        return True

    def drop_strays(self) -> None:
        """Nothing: an object store keeps no half of an object."""


class _RemoteFile(io.RawIOBase):
    """An open file of an object store, which fails like everything else in a bucket."""

    def __init__(self, opened: Any, path: str) -> None:  # noqa: ANN401 - fsspec has no types
        self._opened, self._path = opened, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        return int(self._opened.tell())

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any buffer
        with _remotely(self._path, "read"):
            return int(self._opened.readinto(buffer))

    def close(self) -> None:
        self._opened.close()
        super().close()


def _check_names(folder: str, names: Iterable[str]) -> None:
    """Raise RequestError when one of the names is no plain name of a file."""
    for name in names:
        try:
            check_file_name(name)
        except ValueError as error:
            raise _leads_out(folder, name) from error


def _leads_out(folder: str, name: str) -> RequestError:
    return RequestError(f"the name {name!r} of a file of {folder} leads out of the folder", next_step="Remove that folder from the bucket.")


def open_bucket(url: str, signer: Signer = NO_SIGNER) -> Bucket:
    """The bucket at ``url``: a folder (made at the first write), ``s3://...`` or ``gs://...``; opens no connection yet."""
    remote = url.startswith(("s3://", "gs://"))
    bucket = RemoteBucket(url) if remote else LocalBucket(Path(url.removeprefix("file://")))
    bucket.signer = signer
    return bucket


@functools.cache
def _s3_session() -> Any:  # noqa: ANN401 - aiobotocore has no types
    """A session whose uploads do not ask first whether they may: a store that hangs would be waited for without end."""
    from aiobotocore.session import AioSession  # noqa: PLC0415 - comes with s3fs, as does botocore
    from botocore.handlers import add_expect_header  # noqa: PLC0415

    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)
    return session


def _open_store(protocol: str) -> Any:  # noqa: ANN401 - fsspec has no types
    """The file system of an object store, as patient as is said above; its library is loaded only now, not with the command line."""
    if protocol == "s3":
        import fsspec  # noqa: PLC0415

        attempts = {"mode": "standard", "total_max_attempts": TRIES}
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS, "retries": attempts}
        opened = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=limits, session=_s3_session())
        opened.retries = 1  # of s3fs, around those above
        return opened
    from aiohttp import ClientTimeout  # noqa: PLC0415 - comes with gcsfs

    from shared.google_storage import GoogleStorage  # noqa: PLC0415

    limit = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
    return GoogleStorage(tries=TRIES, use_listings_cache=False, requests_timeout=limit)


def _delete_on_s3(fs: Any, keys: Sequence[str]) -> None:  # noqa: ANN401 - fsspec has no types
    """Remove up to a thousand objects in one request; s3fs' own call does not say which of them could not be removed."""
    bucket = fs.split_path(keys[0])[0]
    wanted = {"Objects": [{"Key": fs.split_path(key)[1]} for key in keys], "Quiet": True}
    answer = fs.call_s3("delete_objects", Bucket=bucket, Delete=wanted)
    for refused in answer.get("Errors", []):
        raise OSError(f"{refused.get('Key')}: {refused.get('Message') or refused.get('Code')}")


@contextlib.contextmanager
def _named(path: str, done: str) -> Iterator[None]:
    """Turn any failure of the storage into one sentence that names the file."""
    try:
        yield
    except OSError as error:
        step = {
            errno.ENOSPC: "Free some space; the job then goes on by itself or with: scoring jobs resume JOB",
            errno.EACCES: "Let this user read and write the bucket, or set BUCKET_URL to another place.",
            errno.EROFS: "Set BUCKET_URL to a place that can be written.",
        }.get(error.errno or 0, "Check BUCKET_URL and that the storage can be reached.")
        raise BucketError(f"{path} in the bucket could not be {done}: {_reason(error)}", next_step=step) from error


@contextlib.contextmanager
def _remotely(path: str, done: str) -> Iterator[None]:
    """Like ``_named`` for an object store: its libraries raise errors of their own, which share no parent but Exception."""
    try:
        with _named(path, done):
            yield
    except ScoringError:
        raise
    except Exception as error:
        step = "Check BUCKET_URL, the credentials, and that the storage can be reached."
        raise BucketError(f"{path} in the bucket could not be {done}: {_reason(error)}", next_step=step) from error


def _reason(error: Exception) -> str:
    """Why it failed, on one line: of the libraries of the stores some say it with a page of HTML, some with an address, some not at all."""
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return "there is no such file, or no such bucket"
    words = (getattr(error, "strerror", None) or str(error)).split()
    return " ".join(words)[:REASON_CHARACTERS] or type(error).__name__


def _was_there(error: OSError) -> bool:
    """True when a store other than AWS refused a conditional put: s3fs knows only how AWS words it."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("Error", {}).get("Code") == "PreconditionFailed")


def _is_stray(aside: Path) -> bool:
    """True when the process that writes this file is gone: known for this machine, by age for another."""
    return is_gone(aside.name) or time.time() - aside.stat().st_mtime > STRAY_SECONDS


def _local_info(path: str, found: os.stat_result) -> FileInfo:
    return FileInfo(
        path=path,
        size=found.st_size,
        stamp=f"{found.st_size}-{found.st_mtime_ns}",
        modified=found.st_mtime,
        version=f"{found.st_ino}-{found.st_ctime_ns}",
    )


def _remote_info(path: str, found: dict[str, Any]) -> FileInfo:
    # the words of S3, then those of Google, whose etag changes with the storage class as well
    modified = found.get("LastModified") or found.get("mtime")
    seconds = modified.timestamp() if isinstance(modified, datetime) else 0.0
    stamp = str(found.get("ETag") or found.get("generation") or f"{found['size']}-{modified}").strip('"')
    return FileInfo(path=path, size=int(found["size"]), stamp=stamp, modified=seconds)


def _by_content(name: str, sha256: str) -> str:
    return f"{sha256[:16]}-{name}"


def _last(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]
