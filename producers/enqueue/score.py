"""Requests to score a table."""

from datetime import UTC, date, datetime

from producers.enqueue.deduplication import NO_ID, ScheduledRun, request_digest
from producers.enqueue.sending import Enqueued, checked, enqueue
from producers.enqueue.sources import find_table, result_place
from producers.local_definitions import definitions_here
from shared.bucket.interface import Bucket
from shared.catalog.aliases import resolve
from shared.catalog.channels import NO_CHANNEL
from shared.catalog.manifests import CHANNELS, OUTPUTS, check_place
from shared.catalog.paths import MODELS
from shared.catalog.releases import read_release
from shared.errors import ModelError, RequestError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import REJECT_SHARE, ScoreJob
from shared.settings import Settings


def enqueue_score(  # noqa: PLR0913 - a request has these fields
    settings: Settings,
    bucket: Bucket,
    *,
    table: str,
    model: str,
    day: date | None = None,
    chunk_rows: int | None = None,
    max_reject_share: float = REJECT_SHARE,
    max_rejects: int | None = None,
    interval: bool = False,
    channel: str | None = None,
    guard_off: str = "",
    again: bool = False,
    run: ScheduledRun | None = None,
) -> Enqueued:
    """Asks to score a table with a model; with ``interval``, also for the bounds of each rate.

    ``table`` is searched in the bucket first, then on this machine. ``day`` is the day of the result (default: today); for a table below
    ``data/predict/input`` of the bucket the folder determines it. ``channel`` is the
    channel on which the result is published, and ``guard_off`` why the guard does not judge it. ``again`` repeats a request that is done.
    Two requests are equal if they have the same ``run``, or without one, if all other fields are equal.

    Raises:
        RequestError: a field is invalid.
        TableError: the table does not exist.
        ModelError: the release does not exist, or an interval is requested that it cannot predict.
        BucketError: the request could not be written.
    """
    if channel == NO_CHANNEL:
        raise RequestError(
            f"a channel cannot be called {NO_CHANNEL}, which means no channel in schedule.yaml",
            next_step="Leave --channel out to publish at the place alone, or choose another name.",
        )
    created = datetime.now(UTC)
    source = find_table(bucket, table)
    place = result_place(source, day or created.date())
    check_place(place)
    request = {"model": model, "place": place, "chunk_rows": chunk_rows, "max_reject_share": max_reject_share}
    if max_rejects is not None:  # without it, the digest stays that of an earlier version
        request["max_rejects"] = max_rejects
    if interval:
        request["interval"] = interval
    if channel is not None:
        request["channel"] = channel
    if guard_off:
        request["guard_off"] = guard_off

    def job(job_id: str) -> ScoreJob:
        table_path = source.place_in(JobFolder(bucket, job_id))
        return checked(ScoreJob, request | {"kind": "score", "job_id": job_id, "created": created.isoformat(), "table": table_path})

    job(NO_ID)
    release = _release_of(settings, bucket, model)
    _check_definition(release)
    if interval:
        read_release(bucket, release).manifest.check_interval()
    digest = request_digest("score", request | {"release": release, "table": source.fingerprint})
    return enqueue(settings, bucket, run.digest if run else digest, job, [source], again=again, run=run)


def _check_definition(release: str) -> None:
    """Raises RequestError if the results of the definition would be in the folder of the channels."""
    definition = release.partition("@")[0]
    if f"{OUTPUTS}/{definition}" == CHANNELS:
        raise RequestError(
            f"the definition {definition} has the name of the folder of channels, {CHANNELS}",
            next_step="Train it under another name: rename its folder, then scoring train NAME",
        )


def _release_of(settings: Settings, bucket: Bucket, model: str) -> str:
    try:
        return resolve(bucket, model)
    except ModelError:
        if model in bucket.folders(MODELS) or model not in definitions_here(settings):
            raise
        raise ModelError(f"the definition {model} has no release yet", next_step=f"Train it first: scoring train {model}") from None
