"""The place where all files live: a local folder, S3 or Google Cloud Storage, with one promise on each of them.

A file is there whole or not at all: it is written aside and then put in place, so no reader ever sees half of it. ``create`` puts a
file in place only if none is there yet, and tells whether it did: that is the only agreement between workers that this product
needs (``os.link`` on a disk, a conditional put on an object store). There are no locks.
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
"""How much is told of what a storage says about a failure."""


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
    """Belongs to the place as its address does: every reader and writer of a manifest there needs it."""

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
    def drop_orphans(self) -> None:
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


def check_names(folder: str, names: Iterable[str]) -> None:
    """Raise RequestError when one of the names is no plain name of a file."""
    for name in names:
        try:
            check_file_name(name)
        except ValueError as error:
            raise leads_out(folder, name) from error


def leads_out(folder: str, name: str) -> RequestError:
    return RequestError(f"the name {name!r} of a file of {folder} leads out of the folder", next_step="Remove that folder from the bucket.")


@contextlib.contextmanager
def named(path: str, done: str) -> Iterator[None]:
    """Turn any failure of the storage into one sentence that names the file."""
    try:
        yield
    except OSError as error:
        step = {
            errno.ENOSPC: "Free some space; the job then goes on by itself or with: scoring jobs resume JOB",
            errno.EACCES: "Let this user read and write the bucket, or set BUCKET_URL to another place.",
            errno.EROFS: "Set BUCKET_URL to a place that can be written.",
        }.get(error.errno or 0, "Check BUCKET_URL and that the storage can be reached.")
        raise BucketError(f"{path} in the bucket could not be {done}: {reason(error)}", next_step=step) from error


def reason(error: Exception) -> str:
    """Why it failed, on one line: of the libraries of the stores some say it with a page of HTML, some with an address, some not at all."""
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return "there is no such file, or no such bucket"
    words = (getattr(error, "strerror", None) or str(error)).split()
    return " ".join(words)[:REASON_CHARACTERS] or type(error).__name__
