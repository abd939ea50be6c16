"""The finding of a check about a group of rows, before it is held against the limits."""

from dataclasses import dataclass

from shared.guard.checks import Weight
from shared.guard.verdict import ALL
from workers.guard.checks.words import rows_in_words


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A value, and what it says in words."""

    group: str = ALL
    value: float
    words: str
    weight: Weight | None = None
    model_value: float | None = None
    """The value that the difference between the two releases gives by itself."""
    model_words: str = ""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A check that cannot be made for a group of rows."""

    group: str = ALL
    reason: str


def too_few(group: str, rows: int, min_rows: int, where: str) -> Skipped:
    """The check is skipped because a group has too few rows."""
    of_group = "" if group == ALL else f" of {group}"
    return Skipped(group=group, reason=f"{where} has {rows_in_words(rows)}{of_group}, fewer than {min_rows:,}")
