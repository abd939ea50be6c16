"""Notices about changes of a channel that a person made: rollbacks and the ends of pins."""

from datetime import datetime, timedelta

from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange, read_channel
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce

RECENT = timedelta(days=1)
"""The sweep announces no older change: its notice may have been removed after its delivery."""


def announce_change(bucket: Bucket, channel: str, change: ChannelChange) -> None:
    """Announces a change that a person made, once."""
    if change.is_publication:
        return
    facts = {"channel": channel, "from": change.was or "nothing", "to": change.job_id, "by": change.by, "reason": change.reason}
    is_pin = change.how == "rolled back"
    notice = Notice(
        good=not is_pin,
        title=f"{change.how}: {channel} shows the result of job {change.job_id}",
        facts={fact: value for fact, value in facts.items() if value},
        next_step=f"Later results are held. End this with: scoring results unpin {channel}" if is_pin else "",
    )
    announce(bucket, f"channel-{channel}-{change.number:06d}", notice)


def announce_ended_change(bucket: Bucket, channel: str, now: datetime) -> None:
    """Announces a change whose command was interrupted, after the sweep has ended it."""
    change = read_channel(bucket, channel)
    if change is not None and now - change.at < RECENT:
        announce_change(bucket, channel, change)
