"""One request is one job, however often it is made."""

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
from shared.jobs.states import JobState
from shared.retention.things import LEFT_AFTER, made_at

MOST_DAMAGED = 100
"""Files of one request that name no job; more than that are no accident, and nothing is added to them."""
NO_ID = "not-known-yet"
"""Stands for the id when a request is checked before anything is written: a wrong field leaves no trace."""


@dataclass(frozen=True, kw_only=True)
class ScheduledRun:
    """What makes a request of the schedule the same as another: it is the same run, whatever its table or model is by now."""

    kind: Literal["score", "train"]
    key: str
    """Name of the entry and the moment, like ``daily-20261123t0430``."""
    once: bool = False
    """Do not ask again for what failed or was cancelled; that is for people to do."""

    @property
    def digest(self) -> str:
        """Under which the request is known."""
        return f"{self.kind}-schedule-{self.key}"

    def newest_job(self, bucket: Bucket) -> JobFolder | None:
        """The folder of the job that was made of it last; None when there is none."""
        for number in range(_newest_run(bucket, self.digest), 0, -1):
            folder = _folder_in(bucket, bucket.read(_run_file(self.digest, number)))
            if folder is not None and folder.has(JobFile.REQUEST):
                return folder
        return None


def request_digest(kind: str, wish: dict[str, Any]) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps(wish, sort_keys=True, default=str).encode()).hexdigest()[:32]}"


def claim(bucket: Bucket, digest: str, versions: Mapping[str, str], *, again: bool, run: ScheduledRun | None = None) -> str:
    """The id of the job for this request: that of an earlier one which runs or is done, or a new one.

    A job that found other ``versions`` of the table's files is of another request: a table may be replaced by one of the same size and
    time. They are no part of the digest, which stays that of earlier versions.
    The first to write ``jobs/_requests/<digest>.<n>`` decides what the n-th run is called, so two at once agree.
    """
    damaged = 0
    for number in itertools.count(_newest_run(bucket, digest) if again else 1):
        path = _run_file(digest, number)
        text = bucket.read(path)
        if text is None:
            fresh = JobFolder(bucket, _job_id(digest, number, datetime.now(UTC), run))  # refuses what is no id before it is written
            bucket.create(path, fresh.job_id.encode())
            text = bucket.read(path)
        folder = _folder_in(bucket, text)
        if folder is None:
            damaged += 1  # nobody can say which job that run became
            if damaged > MOST_DAMAGED:
                raise RequestError(f"{damaged} files like {path} in the bucket name no job", next_step="Delete them and ask again.")
            continue
        outcome = folder.outcome()
        if (outcome is None and _was_removed(folder)) or _has_found_others(folder, versions):
            continue
        if outcome is None or (outcome.state == JobState.DONE and not again) or (run is not None and run.once):
            return folder.job_id
    raise AssertionError("unreachable: count() does not end")


def _has_found_others(folder: JobFolder, versions: Mapping[str, str]) -> bool:
    """True when a file of the table is not the one that the job found; not where it is not known which one that was."""
    found = folder.table_versions() if versions else {}
    return any(found.get(path, version) != version for path, version in versions.items())


def _was_removed(folder: JobFolder) -> bool:
    """True when nothing is left of a job that was asked for long ago; one of lately is just being written, or was when that died."""
    made = made_at(folder.job_id)
    return made is not None and datetime.now(UTC) - made > LEFT_AFTER and not folder.has(JobFile.REQUEST)


def _folder_in(bucket: Bucket, text: bytes | None) -> JobFolder | None:
    """The folder of the job whose id is in the file of a run; None when it is no id."""
    try:
        return JobFolder(bucket, (text or b"").decode(errors="replace"))
    except MessageError:
        return None


def _newest_run(bucket: Bucket, digest: str) -> int:
    """The number of the newest run of a request, or 1: found without a look at each, since a request may be run again every day."""
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
    """Sorts by the time of the request, to the millisecond: the newest result at a place is found by it."""
    kind, _, _ = digest.partition("-")
    what = hashlib.sha256(f"{digest}.{number}".encode()).hexdigest()[:6] if run is None else run.key
    return f"{now:%Y%m%dt%H%M%S}{now.microsecond // 1000:03d}z-{kind}-{what}"
