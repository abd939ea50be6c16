"""Moves a channel back to an earlier result, and ends the pin that this sets."""

from datetime import UTC, datetime

from producers.authorship import who
from producers.channels.deciding import check_decision_reason
from producers.channels.refused import decision_in_words
from producers.job_names import find_job
from shared.bucket.interface import Bucket
from shared.catalog.channel_notices import announce_change
from shared.catalog.channels import (
    ChannelChange,
    change_channel,
    change_to,
    channel_changes,
    check_whole,
    list_channels,
    show_newest,
)
from shared.catalog.held import how_to_decide, read_decision
from shared.catalog.manifests import ResultManifest
from shared.catalog.results import FoundResult, find_revision, inspect_result
from shared.errors import RequestError
from shared.jobs.folder import JobFolder
from shared.jobs.states import JobState


def roll_back_channel(bucket: Bucket, channel: str, *, to: str | None, reason: str) -> ChannelChange:
    """Lets a channel show its previous result, or that of the job ``to``, and pins it: later results are held until it is unpinned.

    On repetition it goes back one more.

    Raises:
        RequestError: there is no such channel, it has no previous result, or never showed that of ``to``; that result is gone or damaged,
            or it shows it already.
    """
    check_decision_reason(reason)
    now = existing_channel(bucket, channel)
    target = _result_of(bucket, channel, to) if to is not None else _previous(bucket, channel, now)
    if now.shows(target):
        _complete(bucket, channel, now)
        raise RequestError(
            f"{channel} shows the result of job {target.job_id} already", next_step=f"See its results: scoring results history {channel}"
        )

    def rolled_back(found: ChannelChange | None) -> ChannelChange | None:
        # not retried: of two people who roll back the same result, one would go a step further than intended
        if found is not None and found.number != now.number:
            return None
        change = change_to(target, found, "rolled back", pinned=True, by=who(), reason=reason)
        further = now.back[now.back.index(target.revision) + 1 :] if to is None and target.revision in now.back else change.back
        return change.model_copy(update={"back": further, "origin": _origin(bucket, target)})

    change = change_channel(bucket, channel, rolled_back)
    if change is None:
        raise RequestError(f"another process changed {channel} at this moment", next_step=f"See it: scoring results history {channel}")
    announce_change(bucket, channel, change)
    return change


def _complete(bucket: Bucket, channel: str, now: ChannelChange) -> None:
    """Completes the newest change of a channel: its command may have been interrupted before it copied all files."""
    show_newest(bucket, channel)
    announce_change(bucket, channel, now)


def _origin(bucket: Bucket, target: ResultManifest) -> str | None:
    """Returns the job whose table a fix scores, as a channel recorded it when it showed the fix; None for a result that is no fix."""
    if target.fixes is None:
        return None
    changes = (change for name in list_channels(bucket) for change in channel_changes(bucket, name))
    return next((change.origin for change in changes if change.job_id == target.job_id), target.fixes)


def unpin(bucket: Bucket, channel: str, *, reason: str = "") -> ChannelChange | None:
    """Ends the pin of a channel, which keeps showing its result until the next one; returns None if it is not pinned."""
    now = existing_channel(bucket, channel)

    def unpinned(now: ChannelChange | None) -> ChannelChange | None:
        if now is None or not now.pinned:
            return None
        return now.model_copy(update={"at": datetime.now(UTC), "how": "unpinned", "pinned": False, "by": who(), "reason": reason})

    change = change_channel(bucket, channel, unpinned)
    if change is not None:
        announce_change(bucket, channel, change)
    elif now.how == "unpinned":
        _complete(bucket, channel, now)
    return change


def existing_channel(bucket: Bucket, channel: str) -> ChannelChange:
    """Returns the newest readable change of a channel.

    Raises:
        RequestError: there is no such channel; the message lists the known ones.
    """
    known = list_channels(bucket)
    now = next(channel_changes(bucket, channel), None) if channel in known else None
    if now is None:
        names = f"; there are: {', '.join(known)}" if known else ", and no other one"
        raise RequestError(
            f"there is no channel {channel!r} in the bucket {bucket.url}{names}",
            next_step="A channel begins with its first result: scoring score TABLE --channel NAME",
        )
    return now


def _previous(bucket: Bucket, channel: str, now: ChannelChange) -> ResultManifest:
    for revision in now.back:
        found = inspect_result(bucket, revision)
        if isinstance(found, FoundResult):
            _check_signature(found)
            check_whole(bucket, found.manifest)
            return found.manifest
    raise RequestError(
        f"{channel} shows the result of job {now.job_id}, and no earlier result of it is left",
        next_step=f"Name a result: scoring results rollback {channel} --to JOB --reason TEXT",
    )


def _result_of(bucket: Bucket, channel: str, named: str) -> ResultManifest:
    job_id = find_job(bucket, named, scores=True)
    found = find_revision(bucket, job_id)
    if found is None:
        raise RequestError(f"job {job_id} has no result in the bucket {bucket.url}", next_step="List results with: scoring results list")
    if not any(change.shows(found.manifest) for change in channel_changes(bucket, channel)):
        raise _never_shown(bucket, channel, job_id)
    _check_signature(found)
    check_whole(bucket, found.manifest)
    return found.manifest


def _never_shown(bucket: Bucket, channel: str, job_id: str) -> RequestError:
    """Returns why a result is not shown: a rollback leads to what the channel showed, and only an approval to a held result."""
    history = f"See what {channel} showed: scoring results history {channel}"
    folder = JobFolder(bucket, job_id)
    outcome, decision = folder.outcome(), read_decision(folder)
    if outcome is None or outcome.state != JobState.HELD:
        return RequestError(f"{channel} never showed the result of job {job_id}", next_step=history)
    if decision is not None and decision.verdict == "refused":
        return RequestError(f"{channel} never showed the result of job {job_id}: it was {decision_in_words(decision)}", next_step=history)
    return RequestError(f"{channel} never showed the result of job {job_id}: it is held", next_step=how_to_decide(job_id, channel))


def _check_signature(found: FoundResult) -> None:
    if not found.signed.is_trusted:
        raise RequestError(
            f"the manifest of {found.folder} is not trusted: signed: {found.signed}", next_step="Name another result with --to JOB."
        )
