"""Requests to score fixed rows that replace a job's rejects."""

import hashlib
import json
import shlex
from datetime import UTC, datetime

from producers.enqueue.deduplication import NO_ID, request_digest
from producers.enqueue.sending import Enqueued, checked, enqueue
from producers.enqueue.sources import Source, find_table
from shared.bucket.interface import Bucket
from shared.catalog.manifests import OUTPUTS
from shared.catalog.results import FoundResult, inspect_result, list_revisions
from shared.errors import RequestError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob
from shared.settings import Settings
from shared.table_files import TEXT_FORMS, kind_of


def enqueue_fix(  # noqa: PLR0913 - a request has these fields
    settings: Settings,
    bucket: Bucket,
    *,
    job_id: str,
    rows: str,
    max_reject_share: float | None = None,
    max_rejects: int | None = None,
    again: bool = False,
) -> Enqueued:
    """Asks to score fixed rows that replace the rejects of a job that has ended, and to publish the result of both.

    ``rows`` is a CSV or TSV file, compressed or not, searched in the bucket first, then on this machine. A limit of rejects that is not
    given is that of the original job, or none if a person accepted its rejects; a fix never has more rejects than that job. A fix below a
    newer result at its place is refused, unless it was published there before and is requested ``again``.

    Raises:
        RequestError: the job does not exist, has not ended or has no plan; or a field is invalid.
        TableError: the file does not exist.
        BucketError: the request could not be written.
    """
    created = datetime.now(UTC)
    earlier = JobFolder(bucket, job_id)
    fixed = earlier.score_job()
    if earlier.outcome() is None:
        raise RequestError(f"job {job_id} has not ended", next_step=f"Watch it with: scoring jobs show {job_id} --follow")
    if not earlier.has(JobFile.PLAN):
        if earlier.files_were_removed():
            raise earlier.removed_error()
        raise RequestError(f"nothing of job {job_id} was scored, so there is nothing to fix", next_step="Correct the table and score it.")
    newer = _newer_at_place(bucket, earlier, fixed.place)
    if newer is not None and not again:
        raise _older_than_published(earlier, newer, rows)
    source = find_table(bucket, rows)
    if kind_of(source.path) not in TEXT_FORMS:
        raise RequestError(
            f"{rows} is not a file of fixed rows", next_step=f"Get the rows to correct with: scoring results rejects {job_id} --rows FILE"
        )
    if newer is not None and not _was_made_before(bucket, newer, job_id, source):
        raise _older_than_published(earlier, newer, rows)
    share, number = (1.0, None) if earlier.has(JobFile.REJECTS_ACCEPTED) else (fixed.max_reject_share, fixed.max_rejects)
    request = {
        "fixes": job_id,
        "max_reject_share": share if max_reject_share is None else max_reject_share,
        "max_rejects": number if max_rejects is None else max_rejects,
    }

    def job(own_id: str) -> ScoreJob:
        path = source.place_in(JobFolder(bucket, own_id))
        taken = {"model": fixed.model, "table": fixed.table, "place": fixed.place, "fixed_rows": path, "interval": fixed.interval}
        taken |= {"channel": fixed.channel} if fixed.channel else {}
        return checked(ScoreJob, request | taken | {"kind": "score", "job_id": own_id, "created": created.isoformat()})

    job(NO_ID)
    return enqueue(settings, bucket, request_digest("score", request | {"rows": source.fingerprint}), job, [source], again=again)


def _newer_at_place(bucket: Bucket, earlier: JobFolder, place: str) -> FoundResult | None:
    """The result at the place if it is newer than the job, so that a fix must not replace it; None otherwise."""
    plan = json.loads(bucket.read(earlier.file(JobFile.PLAN)) or b"{}")
    definition = str(plan.get("release", "")).partition("@")[0]
    # an unreadable result may be replaced
    found = inspect_result(bucket, f"{OUTPUTS}/{definition}/{place}") if definition else None
    return found if isinstance(found, FoundResult) and found.manifest.job_id > earlier.job_id else None


def _was_made_before(bucket: Bucket, newer: FoundResult, job_id: str, source: Source) -> bool:
    """Returns True when a revision of the place is the fix of this job with these rows; with ``--again`` it is published again."""
    fixes = [found.manifest for found in list_revisions(bucket, newer.folder) if isinstance(found, FoundResult)]
    digests = {fix.fixed_rows.sha256 for fix in fixes if fix.fixes == job_id and fix.fixed_rows}
    if not digests:
        return False
    sha256 = source.fingerprint[0][1] if source.files else hashlib.sha256(bucket.read(source.path) or b"").hexdigest()
    return sha256 in digests


def _older_than_published(earlier: JobFolder, found: FoundResult, rows: str) -> RequestError:
    published, newer = found.manifest, found.manifest.job_id
    place = found.folder.removeprefix(f"{OUTPUTS}/")
    problem = f"{place} holds a newer result than that of job {earlier.job_id}: that of job {newer}"
    if published.rows_rejected == 0:
        return RequestError(f"{problem}, in which nothing is left to fix", next_step=f"See it with: scoring results show {newer}")
    return RequestError(
        problem,
        next_step=f"Fix that one instead: scoring score {shlex.quote(rows)} --fix {newer}; "
        f"if it is of another table, with rows of its own: scoring results rejects {newer} --rows FILE",
    )
