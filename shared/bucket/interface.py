"""The store of all files: a local folder, S3 or Google Cloud Storage, with the same guarantees on each.

A file is visible whole or not at all: it is written to a temporary place and then moved, so a reader never sees half of it. ``create``
puts a file in place only if none exists and returns whether it did. This is the only agreement between workers that the product needs
(``os.link`` on a disk, a conditional put on an object store). There are no locks.
"""

import contextlib
import errno
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shared.errors import BucketError, RequestError
from shared.records import FileDigest, check_file_name
from shared.signatures import NO_SIGNER, Signer

REASON_CHARACTERS = 500
"""The longest part of a storage error that is shown, in characters."""


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """One file: its path inside the bucket, its size in bytes, and a stamp that changes when the content does."""

    path: str
    size: int
    stamp: str
    """On a disk: size and time, which a copy of the file may share. On an object store: its identifier of the content."""
    modified: float
    """Seconds since the epoch."""
    version: str = ""
    """On a disk: inode and change time, which distinguish files of the same size and modification time; else empty."""


class Bucket(ABC):
    """The interface of every bucket. Paths are relative, with ``/`` between parts. Methods raise BucketError when the storage fails."""

    url: str
    is_remote = False
    """True where every call waits for an answer over the network."""
    signer: Signer = NO_SIGNER
    """Signs and checks the manifests in this bucket; every reader and writer of one needs it."""

    @abstractmethod
    def stat(self, path: str) -> FileInfo | None:
        """The file at ``path``, or None when there is none (a folder is not a file)."""

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """The whole content, or None when the file does not exist."""

    @abstractmethod
    def open(self, path: str) -> io.BufferedReader:
        """The file opened for reading, seekable; raises BucketError when it does not exist."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Puts a file in place unless one exists; returns True if this call created it."""

    @abstractmethod
    def upload(self, local: Path, path: str) -> None:
        """Puts a copy of a local file in place, replacing an existing one."""

    @abstractmethod
    def writer(self, path: str, *, durable: bool = False) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A file to write to. It is put in place when the block ends without an error, and is never visible otherwise.

        ``durable`` also forces it onto the disk first, so that a power cut never leaves it empty.
        """

    @abstractmethod
    def copy(self, source: str, target: str, *, durable: bool = False) -> None:
        """Puts a copy of a bucket file in place at another path, where possible without reading it here.

        ``durable`` works as for ``writer``.
        """

    @abstractmethod
    def files(self, folder: str) -> list[FileInfo]:
        """The files directly inside a folder, by name; empty when the folder does not exist."""

    @abstractmethod
    def folders(self, folder: str) -> list[str]:
        """The names of the folders directly inside a folder, sorted."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Removes a file; a missing one is ignored."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Removes a folder with its contents; a missing one is ignored."""

    @abstractmethod
    def put_folder(self, local: Path, folder: str, *, last: str) -> bool:
        """Puts a folder of files in place as a whole, unless it exists; True when this call created it.

        ``last`` names the file whose presence marks the folder as complete. Of several concurrent writers one wins, and files are never
        mixed.
        """

    @abstractmethod
    def local_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Path:
        """A stored folder as a local path: the folder itself for a local bucket, else a copy in ``cache``.

        ``files`` gives the name and digest of every file that belongs to it. At most one byte more than the known size of a file is copied.

        Raises:
            RequestError: a file name would lead outside the folder.
        """

    @contextlib.contextmanager
    def held_folder(self, folder: str, cache: Path, files: Mapping[str, FileDigest]) -> Iterator[Path]:
        """A stored folder as a local path that stays valid while the block runs, even if a local folder is replaced meanwhile."""
        yield self.local_folder(folder, cache, files)

    def drop_local_folder(self, folder: str, cache: Path) -> bool:
        """Removes the copy that ``local_folder`` keeps in ``cache``, so that the next call copies it again; False when there is no copy."""
        del folder, cache
        return False

    @abstractmethod
    def stored_at(self, folder: str, name: str, sha256: str) -> str:
        """The path of a file in a folder that ``put_folder`` stored."""

    @abstractmethod
    def drop_orphans(self) -> None:
        """Removes temporary files of processes that were killed."""

    @abstractmethod
    def tree(self, folder: str, prefix: str = "") -> list[FileInfo]:
        """Every file below a folder, by path; with ``prefix``, only the files whose path inside the folder starts with it."""

    @abstractmethod
    def delete_many(self, paths: Sequence[str]) -> None:
        """Removes files in few requests; on a disk, folders that become empty are removed too.

        An interrupted call may leave any of the files.
        """

    def drop_empty_folders(self, folder: str, older_than: float) -> int:
        """Removes the folders below ``folder`` that have been empty for ``older_than`` seconds; returns how many.

        Only a disk has such folders.
        """
        del folder, older_than
        return 0

    def settle(self, folder: str) -> None:  # noqa: B027 - an object store confirms only what is on its disks
        """Forces the list of files in a folder onto the disk: before that, a power cut may lose new names or restore removed ones.

        Forcing a later file onto the disk covers the earlier names too, so only the last one needs this call.
        """

    def exists(self, path: str) -> bool:
        """Returns True when a file exists at ``path``."""
        return self.stat(path) is not None

    def write(self, path: str, data: bytes | memoryview, *, durable: bool = False) -> None:
        """Puts a file with this content in place, replacing an existing one."""
        with self.writer(path, durable=durable) as out:
            out.write(data)


def check_names(folder: str, names: Iterable[str]) -> None:
    """Raises RequestError when one of the names is not a plain file name."""
    for name in names:
        try:
            check_file_name(name)
        except ValueError as error:
            raise unsafe_name_error(folder, name) from error


def unsafe_name_error(folder: str, name: str) -> RequestError:
    """The error for a file name that leads outside its folder."""
    return RequestError(f"the name {name!r} of a file of {folder} leads out of the folder", next_step="Remove that folder from the bucket.")


@contextlib.contextmanager
def storage_errors(path: str, verb: str) -> Iterator[None]:
    """Converts OSError into BucketError with the file's name; ``verb`` is what was being done to it ("read", "written")."""
    try:
        yield
    except OSError as error:
        step = {
            errno.ENOSPC: "Free some space; the job then goes on by itself or with: scoring jobs resume JOB",
            errno.EACCES: "Let this user read and write the bucket, or set BUCKET_URL to another place.",
            errno.EROFS: "Set BUCKET_URL to a place that can be written.",
        }.get(error.errno or 0, "Check BUCKET_URL and that the storage can be reached.")
        raise BucketError(f"{path} in the bucket could not be {verb}: {reason(error)}", next_step=step) from error


def reason(error: Exception) -> str:
    """The reason for a failure, on one line. The libraries of the stores answer with a page of HTML, an address, or nothing at all."""
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return "there is no such file, or no such bucket"
    words = (getattr(error, "strerror", None) or str(error)).split()
    return " ".join(words)[:REASON_CHARACTERS] or type(error).__name__
