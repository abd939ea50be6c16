"""Lengths of time and sizes in people's words: ``30d``, ``2h``, ``90min``; ``3 h ago``; ``1.4 MB``."""

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds"}
_LONGEST_DAYS = 36_500


def read_duration(text: str) -> timedelta:
    """A number with its unit; raises ValueError with what to write instead."""
    found = re.fullmatch(r"([0-9]{1,9}) ?(d|h|min|s)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no length of time: write a whole number with d, h, min or s behind it, like 30d")
    length = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if length > timedelta(days=_LONGEST_DAYS):
        raise ValueError(f"{text!r} is longer than a hundred years")
    return length


def human_size(size: int) -> str:
    """Bytes in the largest unit that fits."""
    for unit, length in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= length:
            return f"{size / length:,.1f} {unit}"
    return f"{size} B"


def ago(moment: datetime) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max((datetime.now(UTC) - moment).total_seconds(), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
