"""Durations as people write them: ``30d``, ``2h``, ``90min``, ``10s``."""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from shared.text.yaml_files import shown

_UNITS = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds"}
_LONGEST_DAYS = 36_500
_SHOWN_CHARACTERS = 60


def read_duration(text: str) -> timedelta:
    """Reads a number with its unit; raises ValueError with an example."""
    found = re.fullmatch(r"([0-9]{1,9}) ?(d|h|min|s)", text.strip())
    if found is None:
        raise ValueError(
            f"{text[:_SHOWN_CHARACTERS]!r} is not a length of time: write a whole number with d, h, min or s after it, like 30d"
        )
    length = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if length > timedelta(days=_LONGEST_DAYS):
        raise ValueError(f"{text!r} is longer than a hundred years")
    return length


def in_words(length: timedelta) -> str:
    """Format a duration in the largest unit that gives a whole number; ``read_duration`` can read it."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _read_value(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} has no unit")
    return read_duration(value)


Length = Annotated[
    timedelta,
    BeforeValidator(_read_value),
    WithJsonSchema({"type": "string", "pattern": "^ *[0-9]{1,9} ?(d|h|min|s) *$"}),
]
"""A duration in a file that people write."""
