"""Which releases are retired: taken out of ``latest`` by a person, since nobody should score with them any more.

``model/aliases/retired/<release>/000001.json`` is the first change of a release: it was retired, or taken back into use. The first to
write a change made it. A retired release stays in the store, and its full id still means it.
"""

from typing import Annotated

from pydantic import Field

from shared.bucket.interface import Bucket
from shared.errors import MessageError
from shared.records import Record, ReleaseId, Timestamp, decode

RETIRED = "model/aliases/retired"


class Retirement(Record):
    """That a release was retired, or taken back into use."""

    release: ReleaseId
    at: Timestamp
    number: Annotated[int, Field(ge=1)]
    """Which change of the release this is."""
    retired: bool
    by: Annotated[str, Field(max_length=200)] = ""
    """``user@host``."""
    reason: Annotated[str, Field(max_length=500)] = ""


def add_retirement(bucket: Bucket, change: Retirement) -> bool:
    """Make this change; False when somebody else made the change of its number."""
    return bucket.create(_file(change.release, change.number), change.to_json())


def changes_of_retirement(bucket: Bucket, release: str) -> list[Retirement | None]:
    """The changes of a release, the oldest first; None stands for one that cannot be read."""
    found: list[Retirement | None] = []
    while (text := bucket.read(_file(release, len(found) + 1))) is not None:
        try:
            found.append(decode(Retirement, text))
        except MessageError:
            found.append(None)
    return found


def why_retired(bucket: Bucket, release: str) -> str:
    """Since when, by whom and why a release is retired, in words; empty where it is in use.

    A record that cannot be read counts as a retirement: a person wanted to say something of this release.
    """
    found = changes_of_retirement(bucket, release)
    if not found:
        return ""
    newest = found[-1]
    if newest is None:
        return f"its record {_file(release, len(found))} cannot be read"
    if not newest.retired:
        return ""
    by = f" by {newest.by}" if newest.by else ""
    return f"since {newest.at:%Y-%m-%d %H:%M} UTC{by}{f': {newest.reason}' if newest.reason else ''}"


def retired_releases(bucket: Bucket) -> dict[str, str]:
    """Every retired release, with since when, by whom and why in words."""
    found = {release: why_retired(bucket, release) for release in bucket.folders(RETIRED)}
    return {release: why for release, why in found.items() if why}


def _file(release: str, number: int) -> str:
    return f"{RETIRED}/{release}/{number:06d}.json"
