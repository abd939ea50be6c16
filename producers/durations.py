"""Durations and sizes in words: ``30d``, ``2h``, ``90min``; ``3 h ago``; ``1.4 MB``."""

from datetime import UTC, datetime

from shared.text.durations import read_duration

__all__ = ["ago", "human_size", "read_duration"]


def human_size(size: int) -> str:
    """A size in bytes as text, in the largest unit that fits."""
    for unit, length in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= length:
            return f"{size / length:,.1f} {unit}"
    return f"{size} B"


def ago(moment: datetime) -> str:
    """The time since a moment as text, in the largest unit that fits."""
    seconds = max((datetime.now(UTC) - moment).total_seconds(), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
