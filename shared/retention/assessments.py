"""Assessments of retention: why something stays or is removed, and the order in which its files are removed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from shared.bucket.interface import FileInfo
from shared.jobs.files import NOTICE, JobFile, PartFile, Subfolder


class Kind(StrEnum):
    """The kinds of things that retention removes."""

    SLICES = "slices"
    PARTS = "parts"
    JOB_FILES = "job files"
    """All files of a job except its request, outcome and manifest."""
    JOB_RECORD = "job record"
    """The request, outcome and manifest of a job."""
    REVISION = "revision"
    RESULT = "result"
    """A place with all its revisions."""
    REQUEST = "request"
    NOTICE = "notice"
    LEFTOVER = "leftover"
    """Files left by a process that died or by an interrupted removal."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The assessment of something in the bucket: whether retention removes it, and why."""

    kind: Kind
    name: str
    """A job id or a path."""
    size: int
    """In bytes."""
    is_removed: bool
    reason: str
    paths: Sequence[str] = ()
    """The files to remove, if the thing goes."""
    mark: str = ""
    """A file to write before the removal, which marks the rest as incomplete."""

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the thing across assessments."""
        return str(self.kind), self.name


def to_keep(kind: Kind, name: str, files: Iterable[FileInfo], reason: str) -> Assessment:
    """Makes a thing that stays."""
    return Assessment(kind=kind, name=name, size=total(files), is_removed=False, reason=reason)


def to_remove(kind: Kind, name: str, files: Sequence[FileInfo], reason: str, *, mark: str = "") -> Assessment:
    """Makes a thing that is removed."""
    return Assessment(
        kind=kind, name=name, size=total(files), is_removed=True, reason=reason, paths=tuple(file.path for file in files), mark=mark
    )


def total(files: Iterable[FileInfo]) -> int:
    """The size of these files, in bytes."""
    return sum(file.size for file in files)


def newest(files: Iterable[FileInfo]) -> datetime:
    """The modification time of the newest of these files."""
    return datetime.fromtimestamp(max((file.modified for file in files), default=0.0), UTC)


def day(moment: datetime) -> str:
    """A moment as a date, for people."""
    return f"{moment:%Y-%m-%d}"


def removal_rank(path: str) -> int:
    """The order of a file in a removal: marks of completeness first, files that a job needs to continue last."""
    name = path.rpartition("/")[2]
    if name in (JobFile.MANIFEST, JobFile.REQUEST, NOTICE) or (f"/{Subfolder.PARTS}/" in path and name.endswith(f".{PartFile.COMPLETE}")):
        return 0
    if name == JobFile.PLAN:
        return 2
    return 3 if name == JobFile.PINNED else 1
