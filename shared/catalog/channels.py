"""Channels: movable names for results. Bidding systems read a channel at one fixed path.

    data/predict/output/channels/<name>/                  the predictions, the manifest and the rejects of the result that it shows
    data/predict/output/channels/<name>/channel.json      which result this is, since when, and why
    data/predict/output/channels/_history/<name>/         its numbered changes (``shared.catalog.histories``)
    data/predict/output/channels/_open/<name>.<mover>     a mark: a process is changing the channel; the sweep ends what that process left

A change is made first, then the files of its revision are copied. Each file is replaced as a whole: the predictions first,
``channel.json`` last.
"""

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from shared.bucket.interface import Bucket, FileInfo
from shared.bucket.unchanged import has_content
from shared.catalog.histories import History, UnreadableChangeError
from shared.catalog.manifests import CHANNELS, PREDICTIONS, REJECTS, ResultManifest
from shared.catalog.paths import MANIFEST
from shared.errors import MessageError, RequestError, ScoringError, UnreadableChannelError
from shared.records import BucketPath, JobId, Record, ReleaseId, Sha256, Timestamp, decode_long, is_name
from shared.signatures import Signature

_HISTORY, _OPEN = f"{CHANNELS}/_history", f"{CHANNELS}/_open"
_COPY = "channel.json"
RESULTS_BACK = 5
"""The number of rollback steps that a channel remembers."""
MOVING_SECONDS = 120
"""A mark that is older belongs to a process that died while it changed a channel."""

How = Literal["passed the guard", "approved", "published without the guard", "rolled back", "unpinned"]

NO_CHANNEL = "none"
"""No channel has this name, because in schedule.yaml it means that there is none."""


class ChannelChange(Record):
    """One change of a channel: the result that it shows, the time, and the cause."""

    revision: BucketPath
    """Folder of the result that is shown."""
    job_id: JobId
    """The job that made it."""
    release: ReleaseId
    text_sha256: Sha256
    """Digest of the uncompressed predictions."""
    at: Timestamp
    number: Annotated[int, Field(ge=0)] = 0
    """The number of this change, from 1; 0 until the change is made."""
    how: How
    pinned: bool = False
    """True after a rollback: later results are held until a person unpins the channel."""
    origin: Annotated[JobId | None, Field(exclude_if=lambda job_id: job_id is None)] = None
    """Of a fix, the job whose table this is; None for a result that is no fix."""
    was: JobId | None = None
    """The job of the result that the channel showed before."""
    back: list[BucketPath] = Field(default_factory=list)
    """The revisions of rollbacks from here, the nearest first; at most ``RESULTS_BACK``."""
    by: Annotated[str, Field(max_length=200)] = ""
    """``user@host``, or the job."""
    reason: Annotated[str, Field(max_length=500)] = ""

    @property
    def is_publication(self) -> bool:
        """True if the finish step of a job made it; False for a rollback and for the end of a pin."""
        return self.how not in ("rolled back", "unpinned")

    @property
    def age(self) -> str:
        """Sorts results by the request for their table: the job that first scored it."""
        return self.origin or self.job_id

    def shows(self, manifest: ResultManifest) -> bool:
        """Returns True if the channel shows this result."""
        return self.revision == manifest.revision


def channel_folder(name: str) -> str:
    """Returns the folder that bidding systems read: ``data/predict/output/channels/<name>``."""
    return f"{CHANNELS}/{name}"


def read_channel(bucket: Bucket, name: str) -> ChannelChange | None:
    """Returns the newest change of a channel, or None if there is no such channel.

    Raises:
        UnreadableChannelError: the newest change is damaged, or of a later version.
    """
    try:
        return _history(bucket, name).read()
    except UnreadableChangeError as error:
        raise UnreadableChannelError(
            f"the channel {name} cannot be read: {error}",
            next_step=f"See its history: scoring results history {name}; then choose its result: scoring results rollback {name} --to JOB",
        ) from error.error


