"""Tombstones: what is to be removed is written down first, and removed a day later.

    gc/tombstones/<id>.json     things that are to go, with the reason of each       (first writer wins)
       removing/<id>            a mark: the removal of these things has begun
       undone/<id>.json         things of tombstones that a person took back; they stay for a week at least
       progress.json            how far the daily round has come

Until they are removed such things are what they were: a reader sees no difference.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from shared.bucket.interface import Bucket
from shared.errors import MessageError, RequestError
from shared.records import Record, Timestamp, decode_long
from shared.retention.things import Thing

GC = "gc"
TOMBSTONES, REMOVING, UNDONE = f"{GC}/tombstones", f"{GC}/removing", f"{GC}/undone"
GRACE = timedelta(hours=24)
"""Between the tombstone and the removal."""
TAKEN_BACK_FOR = timedelta(days=7)
"""What a person took back gets no new tombstone for so long."""
MOST_THINGS = 1000
"""In one tombstone."""

log = structlog.get_logger()


class Marked(Record):
    """A thing that is to go."""

    kind: str
    name: str
    size: int
    reason: str

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.kind, self.name


class Tombstone(Record):
    """Things that are to go, and since when that is written down."""

    at: Timestamp
    things: list[Marked]


@dataclass(kw_only=True)
class Marks:
    """What is marked, and what was taken back."""

    due: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """Thing -> when it is removed."""
    taken_back: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """Thing -> until when it stays."""

    def is_new(self, thing: Thing) -> bool:
        """True for a thing that goes and has no tombstone yet."""
        return thing.goes and thing.key not in self.due and thing.key not in self.taken_back


def read_marks(bucket: Bucket, now: datetime) -> Marks:
    """All tombstones, and what was taken back in the last week."""
    marks = Marks()
    for _, tombstone in read_all(bucket, TOMBSTONES):
        marks.due |= dict.fromkeys([thing.key for thing in tombstone.things], tombstone.at + GRACE)
    for _, undone in read_all(bucket, UNDONE):
        if now - undone.at < TAKEN_BACK_FOR:
            marks.taken_back |= dict.fromkeys([thing.key for thing in undone.things], undone.at + TAKEN_BACK_FOR)
    return marks


def forget_taken_back(bucket: Bucket, now: datetime) -> None:
    """Remove what is known of things that were taken back more than a week ago."""
    bucket.delete_many([path for path, undone in read_all(bucket, UNDONE) if now - undone.at >= TAKEN_BACK_FOR])


def mark(bucket: Bucket, things: Sequence[Thing], now: datetime) -> None:
    """Write down that these things are to go."""
    for start in range(0, len(things), MOST_THINGS):
        marked = [
            Marked(kind=thing.kind, name=thing.name, size=thing.size, reason=thing.reason) for thing in things[start : start + MOST_THINGS]
        ]
        _write(bucket, TOMBSTONES, Tombstone(at=now, things=marked), now)


def read_tombstone(bucket: Bucket, path: str) -> Tombstone | None:
    """One of them; None when it was taken back, or is damaged: then nothing of it is removed."""
    text = bucket.read(path)
    try:
        return None if text is None else decode_long(Tombstone, text)
    except MessageError as error:
        log.error("tombstone that cannot be read is left alone", path=path, error=str(error))
        return None


def read_all(bucket: Bucket, folder: str) -> Iterator[tuple[str, Tombstone]]:
    """Those of a folder with their paths, the oldest first."""
    for info in bucket.files(folder):
        found = read_tombstone(bucket, info.path)
        if found is not None:
            yield info.path, found


def removing_mark(path: str) -> str:
    """The mark which says that the removal of this tombstone's things has begun."""
    return f"{REMOVING}/{name_of(path)}"


def drop_finished_marks(bucket: Bucket) -> None:
    """Remove the marks of removals that ended: a process that dies between the tombstone and its mark leaves the mark."""
    for info in bucket.files(REMOVING):
        if not bucket.exists(f"{TOMBSTONES}/{name_of(info.path)}.json"):
            bucket.delete(info.path)


def name_of(path: str) -> str:
    """The id of a tombstone."""
    return path.rpartition("/")[2].removesuffix(".json")


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """What came of taking tombstones back."""

    things: list[Marked]
    begun: list[str]
    """Those of them whose removal has begun: some may be gone."""


def undo(bucket: Bucket, wanted: str | None, now: datetime) -> TakenBack:
    """Take back all tombstones, one by its id, or one thing by its name.

    Raises:
        RequestError: there is no such tombstone or thing.
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
        # only now: removal writes down first that it begins, and then looks whether the tombstone is still there
        if bucket.exists(removing_mark(path)):
            begun += [thing.name for thing in chosen]
        things += chosen
    if not things and wanted is not None:
        raise RequestError(f"nothing that is called {wanted!r} is to be removed", next_step="See what is with: scoring gc --dry-run")
    return TakenBack(things=things, begun=begun)


def _write(bucket: Bucket, folder: str, tombstone: Tombstone, now: datetime) -> None:
    while not bucket.create(f"{folder}/{now:%Y%m%dt%H%M%Sz}-{secrets.token_hex(3)}.json", tombstone.to_json()):
        pass
