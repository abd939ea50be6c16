"""The check of the channels: their limits, what they show, and the results that wait for a person."""

from collections.abc import Iterator

from producers.channels.held import list_held
from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange, is_being_changed, list_channels, read_channel, shows_its_result
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import RequestError
from shared.guard.config import read_guard_config


def check_channels(examined: Examined) -> Iterator[Finding]:
    """Checks that config/guard.yaml can be used, that each channel shows a whole result, and that no result is held."""
    if examined.bucket is None:
        return
    try:
        read_guard_config(examined.bucket)
    except RequestError as problem:
        yield error("guard", problem.message, problem.next_step)
    names = list_channels(examined.bucket)
    for name in names:
        yield from _check_channel(examined.bucket, name)
    for held in list_held(examined.bucket):
        yield warning(
            f"channel {held.channel}",
            f"the result of job {held.job_id} is held since {held.since:%Y-%m-%d %H:%M} UTC: {held.reason}",
            f"Decide with: scoring results approve {held.job_id} --reason TEXT, or: scoring results refuse {held.job_id} --reason TEXT",
        )


def _check_channel(bucket: Bucket, name: str) -> Iterator[Finding]:
    subject = f"channel {name}"
    try:
        now = read_channel(bucket, name)
    except RequestError as problem:
        yield error(subject, problem.message, problem.next_step)
        return
    if now is None:
        yield error(subject, "its changes are gone", f"Choose its result: scoring results rollback {name} --to JOB --reason TEXT")
        return
    if not isinstance(inspect_result(bucket, now.revision), FoundResult):
        yield error(
            subject,
            f"the result that it shows, {now.revision}, is gone or cannot be read",
            f"Choose another one: scoring results rollback {name} --to JOB --reason TEXT",
        )
    elif not shows_its_result(bucket, name, now):
        yield _other_files(bucket, subject, name, now)
    elif now.pinned:
        yield warning(
            subject,
            f"it is pinned to the result of job {now.job_id} by {now.by} since {now.at:%Y-%m-%d %H:%M} UTC: {now.reason}",
            f"Later results are held. End this with: scoring results unpin {name}",
        )
    else:
        yield ok(subject, f"it shows the result of job {now.job_id} since {now.at:%Y-%m-%d %H:%M} UTC")


def _other_files(bucket: Bucket, subject: str, name: str, now: ChannelChange) -> Finding:
    text = f"its files are not those of the result that it shows, of job {now.job_id}"
    if is_being_changed(bucket, name):
        return warning(subject, f"{text}: a change is not complete", "The sweep completes it within minutes.")
    return error(subject, text, f"Copy them once more with: scoring results rollback {name} --to {now.job_id} --reason TEXT")
