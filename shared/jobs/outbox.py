"""The outbox: notices that belong to no job, about an action of a person or of the schedule. The sweep delivers them.

    notices/<name>/         the notice, the tries to deliver it, and their end (``shared.jobs.files``)
    notices/_open/<name>    a mark: the notice is not delivered yet

A sender needs no Redis and does not wait for a webhook. Each name is delivered once, also if two processes announce it.
"""

from datetime import datetime

from shared.bucket.interface import Bucket
from shared.jobs.files import NOTICE
from shared.jobs.messages import Notice

NOTICES = "notices"
OPEN = f"{NOTICES}/_open"
ORPHAN_SECONDS = 3600
"""A mark without a notice belongs to a process that died; it is removed after this time."""


class NoticeFolder:
    """The folder of one notice."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self.bucket = bucket
        self.name = name

    def file(self, name: str) -> str:
        """The path of a file in this folder."""
        return f"{NOTICES}/{self.name}/{name}"

    def notice(self) -> Notice | None:
        """The notice; None before it is written. Raises MessageError when it is damaged."""
        text = self.bucket.read(self.file(NOTICE))
        return None if text is None else Notice.decode(text)

    def close(self) -> None:
        """Removes the mark: the notice was delivered or given up."""
        self.bucket.delete(f"{OPEN}/{self.name}")

    def is_orphan(self, now: datetime) -> bool:
        """Returns True when the mark is so old that its process must have died before it wrote the notice."""
        mark = self.bucket.stat(f"{OPEN}/{self.name}")
        return mark is not None and now.timestamp() - mark.modified > ORPHAN_SECONDS


def announce(bucket: Bucket, name: str, notice: Notice) -> bool:
    """Puts a notice into the outbox, once for each name; True when this call was the first."""
    folder = NoticeFolder(bucket, name)
    if bucket.exists(folder.file(NOTICE)):
        return False
    bucket.write(f"{OPEN}/{name}", b"")
    return bucket.create(folder.file(NOTICE), notice.to_json())


def undelivered(bucket: Bucket) -> list[NoticeFolder]:
    """The notices that are not delivered yet, by name."""
    return [NoticeFolder(bucket, info.path.rpartition("/")[2]) for info in bucket.files(OPEN)]
