"""Resolves the name of a job: its id, a unique part of the id, or ``last``."""

import re
from collections.abc import Iterator

from shared.bucket.interface import Bucket
from shared.catalog.channels import change_of_named
from shared.errors import PermanentError, RequestError
from shared.jobs.files import JobFile
from shared.jobs.folder import JOBS, JobFolder, list_jobs
from shared.jobs.messages import ScoreJob

LAST = "last"
_PIECE = re.compile(r"[a-z0-9.-]{4,100}")
"""Part of an id; its last six characters are usually unique."""
SHOWN = 3


def find_job(bucket: Bucket, named: str, *, scores: bool = False) -> str:
    """The id of the named job. A name that matches no job is returned unchanged, and the caller's next read refuses it.

    ``scores`` excludes trainings from ``last``.

    Raises:
        RequestError: several jobs match, the name is ``last`` and there is no job, or it is that of a channel.
    """
    if named == LAST:
        newest = next(_newest_first(bucket, scores=scores), None)
        if newest is None:
            raise RequestError(
                f"there is no job{' that scores' if scores else ''} yet in the bucket {bucket.url}",
                next_step="Ask for one: scoring score TABLE",
            )
        return newest
    is_piece = _PIECE.fullmatch(named) is not None
    if is_piece and bucket.exists(f"{JOBS}/{named}/{JobFile.REQUEST}"):
        return named
    found = [name for name in bucket.folders(JOBS) if name.startswith(named) or name.endswith(named)] if is_piece else []
    if len(found) > 1:
        shown = ", ".join(reversed(found[-SHOWN:])) + (", ..." if len(found) > SHOWN else "")
        raise RequestError(f"{named} fits {len(found)} jobs: {shown}", next_step="Write more of the id.")
    if not found:
        _refuse_channel(bucket, named)
    return found[0] if found else named


def _refuse_channel(bucket: Bucket, named: str) -> None:
    """Raises RequestError for the name of a channel, with the job whose result it shows."""
    now = change_of_named(bucket, named)
    if now is not None:
        raise RequestError(
            f"{named} is a channel, not a job",
            next_step=f"It shows the result of job {now.job_id}. See what it showed before with: scoring results history {named}",
        )


def find_job_to_change(bucket: Bucket, named: str, command: str) -> str:
    """The id of the job that ``command`` changes: like ``find_job``, but without ``last``.

    Raises:
        RequestError: several jobs match, or the name is ``last``, which may by now be a job of another person or of the schedule.
    """
    found = find_job(bucket, named)
    if named == LAST:
        raise RequestError(
            f"{command} takes no {LAST}: the newest job may be another one by now, such as one of the schedule",
            next_step=f"The newest job is {found}; if you mean that one, type: {command} {found}",
        )
    return found


def _newest_first(bucket: Bucket, *, scores: bool) -> Iterator[str]:
    for job_id in list_jobs(bucket):
        if not scores or _is_to_score(bucket, job_id):
            yield job_id


def _is_to_score(bucket: Bucket, job_id: str) -> bool:
    try:
        return isinstance(JobFolder(bucket, job_id).job(), ScoreJob)
    except PermanentError:
        return False
