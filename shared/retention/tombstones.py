"""Tombstones: things to remove are recorded first and removed a day later.

    gc/tombstones/<id>.json     things to remove, with the reason for each       (first writer wins)
       removing/<id>            a mark: the removal of these things has begun
       undone/<id>.json         things whose removal a person cancelled; they stay for at least a week
       progress.json            the progress of the daily round

Until their removal such things work as before: a reader sees no difference.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from shared.bucket.interface import Bucket
from shared.errors import MessageError, RequestError
from shared.records import Record, Timestamp, decode_long
from shared.retention.assessments import Assessment

GC = "gc"
TOMBSTONES, REMOVING, UNDONE = f"{GC}/tombstones", f"{GC}/removing", f"{GC}/undone"
GRACE = timedelta(hours=24)
"""The time between tombstone and removal."""
TAKEN_BACK_FOR = timedelta(days=7)
"""After an undo, a thing gets no new tombstone for this time."""
MOST_THINGS = 1000
"""The most things in one tombstone."""

log = structlog.get_logger()


class Marked(Record):
    """A thing with a tombstone."""

    kind: str
    name: str
    size: int
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the thing, like ``Assessment.key``."""
        return self.kind, self.name


class Tombstone(Record):
    """Things to remove, and the time of their tombstone."""

    at: Timestamp
    things: list[Marked]


@dataclass(kw_only=True)
class Marks:
    """The things with a tombstone, and those whose removal was cancelled."""

    due: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """Key of an assessment -> the time of the removal."""
    taken_back: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """Key of an assessment -> the time until which it stays."""

    def is_new(self, thing: Assessment) -> bool:
        """Returns True for a thing that goes and has no tombstone yet."""
        return thing.is_removed and thing.key not in self.due and thing.key not in self.taken_back


def read_marks(bucket: Bucket, now: datetime) -> Marks:
    """Reads all tombstones, and the things whose removal was cancelled in the last week."""
    marks = Marks()
    for _, tombstone in read_all(bucket, TOMBSTONES):
        marks.due |= dict.fromkeys([thing.key for thing in tombstone.things], tombstone.at + GRACE)
    for _, undone in read_all(bucket, UNDONE):
        if now - undone.at < TAKEN_BACK_FOR:
            marks.taken_back |= dict.fromkeys([thing.key for thing in undone.things], undone.at + TAKEN_BACK_FOR)
    return marks


def forget_taken_back(bucket: Bucket, now: datetime) -> None:
    """Removes the records of cancellations that are more than a week old."""
    bucket.delete_many([path for path, undone in read_all(bucket, UNDONE) if now - undone.at >= TAKEN_BACK_FOR])


def mark(bucket: Bucket, things: Sequence[Assessment], now: datetime) -> None:
    """Writes tombstones for these things."""
    for start in range(0, len(things), MOST_THINGS):
        marked = [
            Marked(kind=thing.kind, name=thing.name, size=thing.size, reason=thing.reason) for thing in things[start : start + MOST_THINGS]
        ]
        _write(bucket, TOMBSTONES, Tombstone(at=now, things=marked), now)


def read_tombstone(bucket: Bucket, path: str) -> Tombstone | None:
    """Reads a tombstone; None when it was cancelled or is damaged, and nothing of it is removed."""
    text = bucket.read(path)
    try:
        return None if text is None else decode_long(Tombstone, text)
    except MessageError as error:
        log.error("unreadable tombstone skipped", path=path, error=str(error))
        return None


def read_all(bucket: Bucket, folder: str) -> Iterator[tuple[str, Tombstone]]:
    """Yields the tombstones of a folder with their paths, the oldest first."""
    for info in bucket.files(folder):
        found = read_tombstone(bucket, info.path)
        if found is not None:
            yield info.path, found


def removing_mark(path: str) -> str:
    """The path of the mark that the removal of this tombstone's things has begun."""
    return f"{REMOVING}/{name_of(path)}"


def drop_finished_marks(bucket: Bucket) -> None:
    """Removes the marks of removals that ended: a process that dies between the tombstone and its mark leaves the mark."""
    for info in bucket.files(REMOVING):
        if not bucket.exists(f"{TOMBSTONES}/{name_of(info.path)}.json"):
            bucket.delete(info.path)


def name_of(path: str) -> str:
    """The id of a tombstone."""
    return path.rpartition("/")[2].removesuffix(".json")


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """The result of an undo."""

    things: list[Marked]
    begun: list[str]
    """Names of those whose removal has begun: some of their files may be gone."""


def undo(bucket: Bucket, wanted: str | None, now: datetime) -> TakenBack:
    """Cancels the removal of all things, of those with one tombstone id, or of one thing by its name.

    Raises:
        RequestError: no tombstone or thing has this name.
    """
    things: list[Marked] = []
    begun: list[str] = []
    for path, tombstone in list(read_all(bucket, TOMBSTONES)):
        chosen = [thing for thing in tombstone.things if wanted in (None, name_of(path), thing.name)]
        if not chosen:
            continue
        rest = [thing for thing in tombstone.things if thing not in chosen]
        _write(bucket, UNDONE, Tombstone(at=now, things=chosen), now)
        if rest:
            _write(bucket, TOMBSTONES, tombstone.model_copy(update={"things": rest}), now)
        bucket.delete(path)
        # checked after the deletion: a removal writes its mark first and then reads the tombstone
        if bucket.exists(removing_mark(path)):
            begun += [thing.name for thing in chosen]
        things += chosen
    if not things and wanted is not None:
        raise RequestError(f"nothing that is called {wanted!r} is to be removed", next_step="See what is with: scoring gc --dry-run")
    return TakenBack(things=things, begun=begun)


def _write(bucket: Bucket, folder: str, tombstone: Tombstone, now: datetime) -> None:
    while not bucket.create(f"{folder}/{now:%Y%m%dt%H%M%Sz}-{secrets.token_hex(3)}.json", tombstone.to_json()):
        pass
