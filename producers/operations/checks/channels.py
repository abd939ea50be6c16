"""The check of the channels: their limits, what they show, and the results that wait for a person."""

import difflib
from collections.abc import Iterator

from producers.channels.held import list_held
from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from producers.schedule.run_states import read_entries
from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange, is_being_changed, list_channels, read_channel, shows_its_result
from shared.catalog.results import FoundResult, inspect_result
from shared.errors import RequestError
from shared.guard.config import GUARD, GuardConfig, read_guard_config


def check_channels(examined: Examined) -> Iterator[Finding]:
    """Checks that config/guard.yaml can be used, that each channel shows a whole result, and that no result is held."""
    if examined.bucket is None:
        return
    names = list_channels(examined.bucket)
    try:
        yield from _check_names(examined.bucket, read_guard_config(examined.bucket), names)
    except RequestError as problem:
        yield error("guard", problem.message, problem.next_step)
    for name in names:
        yield from _check_channel(examined.bucket, name)
    for held in list_held(examined.bucket):
        yield warning(
            f"channel {held.channel}",
            f"the result of job {held.job_id} is held since {held.since:%Y-%m-%d %H:%M} UTC: {held.reason}",
            f"Decide with: scoring results approve {held.job_id} --reason TEXT, or: scoring results refuse {held.job_id} --reason TEXT",
        )


def _check_names(bucket: Bucket, config: GuardConfig, channels: list[str]) -> Iterator[Finding]:
    """Yields a warning for each section of config/guard.yaml about a channel that nothing publishes on: its limits are in force nowhere."""
    entries, problems, _ = read_entries(bucket)
    if problems:
        return  # the check of the schedule names them
    known = {*channels, *(entry.shown_on for entry in entries if entry.shown_on), *(held.channel for held in list_held(bucket))}
    for name in sorted({*config.channels} - known):
        close = difflib.get_close_matches(name, known, 1)
        there = f"there are: {', '.join(sorted(known))}" if known else "there is none yet"
        yield warning(
            "guard",
            f"{GUARD} has limits for {name}, but there is no channel {name}, and the schedule names none; {there}",
            f"Write {close[0]}." if close else "Correct its name, unless its first result is still to come.",
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
