"""Computes the times of a cron line in a time zone between two moments.

The five fields are those of crontab(5), including names of months and days, and 7 for Sunday; if day of month and day of week are both
given, one of them must match. By the clock of the zone every run comes once a day, also on a clock change: a run in a skipped hour comes an
hour later, and a run in a doubled hour comes in the first. A line that runs every hour runs in both.

Celery's own crontab says whether a task is due since its last run, and must remember that run; this module is stateless.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shared.text.yaml_files import shown

DAY = timedelta(days=1)
FURTHEST = timedelta(days=8 * 366)
"""The longest time between two runs, for February 29: eight years."""

_MONTHS = {
    name: number for number, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_WEEKDAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}


@dataclass(frozen=True, kw_only=True)
class Cron:
    """The values that the five fields allow; weekday 0 is Sunday."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool
    """True when the line restricts both the day of month and the day of week: then one match is enough."""

    def is_on(self, day: date) -> bool:
        """Returns True when the line runs on this day."""
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (by_month or by_week if self.either_day else by_month and by_week)


@functools.lru_cache(maxsize=1000)
def read_cron(text: str) -> Cron:
    """Parses a cron line of five fields; raises ValueError with the problem."""
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"it has {len(fields)} field{'' if len(fields) == 1 else 's'} and not 5")
    minute, hour, day, month, weekday = fields
    return Cron(
        minutes=_read_field(minute, "minute", 0, 59),
        hours=_read_field(hour, "hour", 0, 23),
        days=_read_field(day, "day of month", 1, 31),
        months=_read_field(month, "month", 1, 12, _MONTHS),
        weekdays=tuple(sorted({number % 7 for number in _read_field(weekday, "day of week", 0, 7, _WEEKDAYS)})),
        either_day=not day.startswith("*") and not weekday.startswith("*"),
    )


def moments(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yields the times of a line after one moment and up to another, in UTC, the oldest first."""
    day = after.astimezone(zone).date() - DAY
    while day <= until.astimezone(zone).date():
        yield from (moment for moment in _on_day(cron, zone, day) if after < moment <= until)
        day += DAY


def newest_moments(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yields the same times, the newest first."""
    day = until.astimezone(zone).date()
    while day >= after.astimezone(zone).date() - DAY:
        yield from (moment for moment in reversed(_on_day(cron, zone, day)) if after < moment <= until)
        day -= DAY


@functools.lru_cache(maxsize=1000)
def _on_day(cron: Cron, zone: ZoneInfo, day: date) -> tuple[datetime, ...]:
    if not cron.is_on(day):
        return ()
    # in a doubled hour the second pass counts only for lines that run every hour
    folds = (0, 1) if len(cron.hours) == 24 else (0,)
    walls = (datetime.combine(day, time(hour, minute, fold=fold), zone) for hour in cron.hours for minute in cron.minutes for fold in folds)
    # a set, because a skipped time may coincide with another run
    return tuple(sorted({wall.astimezone(UTC) for wall in walls if not (wall.fold and _is_skipped(wall))}))


def _is_skipped(wall: datetime) -> bool:
    """Returns True when the clock of the zone skips this time."""
    return wall.astimezone(UTC).astimezone(wall.tzinfo).replace(tzinfo=None, fold=0) != wall.replace(tzinfo=None, fold=0)


def _read_field(text: str, what: str, lowest: int, highest: int, names: Mapping[str, int] | None = None) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = lowest, highest
        else:
            start = _read_number(first, what, lowest, highest, names)
            end = _read_number(last, what, lowest, highest, names) if dash else highest if slash else start
        if start > end:
            raise ValueError(f"the {what} {shown(span)} runs backwards")
        found.update(range(start, end + 1, _read_number(step, f"step of the {what}", 1, highest) if slash else 1))
    return tuple(sorted(found))


def _read_number(text: str, what: str, lowest: int, highest: int, names: Mapping[str, int] | None = None) -> int:
    number = (names or {}).get(text.lower())
    if number is None:
        # isdecimal alone accepts the digits of every script
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else -1
    if not lowest <= number <= highest:
        raise ValueError(f"the {what} {shown(text)} is not in {lowest} to {highest}")
    return number
