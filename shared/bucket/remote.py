"""A bucket on an object store: S3 or Google Cloud Storage, through fsspec."""

import contextlib
import errno
import functools
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from shared.bucket.folder_handles import sync_folder
from shared.bucket.interface import Bucket, FileInfo, check_names, reason, storage_errors, unsafe_name_error
from shared.errors import BucketError, RequestError, ScoringError
from shared.processes import has_ended, process_token
from shared.records import FileDigest, check_bucket_path

DELETED_AT_ONCE = 1000
"""The most objects that S3 removes in one request."""

CONNECT_SECONDS, ANSWER_SECONDS = 5, 10
"""The limits for an object store to accept a connection, and for each read from it."""

TRIES = 3
"""Tries of each call to an object store. The libraries' own tries multiply: 5 x 5 of 15 s each are six minutes for one call to a store that
hangs. The caller retries a whole step after seconds, and a waiting process renews a lease that no other process may take.
"""

FETCHED_AT_ONCE = 8 << 20
"""Bytes of a release file that one request to an object store fetches."""


class RemoteBucket(Bucket):
    """A bucket on an object store, reached through fsspec (s3fs or gcsfs, installed as an extra)."""

    is_remote = True

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol, _, self.root = self.url.partition("://")
        self._protocol = protocol

    @property
    def fs(self) -> Any:  # noqa: ANN401 - fsspec has no types
        """The file system, opened at first use because its event loop does not survive a fork."""
        try:
            return _open_store(self._protocol)
        except ImportError as error:
            extra = "s3" if self._protocol == "s3" else "gcs"
            raise BucketError(
                f"the bucket {self.url} needs a library that is not installed: {error}",
                next_step=f"Install it with: pip install 'keyword-scoring[{extra}]'",
            ) from error

    def place(self, path: str) -> str:
        """The key of a file, prefixed with the bucket's name."""
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
                # one request: s3fs would first ask for the size, to fetch more than 50 MB in pieces; files that are read whole are smaller
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
        # closing a remote file after an error would store the half-written object, so the content is completed locally first
        del durable
        # without a name, so that a killed process leaves no file
        with storage_errors(path, "written"), tempfile.TemporaryFile() as aside:
            yield aside
            aside.seek(0)
            self.upload(Path(f"/dev/fd/{aside.fileno()}"), path)

    def copy(self, source: str, target: str, *, durable: bool = False) -> None:
        del durable  # an object store confirms only what is on its disks
        with _remotely(target, "written"):
            self.fs.cp_file(self.place(source), self.place(target))

    def _ls(self, folder: str) -> list[dict[str, Any]]:
        with _remotely(folder, "listed"):
            try:
                found: list[dict[str, Any]] = self.fs.ls(self.place(folder), detail=True, refresh=True)
            except FileNotFoundError:
                return []
            # a store lists a file, and the marker object of an empty folder, as if they were inside themselves
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
        # without the marker objects of empty folders
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
                with contextlib.suppress(FileNotFoundError):  # another process removes the same files
                    self.fs.rm_file(key)

    def delete_folder(self, folder: str) -> None:
        # by name: the call that removes a whole folder reads a * in its name as a pattern
        with _remotely(folder, "removed"):
            self._delete_keys(self.fs.find(self.place(folder)))

    def put_folder(self, local: Path, folder: str, *, last: str) -> bool:
        if self.exists(f"{folder}/{last}"):
            return False
        for file in sorted(local.iterdir()):
            if file.name != last:
                # named by its content: another writer that stores a file of this name at the same time does not replace it
                with file.open("rb") as content:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
                self.upload(file, f"{folder}/{_by_content(file.name, digest)}")
        return self.create(f"{folder}/{last}", (local / last).read_bytes())

    def stored_at(self, folder: str, name: str, sha256: str) -> str:
        by_content = f"{folder}/{_by_content(name, sha256)}"
        # folders of an earlier version use plain names
        return by_content if self.exists(by_content) else f"{folder}/{name}"

    def local_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Path:
        self.place(folder)  # a path that leads outside the bucket must not lead outside the cache either
        check_names(folder, files)
        target = cache / folder
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        for stray in target.parent.glob(".*"):
            if has_ended(stray.name.removeprefix(".")):
                shutil.rmtree(stray, ignore_errors=True)
        aside = target.parent / f".{process_token()}"
        aside.mkdir()
        try:
            lacking = [name for name, digest in files.items() if not self._fetch(folder, name, digest, aside)]
            sync_folder(aside)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        if lacking:
            return aside  # not kept: the folder may be complete the next time
        try:
            aside.rename(target)
        except OSError:  # another process of this machine was faster
            shutil.rmtree(aside, ignore_errors=True)
        sync_folder(target.parent)
        return target

    def drop_local_folder(self, folder: str, cache: Path) -> bool:
        self.place(folder)
        target = cache / folder
        aside = target.parent / f".{process_token()}"
        try:
            target.rename(aside)  # a process that copies from it sees all of it or nothing
        except OSError:
            return False
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def _fetch(self, folder: str, name: str, digest: FileDigest, into: Path) -> bool:
        """Copies a file of a folder to this machine, at most one byte more than its known size; False when the file does not exist."""
        local = into / name
        if local.parent != into:
            raise unsafe_name_error(folder, name)
        path = self.stored_at(folder, name, digest.sha256)
        if not self.exists(path):
            return False
        left = digest.size + 1
        with self._open(path, cache_type="none") as content, local.open("xb") as out:
            # without a cache each read requests only these bytes, however large the object has become
            while left and (block := content.read(min(left, FETCHED_AT_ONCE))):
                left -= out.write(block)
            out.flush()
            os.fsync(out.fileno())
        return True

    def drop_orphans(self) -> None:
        """Does nothing: an object store keeps no partial objects."""


