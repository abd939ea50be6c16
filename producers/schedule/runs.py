"""The runs of an entry: due runs, the next run, and the run of a date. This module reads and writes no files.

A run is an entry at one of its times. Its state is the state of the job that was requested under its key.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from producers.schedule.cron import DAY, FURTHEST, moments, newest_moments
from producers.schedule.dated_paths import fill_date
from producers.schedule.entries import Entry
from shared.errors import RequestError

ON_TIME = timedelta(minutes=3)
"""An active beat starts a run within this time."""
MOST_CAUGHT_UP, LONGEST_CAUGHT_UP = 100, timedelta(days=366)
"""Limits of catching up: the number of missed runs of an entry, newest first, and their age."""

TIMES_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Run:
    """An entry at one of its times, the logical date of the run."""

    entry: Entry
    at: datetime
    """In UTC."""

    @property
    def key(self) -> str:
        """Identifies the run in every request for it: ``daily-20261123t0430``."""
        return f"{self.entry.name}-{self.at:%Y%m%dt%H%M}"

    @property
    def local(self) -> datetime:
        """The time in the zone of the entry."""
        return self.at.astimezone(self.entry.zone)

    def path(self, pattern: str) -> str:
        """The path of the run's table."""
        return fill_date(pattern, self.local)


def due_runs(entry: Entry, since: datetime, now: datetime) -> list[Run]:
    """The runs that must be started by now, the oldest first: those on time, and missed ones that ``catch_up`` allows.

    ``since`` is the time at which the entry came into force; earlier runs were never due.
    """
    oldest = max(since, now - LONGEST_CAUGHT_UP)
    on_time = max(since, now - ON_TIME)
    newest = list(itertools.islice(newest_moments(entry.line, entry.zone, oldest, now), MOST_CAUGHT_UP))
    chosen = newest if entry.catch_up == "all" else [moment for moment in newest if moment > on_time]
    if entry.catch_up == "last":
        chosen = chosen or newest[:1]
    return [Run(entry=entry, at=moment) for moment in reversed(chosen)]


def newest_runs(entry: Entry, after: datetime, until: datetime) -> Iterator[Run]:
    """Yields the runs between two moments, the newest first."""
    return (Run(entry=entry, at=moment) for moment in newest_moments(entry.line, entry.zone, after, until))


def next_run(entry: Entry, now: datetime) -> Run | None:
    """The next run; None when the line never matches again."""
    moment = next(moments(entry.line, entry.zone, now, now + FURTHEST), None)
    return None if moment is None else Run(entry=entry, at=moment)


def is_newest(run: Run, now: datetime) -> bool:
    """Returns True if no later run of the entry was due: the result of an older run never replaces what its channel shows."""
    later = next_run(run.entry, run.at)
    return later is None or later.at > now


def runs_on(entry: Entry, first: date, last: date) -> list[Run]:
    """The runs on these days in the zone of the entry, the oldest first."""
    start = datetime.combine(first, datetime.min.time(), UTC) - DAY
    end = datetime.combine(last, datetime.min.time(), UTC) + 2 * DAY
    runs = (Run(entry=entry, at=moment) for moment in moments(entry.line, entry.zone, start, end))
    return [run for run in runs if first <= run.local.date() <= last]


def one_run(entry: Entry, text: str) -> Run:
    """The run at a time like ``2026-11-23T14:00`` in the zone of the entry, or the only run of a day like ``2026-11-23``.

    A time with an offset, like ``2026-11-23T14:00+00:00``, is independent of the zone.

    Raises:
        RequestError: no run matches, or the day has several.
    """
    try:
        wanted = datetime.fromisoformat(text)
        wanted = wanted.astimezone(entry.zone) if wanted.tzinfo else wanted
        runs = runs_on(entry, wanted.date(), wanted.date())
    except (ValueError, OverflowError):
        raise RequestError(f"{text!r} is not a date", next_step="Write it like 2026-11-23, or 2026-11-23T14:00.") from None
    is_day = len(text) <= len("2026-11-23")
    found = runs if is_day else [run for run in runs if _is_at(run, wanted)][:1]
    if len(found) == 1:
        return found[0]
    if not runs:
        raise RequestError(
            f"{entry.name} has no run on {wanted:%Y-%m-%d}: it runs at {entry.cron} {entry.time_zone}",
            next_step="Name another date; when it ran last and runs next is shown by: scoring schedule list",
        )
    times = ", ".join(f"{run.local:%H:%M}" for run in runs[:TIMES_SHOWN]) + (", ..." if len(runs) > TIMES_SHOWN else "")
    raise RequestError(
        f"{entry.name} has {'several runs' if is_day else f'no run at {wanted:%H:%M}'} on {wanted:%Y-%m-%d}; its times are: {times}",
        next_step=f"Name one: scoring schedule run {entry.name} --date {runs[0].local:%Y-%m-%dT%H:%M}",
    )


def _is_at(run: Run, wanted: datetime) -> bool:
    if wanted.tzinfo:  # in UTC: datetimes of one zone compare by its clock, which shows some times twice
        return run.at == wanted.astimezone(UTC)
    return run.local.replace(tzinfo=None, fold=0) == wanted
