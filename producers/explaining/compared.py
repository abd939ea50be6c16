"""Chooses the two results in which the rate of a row is compared."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from producers.channels.held import list_held
from producers.channels.moving import existing_channel
from producers.results.finding import find_result
from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange, channel_changes, first_shown, list_channels
from shared.catalog.manifests import ResultManifest
from shared.catalog.paths import REVISIONS
from shared.catalog.results import FoundResult, list_revisions
from shared.errors import RequestError
from shared.guard.verdict import read_verdict

DEFAULT_CHANNEL = "live"


@dataclass(frozen=True, kw_only=True)
class ComparedResults:
    """The jobs of two results."""

    job_id: str
    against: str | None
    """The job of the earlier result; None if there is none."""
    notes: list[str] = field(default_factory=list)
    """What a person should know about the two: results that are held back from the channel, and a result before that is a later one."""


def choose_results(bucket: Bucket, named: str | None, against: str | None) -> ComparedResults:
    """Returns the results to compare.

    Args:
        bucket: the bucket.
        named: a channel, a job or the folder of a result; None for the channel ``live``, or for the only channel.
        against: the same; None for what the channel showed before, or for the earlier result of the same place.

    Raises:
        RequestError: there is no such channel, job or result, or both are the same.
    """
    channels = list_channels(bucket)
    named = _default_channel(bucket, channels) if named is None else named
    if named in channels:
        job_id = existing_channel(bucket, named).job_id
        earlier = _shown_before(channel_changes(bucket, named), job_id)
        notes = _held_for(bucket, named)
    else:
        manifest = _result(bucket, named, channels)
        job_id, earlier, notes = manifest.job_id, _result_before(bucket, manifest), []
    if against is not None:
        earlier = _result(bucket, against, channels).job_id
    if earlier == job_id:
        raise RequestError(f"both results are that of job {job_id}", next_step="Name another one with --against JOB.")
    if earlier is not None and earlier > job_id:  # ids begin with the time of the request
        notes.append(f"the result before, that of job {earlier}, is later than that of job {job_id}")
    return ComparedResults(job_id=job_id, against=earlier, notes=notes)


def _default_channel(bucket: Bucket, channels: list[str]) -> str:
    if DEFAULT_CHANNEL in channels:
        return DEFAULT_CHANNEL
    if len(channels) == 1:
        return channels[0]
    names = f"; there are: {', '.join(channels)}" if channels else ""
    raise RequestError(
        f"there is no channel {DEFAULT_CHANNEL} in the bucket {bucket.url}{names}",
        next_step="Name a channel or a job: scoring why ENTITY_ID DEVICE --in CHANNEL",
    )


def _result(bucket: Bucket, named: str, channels: list[str]) -> ResultManifest:
    try:
        return find_result(bucket, named)[1]
    except RequestError as error:
        names = f" Channels: {', '.join(channels)}." if channels else ""
        raise RequestError(error.message, next_step=f"{error.next_step}.{names}" if names else error.next_step) from error


def _shown_before(changes: Iterable[ChannelChange], job_id: str) -> str | None:
    """Returns the job whose result a channel showed before that of a job; None if it showed nothing else before, or never that of the job.

    ``changes`` are those of the channel, the newest first.
    """
    was_shown = False
    for change in changes:
        if change.job_id == job_id:
            was_shown = True
        elif was_shown:
            return change.job_id
    return None


def _held_for(bucket: Bucket, channel: str) -> list[str]:
    return [
        f"a result for {channel} is held since {held.since:%Y-%m-%d %H:%M} UTC, that of job {held.job_id}: ask about it with --in "
        f"{held.job_id}"
        for held in list_held(bucket)
        if held.channel == channel
    ]


def _result_before(bucket: Bucket, manifest: ResultManifest) -> str | None:
    """Returns the job of the result that the guard compared with, that the channel showed before, or that was made before at the place."""
    if manifest.channel is not None:
        shown = first_shown(bucket, manifest.channel, manifest)
        earlier = (shown and shown.was) or _base_of(bucket, manifest)
        if earlier is not None and earlier != manifest.job_id:
            return earlier
    place = manifest.revision.rpartition(f"/{REVISIONS}/")[0]
    for found in list_revisions(bucket, place):
        if isinstance(found, FoundResult) and found.manifest.job_id < manifest.job_id:
            return found.manifest.job_id
    return None


def _base_of(bucket: Bucket, manifest: ResultManifest) -> str | None:
    verdict = read_verdict(bucket, manifest.revision)
    return None if verdict is None or verdict.base is None else verdict.base.job_id
