"""How people name a job: by its id, by a piece of it that no other job has, or as ``last``."""

import re
from collections.abc import Iterator

from shared.bucket.interface import Bucket
from shared.errors import PermanentError, RequestError
from shared.jobs.files import JobFile
from shared.jobs.folder import JOBS, JobFolder, list_jobs
from shared.jobs.messages import ScoreJob

LAST = "last"
_PIECE = re.compile(r"[a-z0-9.-]{4,100}")
"""Of an id; the last six characters of it are its own."""
SHOWN = 3


def find_job(bucket: Bucket, named: str, *, scores: bool = False) -> str:
    """The id of the job that is meant; a name that fits no job is given back as it is, for whoever needs the job to refuse.

    ``scores`` leaves trainings out of ``last``.

    Raises:
        RequestError: several jobs fit, or ``last`` is asked for and there is none.
    """
    if named == LAST:
        newest = next(_newest_first(bucket, scores=scores), None)
        if newest is None:
            raise RequestError(
                f"there is no job{' that scores' if scores else ''} yet in the bucket {bucket.url}",
                next_step="Ask for one: scoring score TABLE",
            )
        return newest
    if _PIECE.fullmatch(named) is None or bucket.exists(f"{JOBS}/{named}/{JobFile.REQUEST}"):
        return named
    found = [name for name in bucket.folders(JOBS) if name.startswith(named) or name.endswith(named)]
    if len(found) > 1:
        shown = ", ".join(reversed(found[-SHOWN:])) + (", ..." if len(found) > SHOWN else "")
        raise RequestError(f"{named} fits {len(found)} jobs: {shown}", next_step="Write more of the id.")
    return found[0] if found else named


def find_job_to_change(bucket: Bucket, named: str, command: str) -> str:
    """The id of the job that ``command`` is to change; as ``find_job``, but ``last`` is no name of it.

    Raises:
        RequestError: ``last`` is asked for, which another person's or the schedule's job may be by now, or several jobs fit.
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