class _RemoteFile(io.RawIOBase):
    """An open file of an object store, whose errors are BucketErrors."""

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


@functools.cache
def _s3_session() -> Any:  # noqa: ANN401 - aiobotocore has no types
    """A session whose uploads send no ``Expect: 100-continue``: the wait for a store that hangs would have no limit."""
    from aiobotocore.session import AioSession  # noqa: PLC0415 - comes with s3fs, as does botocore
    from botocore.handlers import add_expect_header  # noqa: PLC0415

    session = AioSession()
    session.unregister("before-call.s3", add_expect_header)
    return session


def _open_store(protocol: str) -> Any:  # noqa: ANN401 - fsspec has no types
    """The file system of an object store with the limits above. The library is imported only now, to keep the command line fast."""
    if protocol == "s3":
        import fsspec  # noqa: PLC0415

        attempts = {"mode": "standard", "total_max_attempts": TRIES}
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": ANSWER_SECONDS, "retries": attempts}
        opened = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=limits, session=_s3_session())
        opened.retries = 1  # s3fs' own tries, around those above
        return opened
    from aiohttp import ClientTimeout  # noqa: PLC0415 - comes with gcsfs

    from shared.bucket.google import GoogleStorage  # noqa: PLC0415

    limit = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
    return GoogleStorage(tries=TRIES, use_listings_cache=False, requests_timeout=limit)


def _delete_on_s3(fs: Any, keys: Sequence[str]) -> None:  # noqa: ANN401 - fsspec has no types
    """Removes up to 1,000 objects in one request. s3fs' own call does not report which of them failed."""
    bucket = fs.split_path(keys[0])[0]
    wanted = {"Objects": [{"Key": fs.split_path(key)[1]} for key in keys], "Quiet": True}
    answer = fs.call_s3("delete_objects", Bucket=bucket, Delete=wanted)
    for refused in answer.get("Errors", []):
        raise OSError(f"{refused.get('Key')}: {refused.get('Message') or refused.get('Code')}")


@contextlib.contextmanager
def _remotely(path: str, done: str) -> Iterator[None]:
    """Like ``storage_errors``, for an object store: its libraries raise their own errors, whose only common parent is Exception."""
    try:
        with storage_errors(path, done):
            yield
    except ScoringError:
        raise
    except Exception as error:
        step = "Check BUCKET_URL, the credentials, and that the storage can be reached."
        raise BucketError(f"{path} in the bucket could not be {done}: {reason(error)}", next_step=step) from error


def _was_there(error: OSError) -> bool:
    """Returns True when a store other than AWS refused a conditional put: s3fs only recognizes the words of AWS."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("Error", {}).get("Code") == "PreconditionFailed")


def _remote_info(path: str, found: dict[str, Any]) -> FileInfo:
    # field names of S3, then those of Google, whose etag also changes with the storage class
    modified = found.get("LastModified") or found.get("mtime")
    seconds = modified.timestamp() if isinstance(modified, datetime) else 0.0
    stamp = str(found.get("ETag") or found.get("generation") or f"{found['size']}-{modified}").strip('"')
    return FileInfo(path=path, size=int(found["size"]), stamp=stamp, modified=seconds)


def _by_content(name: str, sha256: str) -> str:
    return f"{sha256[:16]}-{name}"


def _last(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]
