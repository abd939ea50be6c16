"""Prints channels and held results in a terminal."""

from collections.abc import Sequence

from rich.console import Console

from producers.channels.held import HeldResult
from producers.display.consoles import print_line
from producers.display.listing import print_list
from producers.durations import ago
from shared.catalog.channels import ChannelChange


def print_held(console: Console, results: Sequence[HeldResult]) -> None:
    """Prints one record per held result, and how to decide about it."""
    columns = ("channel", "held", "table", "job", "why")
    rows = [(result.channel, ago(result.since), result.table, result.job_id, result.reason) for result in results]
    print_list(console, columns, rows, whole=("channel", "held", "job"))
    console.print()
    print_line(console, "See which rows changed with: scoring results diff JOB")
    print_line(console, "Publish one with: scoring results approve JOB --reason TEXT")
    print_line(console, "Or keep what its channel shows with: scoring results refuse JOB --reason TEXT")


def print_changes(console: Console, changes: Sequence[ChannelChange]) -> None:
    """Prints one record per change of a channel."""
    columns = ("when", "how", "job", "release", "by", "reason")
    rows = [
        (
            f"{change.at:%Y-%m-%d %H:%M:%S} UTC",
            f"{change.how}{', pinned' if change.pinned else ''}",
            change.job_id,
            change.release,
            change.by,
            change.reason,
        )
        for change in changes
    ]
    print_list(console, columns, rows, whole=("when", "job", "release"))