def channel_changes(bucket: Bucket, name: str) -> Iterator[ChannelChange]:
    """Yields the changes of a channel, the newest first; unreadable ones are left out."""
    return _history(bucket, name).changes()


def change_of_named(bucket: Bucket, named: str) -> ChannelChange | None:
    """Returns the newest readable change of the channel that a person names; None if there is none, or if it cannot be a name."""
    return next(channel_changes(bucket, named), None) if is_name(named) else None


@dataclass(frozen=True, kw_only=True)
class ShownResult:
    """What a channel shows, and since when."""

    now: ChannelChange
    """The newest change."""
    first: ChannelChange
    """The change since which it shows this result without a break, such as a rollback whose pin was ended later."""


def channel_now(bucket: Bucket, name: str) -> ShownResult | None:
    """Returns what a channel shows, and since when; None if there is no readable change of it."""
    changes = channel_changes(bucket, name)
    now = next(changes, None)
    if now is None:
        return None
    first = now
    for change in itertools.takewhile(lambda change: change.revision == now.revision, changes):
        first = change
    return ShownResult(now=now, first=first)


def first_shown(bucket: Bucket, name: str, manifest: ResultManifest) -> ChannelChange | None:
    """Returns the change that let a channel show a result for the first time; None if it never showed it."""
    first = None
    for change in channel_changes(bucket, name):
        if change.shows(manifest):
            first = change
            if change.is_publication:
                break
    return first


def list_channels(bucket: Bucket) -> list[str]:
    """Returns the names of all channels, sorted."""
    return [name for name in bucket.folders(_HISTORY) if is_name(name)]


def change_to(
    manifest: ResultManifest,
    now: ChannelChange | None,
    how: How,
    *,
    pinned: bool = False,
    by: str = "",
    reason: str = "",
) -> ChannelChange:
    """Returns the change after which the channel shows this result, with the way back to the result that it shows now."""
    shown = [] if now is None else [now.revision, *now.back]
    return ChannelChange(
        revision=manifest.revision,
        job_id=manifest.job_id,
        release=manifest.release,
        text_sha256=manifest.text_sha256,
        at=datetime.now(UTC),
        how=how,
        pinned=pinned,
        back=[revision for revision in shown if revision != manifest.revision][:RESULTS_BACK],
        by=by,
        reason=reason,
    )


def change_channel(bucket: Bucket, name: str, decide: Callable[[ChannelChange | None], ChannelChange | None]) -> ChannelChange | None:
    """Changes a channel as ``decide`` says, called with its newest change, and copies the files of the new result.

    If another process changes the channel at the same time, ``decide`` is called again. Returns the change, or None if ``decide`` did.
    """
    may_exist = False

    def numbered(now: ChannelChange | None, number: int) -> ChannelChange | None:
        nonlocal may_exist
        change = decide(now)
        may_exist = may_exist or change is not None
        return change and change.model_copy(update={"number": number, "was": None if now is None else now.job_id})

    mark = f"{_OPEN}/{name}.{uuid.uuid4().hex}"
    bucket.write(mark, b"")
    try:
        change = _history(bucket, name).claim(numbered)
    except Exception:
        # a store may fail and keep the change nevertheless: the sweep then ends it
        if not may_exist:
            bucket.delete(mark)
        raise
    if change is not None:
        show_newest(bucket, name, lambda: bucket.write(mark, b""))
    bucket.delete(mark)
    return change


def show_newest(bucket: Bucket, name: str, is_alive: Callable[[], None] = lambda: None) -> ChannelChange | None:
    """Copies the files of the newest change into the folder of the channel, again if the channel is changed meanwhile; returns that change.

    The files are durable on disk when this returns. ``is_alive`` is called before each file.
    """
    shown: ChannelChange | None = None
    while (newest := read_channel(bucket, name)) != shown and newest is not None:
        _copy_result(bucket, newest.revision, channel_folder(name), is_alive)
        history = _history(bucket, name)
        history.write_copy(newest)
        shown = newest
    return shown


