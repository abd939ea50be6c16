"""Finds the two results that are compared, and opens their indexes."""

import contextlib
from dataclasses import dataclass

from producers.results.finding import find_result
from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange, channel_changes, first_shown
from shared.catalog.manifests import INDEX, ResultManifest
from shared.catalog.result_index import open_result_index
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import RequestError, UnreadableIndexError
from shared.guard.config import ChannelGuard, guard_config_or_defaults
from shared.guard.verdict import read_verdict
from shared.prediction_index import PredictionIndex, open_index


@dataclass(frozen=True, kw_only=True)
class ComparedResults:
    """A result, and the result that it is compared with."""

    result: ResultManifest
    base: ResultManifest
    relation: str
    """What the base is, in words."""
    note: str = ""
    """What the channel shows now, if that is another result."""

    @property
    def is_base_later(self) -> bool:
        """True if the base was asked for after the result."""
        return self.base.job_id > self.result.job_id  # ids begin with the time of the request


def find_compared(bucket: Bucket, wanted: str, against: str | None) -> ComparedResults:
    """Finds a result and the one before it: that of ``against``, or what its channel showed when it was judged or before it was shown.

    A channel names the result that it shows now.

    Raises:
        RequestError: one of them does not exist, or the result has no channel and ``against`` is not given.
    """
    _, result = find_result(bucket, wanted)
    if against is not None:
        _, base = find_result(bucket, against)
        found = ComparedResults(result=result, base=base, relation="that --against names")
    else:
        found = _of_channel(bucket, result)
    if found.base.revision == result.revision:
        raise RequestError(
            f"job {result.job_id} would be compared with itself", next_step=f"Type: scoring results diff {result.job_id} --against JOB"
        )
    if found.base.keys != result.keys:
        raise RequestError(
            f"the results of job {result.job_id} and of job {found.base.job_id} have different key columns: "
            f"{', '.join(result.keys)} and {', '.join(found.base.keys)}",
            next_step="Compare results of definitions with the same keys.",
        )
    return found


def _of_channel(bucket: Bucket, result: ResultManifest) -> ComparedResults:
    advice = f"Name the other result: scoring results diff {result.job_id} --against JOB"
    channel = result.channel
    if channel is None:
        raise RequestError(f"job {result.job_id} was scored for no channel, so there is no result to compare it with", next_step=advice)
    now = next(channel_changes(bucket, channel), None)
    revision, relation = _base_of(bucket, result, channel, now)
    if revision is None:
        raise RequestError(f"{channel} had no result before that of job {result.job_id}", next_step=advice)
    found = inspect_result(bucket, revision)
    if not isinstance(found, FoundResult):
        raise RequestError(f"the result {relation}, {revision}, is gone or cannot be read", next_step=advice)
    return ComparedResults(result=result, base=found.manifest, relation=relation, note=_note(result, channel, found.manifest, now))


def _base_of(bucket: Bucket, result: ResultManifest, channel: str, now: ChannelChange | None) -> tuple[str | None, str]:
    """The revision of the base, if there is one, and what it is in words."""
    verdict = read_verdict(bucket, result.revision)
    if verdict is not None and verdict.base is not None:
        return verdict.base.revision, f"that {channel} showed when the guard judged"
    shown = first_shown(bucket, channel, result)
    if shown is not None:
        return next(iter(shown.back), None), f"that {channel} showed before"
    return (None if now is None else now.revision), f"that {channel} shows now"


def _note(result: ResultManifest, channel: str, base: ResultManifest, now: ChannelChange | None) -> str:
    if now is None or now.shows(base) or now.shows(result):
        return ""
    return (
        f"{channel} shows the result of job {now.job_id} now. Compare with it by: "
        f"scoring results diff {result.job_id} --against {now.job_id}"
    )


def open_checked_index(bucket: Bucket, result: ResultManifest) -> PredictionIndex:
    """Opens the index of a result after its content is verified; a result of an earlier version gets one from its predictions first.

    Raises:
        UnreadableIndexError: the index is damaged, or it is missing and the predictions are damaged.
    """
    path = f"{result.revision}/{INDEX}"
    again = "Score its table again with --again: the finish step writes an index."
    try:
        if not bucket.exists(path):
            return open_result_index(bucket, result)
        if result.index is not None:
            with contextlib.suppress(UnreadableIndexError):
                index = open_index(bucket, path, result.index)
                index.verify()
                return index
        index = open_index(bucket, path)
    except UnreadableIndexError as error:
        raise UnreadableIndexError(error.message, next_step=again) from error
    if index.built_from != result.text_sha256:
        raise UnreadableIndexError(f"{path} is damaged: it is not the index of the manifest beside it", next_step=again)
    return index


def far_of_channel(bucket: Bucket, channel: str | None) -> float:
    """The share by which a rate must change to have moved, as the guard of a channel counts it; the default without a channel."""
    guard = ChannelGuard() if channel is None else guard_config_or_defaults(bucket).channel(channel)
    return guard.checks.moved.by_more_than
