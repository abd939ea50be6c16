"""What retention decides about: one thing, why it stays or goes, and in which order its files are removed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.bucket.interface import FileInfo
from shared.jobs.files import NOTICE, JobFile, PartFile, Subfolder

LEFT_AFTER = timedelta(days=1)
"""Nobody is still writing what was last written to so long ago."""


class Kind(StrEnum):
    """The kinds of things that come and go."""

    SLICES = "slices"
    PARTS = "parts"
    JOB_FILES = "job files"
    """All of a job but its request, outcome and manifest."""
    JOB_RECORD = "job record"
    """Those three."""
    REVISION = "revision"
    RESULT = "result"
    """A place with all its revisions."""
    REQUEST = "request"
    NOTICE = "notice"
    LEFTOVER = "leftover"
    """What a process that died, or a removal that was broken off, left."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing in the bucket, and what the rules say about it."""

    kind: Kind
    name: str
    """The id of a job, or a path."""
    size: int
    """Bytes."""
    goes: bool
    reason: str
    paths: Sequence[str] = ()
    """The files to remove, of a thing that goes."""
    mark: str = ""
    """A file to write before: it says that what is left is no longer whole."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return str(self.kind), self.name


def stays(kind: Kind, name: str, files: Iterable[FileInfo], reason: str) -> Thing:
    """A thing that is left alone."""
    return Thing(kind=kind, name=name, size=total(files), goes=False, reason=reason)


def goes(kind: Kind, name: str, files: Sequence[FileInfo], reason: str, *, mark: str = "") -> Thing:
    """A thing whose time is over."""
    return Thing(kind=kind, name=name, size=total(files), goes=True, reason=reason, paths=tuple(file.path for file in files), mark=mark)


def total(files: Iterable[FileInfo]) -> int:
    """The bytes of these files."""
    return sum(file.size for file in files)


def newest(files: Iterable[FileInfo]) -> datetime:
    """When the last of these files was written."""
    return datetime.fromtimestamp(max((file.modified for file in files), default=0.0), UTC)


def day(moment: datetime) -> str:
    """A moment as people are told it."""
    return f"{moment:%Y-%m-%d}"


def made_at(job_id: str) -> datetime | None:
    """The time with which the id of a job starts; None where it is no such id."""
    try:
        return datetime.strptime(job_id[:15], "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def removal_rank(path: str) -> int:
    """The turn in which a file is removed: marks of completeness first, what a job needs to continue last."""
    name = path.rpartition("/")[2]
    if name in (JobFile.MANIFEST, JobFile.REQUEST, NOTICE) or (f"/{Subfolder.PARTS}/" in path and name.endswith(f".{PartFile.COMPLETE}")):
        return 0
    if name == JobFile.PLAN:
        return 2
    return 3 if name == JobFile.BEGUN else 1