def _copy_result(bucket: Bucket, revision: str, folder: str, is_alive: Callable[[], None]) -> None:
    had_rejects = bucket.exists(f"{folder}/{REJECTS}")
    manifest = _trusted_manifest(bucket, revision)
    is_alive()
    bucket.copy(f"{revision}/{PREDICTIONS}", f"{folder}/{PREDICTIONS}", durable=True)
    is_alive()
    if manifest.rejects is not None:
        bucket.copy(f"{revision}/{REJECTS}", f"{folder}/{REJECTS}", durable=True)
    elif had_rejects:
        bucket.delete(f"{folder}/{REJECTS}")
    bucket.copy(f"{revision}/{MANIFEST}", f"{folder}/{MANIFEST}", durable=True)


def shows_its_result(bucket: Bucket, name: str, now: ChannelChange) -> bool:
    """Returns True if the files in the folder of a channel are those of its newest change."""
    folder = channel_folder(name)
    try:
        manifest = decode_long(ResultManifest, bucket.read(f"{folder}/{MANIFEST}") or b"")
    except MessageError:
        return False
    return manifest.text_sha256 == now.text_sha256 and has_content(bucket, f"{folder}/{PREDICTIONS}", manifest.output)


def _trusted_manifest(bucket: Bucket, revision: str) -> ResultManifest:
    """Returns the manifest of a revision that a channel is to show.

    Raises:
        RequestError: the manifest is gone, damaged or not signed.
    """
    text = bucket.read(f"{revision}/{MANIFEST}")
    signed = Signature.MISSING if text is None else bucket.signer.check(text)
    if text is None or not signed.is_trusted:
        raise RequestError(
            f"the result {revision} cannot be shown on a channel: {'it is gone' if text is None else f'signed: {signed}'}",
            next_step="Choose another result: scoring results rollback CHANNEL --to JOB --reason TEXT",
        )
    return decode_long(ResultManifest, text)


def check_whole(bucket: Bucket, manifest: ResultManifest) -> None:
    """Raises RequestError if the predictions of a revision are not those of its manifest."""
    path = f"{manifest.revision}/{PREDICTIONS}"
    if not has_content(bucket, path, manifest.output):
        raise RequestError(
            f"{path} is gone or is not the file of its manifest",
            next_step="Choose another result: scoring results rollback CHANNEL --to JOB --reason TEXT",
        )


def is_being_changed(bucket: Bucket, name: str) -> bool:
    """Returns True while a process changes a channel, or has left its change for the sweep to end."""
    return any(_channel_of(mark) == name for mark in bucket.files(_OPEN))


def _channel_of(mark: FileInfo) -> str:
    return mark.path.rpartition("/")[2].partition(".")[0]


def end_interrupted_changes(bucket: Bucket, now: datetime) -> list[str]:
    """Copies the files of every channel whose change was interrupted; returns the names of these channels."""
    found = []
    for mark in bucket.files(_OPEN):
        if now.timestamp() - mark.modified <= MOVING_SECONDS:
            continue
        name = _channel_of(mark)
        if is_name(name):
            try:
                show_newest(bucket, name)
            except ScoringError:
                continue  # doctor names a channel that is damaged; the mark stays until it is repaired
            found.append(name)
        bucket.delete(mark.path)
    return found


def revisions_in_use(bucket: Bucket) -> dict[str, str]:
    """Returns the revisions that a channel shows or can be rolled back to, each with the name of the channel."""
    found: dict[str, str] = {}
    for name in list_channels(bucket):
        now = next(_history(bucket, name).changes(), None)
        if now is not None:
            found |= dict.fromkeys([now.revision, *now.back], name)
    return found


def _history(bucket: Bucket, name: str) -> History[ChannelChange]:
    return History(bucket=bucket, kind=ChannelChange, folder=f"{_HISTORY}/{name}", copy=f"{CHANNELS}/{name}/{_COPY}")
