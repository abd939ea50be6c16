"""Notices that belong to no job: what a person or the schedule did. They are written into the bucket, and the sweep tells them.

    notices/<name>/notice.json      what people are told                      (first writer wins)
                   telling.json     a try to tell people was begun
                   notified.json    people were told, or this was given up
    notices/_open/<name>            a mark: people are yet to be told

So whoever has something to say needs no Redis and waits for no webhook, and what has a name is told once, whoever says it.
"""

from datetime import datetime

from shared.bucket.interface import Bucket
from shared.jobs.files import NOTICE
from shared.jobs.messages import Notice

NOTICES = "notices"
OPEN = f"{NOTICES}/_open"
ORPHAN_SECONDS = 3600
"""A mark without a notice is the trace of a process that died; after this long it goes."""


class NoticeFolder:
    """The folder of one such notice."""

    def __init__(self, bucket: Bucket, name: str) -> None:
        self.bucket = bucket
        self.name = name

    def file(self, name: str) -> str:
        """The path of a file in this folder."""
        return f"{NOTICES}/{self.name}/{name}"

    def notice(self) -> Notice | None:
        """What people are told; None when nobody has written it. Raises MessageError when it is damaged."""
        text = self.bucket.read(self.file(NOTICE))
        return None if text is None else Notice.decode(text)

    def close(self) -> None:
        """Take away the mark: people need to be told no more."""
        self.bucket.delete(f"{OPEN}/{self.name}")

    def is_orphan(self, now: datetime) -> bool:
        """True when the mark is so old that nobody will write the notice any more."""
        mark = self.bucket.stat(f"{OPEN}/{self.name}")
        return mark is not None and now.timestamp() - mark.modified > ORPHAN_SECONDS


def announce(bucket: Bucket, name: str, notice: Notice) -> bool:
    """See that people are told of this, once for each name; True when this call was the first."""
    folder = NoticeFolder(bucket, name)
    if bucket.exists(folder.file(NOTICE)):
        return False
    bucket.write(f"{OPEN}/{name}", b"")
    return bucket.create(folder.file(NOTICE), notice.to_json())


def untold(bucket: Bucket) -> list[NoticeFolder]:
    """The notices that people are yet to be told, by name."""
    return [NoticeFolder(bucket, info.path.rpartition("/")[2]) for info in bucket.files(OPEN)]
