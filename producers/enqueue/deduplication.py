"""Maps equal requests to one job."""

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from shared.bucket.interface import Bucket
from shared.errors import MessageError, RequestError
from shared.jobs.files import JobFile
from shared.jobs.folder import REQUESTS, JobFolder
from shared.jobs.ids import ABANDONED_AFTER, time_of_job
from shared.jobs.states import SETTLED_STATES, JobState

MOST_DAMAGED = 100
"""The most files of one request that name no job; with more, the damage is not accidental, and no file is added."""
NO_ID = "not-known-yet"
"""The id for checking a request before anything is written, so that an invalid request leaves no files."""


@dataclass(frozen=True, kw_only=True)
class ScheduledRun:
    """Identifies a request of the schedule: the same run is the same request, even if its table or model has changed."""

    kind: Literal["score", "train"]
    key: str
    """Name of the entry and logical time, like ``daily-20261123t0430``."""
    once: bool = False
    """True to leave failed and cancelled runs to people."""

    @property
    def digest(self) -> str:
        """The digest of the request."""
        return f"{self.kind}-schedule-{self.key}"

    def newest_job(self, bucket: Bucket) -> JobFolder | None:
        """The folder of the newest job for this run; None when there is none."""
        for number in range(_newest_run(bucket, self.digest), 0, -1):
            folder = _folder_in(bucket, bucket.read(_run_file(self.digest, number)))
            if folder is not None and folder.has(JobFile.REQUEST):
                return folder
        return None


def request_digest(kind: str, request: dict[str, Any]) -> str:
    """The digest of a request: equal fields of a kind give the same digest, in any order."""
    return f"{kind}-{hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()[:32]}"


def claim(bucket: Bucket, digest: str, versions: Mapping[str, str], *, again: bool, run: ScheduledRun | None = None) -> str:
    """The id of the job for this request: an earlier one that runs or is done, or a new one.

    A job that found other ``versions`` of the table's files belongs to another request: a table may be replaced by one of the same size and
    time. They are not part of the digest, which is still that of earlier versions. The first writer of ``jobs/_requests/<digest>.<n>``
    names the n-th run, so two concurrent requests get the same job.
    """
    damaged = 0
    for number in itertools.count(_newest_run(bucket, digest) if again else 1):
        path = _run_file(digest, number)
        text = bucket.read(path)
        if text is None:
            fresh = JobFolder(bucket, _job_id(digest, number, datetime.now(UTC), run))  # refuses an invalid id before it is written
            bucket.create(path, fresh.job_id.encode())
            text = bucket.read(path)
        folder = _folder_in(bucket, text)
        if folder is None:
            damaged += 1  # the job of that run is unknown
            if damaged > MOST_DAMAGED:
                raise RequestError(f"{damaged} files like {path} in the bucket name no job", next_step="Delete them and ask again.")
            continue
        outcome = folder.outcome()
        if (outcome is None and _was_removed(folder)) or _has_found_others(folder, versions):
            continue
        if outcome is not None and outcome.state == JobState.HELD and bucket.exists(_run_file(digest, number + 1)):
            continue  # its table was scored again since: the later run answers
        if outcome is None or (outcome.state in SETTLED_STATES and not again) or (run is not None and run.once):
            return folder.job_id
    raise AssertionError("unreachable: count() does not end")


def _has_found_others(folder: JobFolder, versions: Mapping[str, str]) -> bool:
    """Returns True when a file of the table differs from the one that the job found; False when that version is unknown."""
    found = folder.table_versions() if versions else {}
    return any(found.get(path, version) != version for path, version in versions.items())


def _was_removed(folder: JobFolder) -> bool:
    """Returns True when an old job has no files left. A recent one without files is just being written, or its enqueue died."""
    made = time_of_job(folder.job_id)
    return made is not None and datetime.now(UTC) - made > ABANDONED_AFTER and not folder.has(JobFile.REQUEST)


def _folder_in(bucket: Bucket, text: bytes | None) -> JobFolder | None:
    """The folder of the job whose id is in the file of a run; None when the text is not an id."""
    try:
        return JobFolder(bucket, (text or b"").decode(errors="replace"))
    except MessageError:
        return None


def _newest_run(bucket: Bucket, digest: str) -> int:
    """The number of the newest run of a request, or 1. A binary search, since a request may be run again every day."""
    there, missing = 0, 1
    while bucket.exists(_run_file(digest, missing)):
        there, missing = missing, 2 * missing
    while missing - there > 1:
        middle = (there + missing) // 2
        there, missing = (middle, missing) if bucket.exists(_run_file(digest, middle)) else (there, middle)
    return max(there, 1)


def _run_file(digest: str, run: int) -> str:
    return f"{REQUESTS}/{digest}.{run}"


def _job_id(digest: str, number: int, now: datetime, run: ScheduledRun | None) -> str:
    """A new job id. Ids sort by the time of the request, to the millisecond, which determines the newest result at a place."""
    kind, _, _ = digest.partition("-")
    what = hashlib.sha256(f"{digest}.{number}".encode()).hexdigest()[:6] if run is None else run.key
    return f"{now:%Y%m%dt%H%M%S}{now.microsecond // 1000:03d}z-{kind}-{what}"
