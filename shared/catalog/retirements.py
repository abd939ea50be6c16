"""Retired releases: a person took them out of ``latest``, so that they are used only by their full id.

``model/aliases/retired/<release>/000001.json`` is the first change of a release: it was retired or restored. The first writer of a
change wins. A retired release stays in the store.
"""

from typing import Annotated

from pydantic import Field

from shared.bucket.interface import Bucket
from shared.errors import MessageError
from shared.records import Record, ReleaseId, Timestamp, decode

RETIRED = "model/aliases/retired"


class Retirement(Record):
    """One change of a release: it was retired or restored."""

    release: ReleaseId
    at: Timestamp
    number: Annotated[int, Field(ge=1)]
    """The number of this change of the release, from 1."""
    retired: bool
    by: Annotated[str, Field(max_length=200)] = ""
    """``user@host``."""
    reason: Annotated[str, Field(max_length=500)] = ""


def add_retirement(bucket: Bucket, change: Retirement) -> bool:
    """Writes this change; False when another process wrote the change with its number first."""
    return bucket.create(_file(change.release, change.number), change.to_json())


def changes_of_retirement(bucket: Bucket, release: str) -> list[Retirement | None]:
    """The changes of a release, the oldest first; None for an unreadable one."""
    found: list[Retirement | None] = []
    while (text := bucket.read(_file(release, len(found) + 1))) is not None:
        try:
            found.append(decode(Retirement, text))
        except MessageError:
            found.append(None)
    return found


def why_retired(bucket: Bucket, release: str) -> str:
    """Returns when, by whom and why a release was retired, in words; empty when it is in use.

    An unreadable record counts as a retirement, because a person meant to change this release.
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
    """Every retired release, with when, by whom and why in words."""
    found = {release: why_retired(bucket, release) for release in bucket.folders(RETIRED)}
    return {release: why for release, why in found.items() if why}


def _file(release: str, number: int) -> str:
    return f"{RETIRED}/{release}/{number:06d}.json"
