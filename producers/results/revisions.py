"""The revisions of a result: all results that were made at its place."""

import shlex
from dataclasses import dataclass

from producers.job_names import find_job
from producers.results.restoring import RestoreAdvice, restore_advice
from producers.results.shown import find_shown
from shared.bucket.interface import Bucket
from shared.catalog.manifests import OUTPUTS
from shared.catalog.paths import REVISIONS
from shared.catalog.results import FoundResult, UnreadableResult, inspect_result, list_revisions
from shared.errors import PermanentError, RequestError
from shared.jobs.files import JobFile
from shared.jobs.folder import JOBS, JobFolder


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A result that was made at a place."""

    found: FoundResult
    put_back: RestoreAdvice | None
    """How to restore it; None for the published one."""


def find_revisions(bucket: Bucket, place: str) -> tuple[str, list[Revision], list[UnreadableResult]]:
    """The folder of a place, its revisions (the newest first), and the unreadable ones.

    Raises:
        RequestError: the place has no results.
    """
    folder = f"{OUTPUTS}/{place.strip('/').removeprefix(f'{OUTPUTS}/')}"
    at_place = inspect_result(bucket, folder)
    now = at_place.manifest.job_id if isinstance(at_place, FoundResult) else ""
    found: list[Revision] = []
    unreadable = [at_place] if isinstance(at_place, UnreadableResult) else []
    for revision in list_revisions(bucket, folder):
        if isinstance(revision, UnreadableResult):
            unreadable.append(revision)
        else:
            is_there = revision.manifest.job_id == now
            found.append(Revision(found=revision, put_back=None if is_there else restore_advice(bucket, folder, revision.manifest)))
    if not found and not unreadable:
        raise _no_result(bucket, place, folder)
    return folder, found, unreadable


def _no_result(bucket: Bucket, place: str, folder: str) -> RequestError:
    """The error for a place without results; for the name of a job or a channel, it names the place of its result."""
    try:
        shown = find_shown(bucket, place)
    except RequestError as error:
        return error
    if shown is not None:
        at = shown.manifest.revision.rpartition(f"/{REVISIONS}/")[0]
        return _place_of(f"{place} names a channel, and revisions belong to a place: it shows a result of {at}", at)
    try:
        job_id = find_job(bucket, place, scores=True)
        outcome = JobFolder(bucket, job_id).outcome() if bucket.exists(f"{JOBS}/{job_id}/{JobFile.REQUEST}") else None
    except PermanentError:
        outcome = None
    if outcome is None or not outcome.result.startswith(f"{OUTPUTS}/"):
        return RequestError(f"there is no result at {folder} in the bucket {bucket.url}", next_step="List them with: scoring results list")
    return _place_of(
        f"{place} names a job, and revisions belong to a place: the result of job {job_id} is at {outcome.result}", outcome.result
    )


def _place_of(problem: str, folder: str) -> RequestError:
    return RequestError(problem, next_step=f"Type: scoring results revisions {shlex.quote(folder.removeprefix(f'{OUTPUTS}/'))}")
