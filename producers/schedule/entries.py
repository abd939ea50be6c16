"""The schedule, ``config/schedule.yaml`` in the bucket: read, checked, and which of its runs are due. Nothing here reads or writes a file.

A run is an entry at one of its moments. It has no state of its own: the job that was asked for under its name is its state.
"""

import contextlib
import difflib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from producers.durations import read_duration
from producers.schedule.cron import DAY, FURTHEST, Cron, moments, newest_moments, read_cron
from producers.schedule.cron_advice import advise
from shared.errors import RequestError
from shared.records import ModelRef, Name, Promote, check_bucket_path
from shared.text.yaml_files import SHOWN_CHARACTERS, NotYamlError, read_yaml, shown

SCHEDULE = "config/schedule.yaml"
MAX_SCHEDULE_BYTES = 256 * 1024
ON_TIME = timedelta(minutes=3)
"""Whoever looks is never later than this, unless it was down."""
MOST_CAUGHT_UP, LONGEST_CAUGHT_UP = 100, timedelta(days=366)
"""So many missed runs of an entry are caught up at most, the newest of them, and none that is older."""

TIMES_SHOWN = 6

CatchUp = Literal["none", "last", "all"]

_DATE = re.compile(r"\{date:([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with the file, and where."""

    entry: str
    field: str
    wrong: str
    write: str
    """What to write instead."""

    @property
    def place(self) -> str:
        """Entry and field, as far as they are known."""
        return ": ".join(part for part in (self.entry, self.field) if part)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the schedule: what is asked for when."""

    name: str
    cron: str
    time_zone: str
    score: str = ""
    """The table to score, with ``{date:...}`` in it; empty for an entry that trains."""
    model: str = ""
    interval: bool = False
    """Ask for the bounds of each rate as well."""
    train: str = ""
    """The definition to train; empty for an entry that scores."""
    table: str = ""
    """The table to train on; empty for the newest there is."""
    eval: str = ""
    alias: str = ""
    promote: Promote = "never"
    """Whether the release that is trained becomes the champion."""
    force: bool = False
    """Train on a table that is refused as too small or implausible."""
    catch_up: CatchUp = "last"
    wait_for: timedelta = timedelta(hours=2)
    """How long a run waits for its table, or its model, to be there."""
    late_after: timedelta = timedelta(hours=6)
    """A run that has not ended so long after its moment is late."""
    enabled: bool = True

    @property
    def kind(self) -> Literal["score", "train"]:
        """What its jobs do."""
        return "score" if self.score else "train"

    @property
    def line(self) -> Cron:
        """What the cron line allows."""
        return read_cron(self.cron)

    @property
    def zone(self) -> ZoneInfo:
        """The clock that it goes by."""
        return ZoneInfo(self.time_zone)

    @property
    def timing(self) -> str:
        """Another one when it runs at other times."""
        return hashlib.sha256(f"{self.cron} {self.time_zone}".encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Run:
    """An entry at one of its moments: its logical date."""

    entry: Entry
    at: datetime
    """In UTC."""

    @property
    def key(self) -> str:
        """Names the run, whoever asks for it and when: ``daily-20261123t0430``."""
        return f"{self.entry.name}-{self.at:%Y%m%dt%H%M}"

    @property
    def local(self) -> datetime:
        """The moment by the clock of its zone."""
        return self.at.astimezone(self.entry.zone)

    def path(self, pattern: str) -> str:
        """The table of this run."""
        return _DATE.sub(lambda found: self.local.strftime(found[1]), pattern)


def due_runs(entry: Entry, since: datetime, now: datetime) -> list[Run]:
    """The runs that ought to have been started by now, the oldest first: those on time, and of the missed ones what the rule says.

    ``since`` is when the entry came into force: nothing before it was ever due.
    """
    oldest = max(since, now - LONGEST_CAUGHT_UP)
    on_time = max(since, now - ON_TIME)
    newest = list(itertools.islice(newest_moments(entry.line, entry.zone, oldest, now), MOST_CAUGHT_UP))
    chosen = newest if entry.catch_up == "all" else [moment for moment in newest if moment > on_time]
    if entry.catch_up == "last":
        chosen = chosen or newest[:1]
    return [Run(entry=entry, at=moment) for moment in reversed(chosen)]


def newest_runs(entry: Entry, after: datetime, until: datetime) -> Iterator[Run]:
    """The runs between two moments, the newest first."""
    return (Run(entry=entry, at=moment) for moment in newest_moments(entry.line, entry.zone, after, until))


def next_run(entry: Entry, now: datetime) -> Run | None:
    """The run that comes next; None when none ever comes."""
    moment = next(moments(entry.line, entry.zone, now, now + FURTHEST), None)
    return None if moment is None else Run(entry=entry, at=moment)


def runs_on(entry: Entry, first: date, last: date) -> list[Run]:
    """The runs of these days by the clock of the zone, the oldest first."""
    start = datetime.combine(first, datetime.min.time(), UTC) - DAY
    end = datetime.combine(last, datetime.min.time(), UTC) + 2 * DAY
    runs = (Run(entry=entry, at=moment) for moment in moments(entry.line, entry.zone, start, end))
    return [run for run in runs if first <= run.local.date() <= last]


def one_run(entry: Entry, text: str) -> Run:
    """The run at a moment like ``2026-11-23T14:00`` by the clock of the zone, or the only one of a day like ``2026-11-23``.

    A moment with an offset, like ``2026-11-23T14:00+00:00``, is that moment on any clock.

    Raises:
        RequestError: there is no such run, or the day has several.
    """
    try:
        wanted = datetime.fromisoformat(text)
        wanted = wanted.astimezone(entry.zone) if wanted.tzinfo else wanted
        runs = runs_on(entry, wanted.date(), wanted.date())
    except (ValueError, OverflowError):
        raise RequestError(f"{text!r} is no date", next_step="Write it like 2026-11-23, or 2026-11-23T14:00.") from None
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
    if wanted.tzinfo:  # in UTC: two moments of one zone are compared by its clock, which shows some times twice
        return run.at == wanted.astimezone(UTC)
    return run.local.replace(tzinfo=None, fold=0) == wanted


# --- reading -----------------------------------------------------------------------------------------------------------------


def is_blank(text: bytes) -> bool:
    """True for a file that says nothing: empty, comments alone, or ``null``. ``[]`` says that there are no entries."""
    if all(not line.strip() or line.lstrip().startswith(b"#") for line in text.splitlines()):
        return True
    with contextlib.suppress(NotYamlError):
        return len(text) <= MAX_SCHEDULE_BYTES and read_yaml(text) is None
    return False


def read_schedule(text: bytes) -> tuple[list[Entry], list[Problem]]:
    """The entries that can be kept, and what is wrong with the others."""
    whole = "the whole file"
    if len(text) > MAX_SCHEDULE_BYTES:
        return [], [Problem(entry=whole, field="", wrong=f"it has {len(text):,} bytes", write=f"at most {MAX_SCHEDULE_BYTES:,} bytes")]
    try:
        raw = read_yaml(text)
    except NotYamlError as error:
        write = (
            'cron: "30 5 * * *", in quotes, when a line begins with a star'
            if b"*" in text
            else "a list of entries, as docs/how-to/schedule.md shows it"
        )
        return [], [Problem(entry=whole, field="", wrong=str(error), write=write)]
    if raw is None:
        return [], []
    if not isinstance(raw, list):
        return [], [Problem(entry=whole, field="", wrong="it is not a list of entries", write="- name: daily, and the fields of it below")]
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, fields in enumerate(raw, 1):
        entry, found = _read_entry(fields, f"entry {number}")
        if entry is not None and entry.name in {other.name for other in entries}:
            found = [Problem(entry=entry.name, field="name", wrong="another entry has it", write="a name of its own")]
        problems += found
        entries += [entry] if entry is not None and not found else []
    return entries, problems


def _read_entry(fields: object, place: str) -> tuple[Entry | None, list[Problem]]:
    if not isinstance(fields, dict):
        return None, [Problem(entry=place, field="", wrong="it has no fields", write="name, cron, time_zone, and score or train")]
    named = fields["name"].strip()[:SHOWN_CHARACTERS] if isinstance(fields.get("name"), str) else place
    problems = []
    values: dict[str, Any] = {}
    for field, value in fields.items():
        if field not in _READERS:
            name = str(field)[:SHOWN_CHARACTERS]
            close = difflib.get_close_matches(name, _READERS, 1)
            write = close[0] if close else f"one of {', '.join(_READERS)}"
            problems.append(Problem(entry=named, field=name, wrong="there is no such field", write=write))
            continue
        reader, write = _READERS[field]
        try:
            values[field] = reader(value)
        except ValueError as error:
            meant = advise(value) if field == "cron" else ""
            problems.append(Problem(entry=named, field=field, wrong=str(error), write=meant or write))
    problems += [Problem(entry=named, field=field, wrong=wrong, write=_READERS[field][1]) for field, wrong in _contradictions(fields)]
    return (None, problems) if problems else (Entry(**values), [])


def _contradictions(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Field and what is wrong with having it, or not having it, beside the others."""
    yield from ((field, "it is missing") for field in ("name", "cron", "time_zone") if field not in fields)
    scores, trains = "score" in fields, "train" in fields
    if scores == trains:
        yield "score", "an entry either scores or trains" if scores else "it is missing, and so is train"
        return
    if scores and "model" not in fields:
        yield "model", "it is missing"
    for field in ("table", "eval", "alias", "promote", "force") if scores else ("model", "interval"):
        if field in fields:
            yield field, f"it does not belong to an entry that {'scores' if scores else 'trains'}"
    if "eval" in fields and "table" not in fields and trains:
        yield "table", "it is missing, and eval is there"
    if trains and fields.get("promote") == "auto" and "table" in fields and "eval" not in fields:
        yield "eval", "it is missing, and promote: auto judges on it"


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{shown(value)} is no text")
    return value.strip()


def _read_name(value: object) -> str:
    name = _text(value)
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{shown(value)} cannot be a name")
    return name


def _read_cron(value: object) -> str:
    line = read_cron(_text(value))
    today = datetime.now(UTC)
    if next(moments(line, ZoneInfo("UTC"), today, today + FURTHEST), None) is None:
        raise ValueError(f"{shown(value)} never comes")
    return str(value).strip()


def _read_zone(value: object) -> str:
    try:
        return ZoneInfo(_text(value)).key
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"there is no time zone {shown(value)}") from None


def _read_pattern(value: object) -> str:
    pattern = _text(value)
    unknown = _unknown_directive(pattern)
    if unknown:
        codes = "the year is %Y, the month %m, the day %d, the hour %H, the minute %M"
        raise ValueError(f"{shown(value)} has a date that cannot be written so: {unknown!r} means nothing, {codes}")
    try:
        sample = _DATE.sub(lambda found: datetime(2026, 11, 23, 5, 30).strftime(found[1]), pattern)
    except ValueError:  # of strftime
        raise ValueError(f"{shown(value)} has a date that cannot be written so") from None
    if "{" in sample or "}" in sample:
        raise ValueError(f"{shown(value)} has braces that are no {{date:...}}")
    try:
        return check_bucket_path(sample) and pattern
    except ValueError as error:
        raise ValueError(f"{shown(value)} {error}") from None


def _unknown_directive(pattern: str) -> str:
    """The first piece of a date that stands for nothing, so that it would stay in the path as it is."""
    for found in _DATE.finditer(pattern):
        for directive in re.findall(r"%[-_0^#]?.?", found[1], re.DOTALL):
            with contextlib.suppress(ValueError):
                if datetime(2026, 11, 23, 5, 30).strftime(directive) == directive:
                    return str(directive)
    return ""


def _of_type(kind: Any) -> Callable[[object], str]:  # noqa: ANN401 - a type with pydantic's constraints
    def read(value: object) -> str:
        try:
            return str(TypeAdapter(kind).validate_python(_text(value)))
        except ValidationError:
            raise ValueError(f"{shown(value)} cannot be a name") from None

    return read


def _read_length(value: object) -> timedelta:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} has no unit")
    return read_duration(value)


def _one_of(*choice: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choice:
            raise ValueError(f"{shown(value)} cannot be")
        return str(value)

    return read


def _read_switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


_READERS: dict[str, tuple[Callable[[object], Any], str]] = {
    "name": (_read_name, "up to 40 small letters, digits and -, a letter first, like daily"),
    "cron": (_read_cron, 'minute, hour, day of month, month, day of week, like "30 5 * * *"'),
    "time_zone": (_read_zone, "a zone of the IANA list, like Europe/Berlin, or UTC"),
    "score": (_read_pattern, "a path in the bucket, like data/predict/input/{date:%Y/%m/%d}"),
    "model": (_of_type(ModelRef), "a definition, release or alias, like champion"),
    "train": (_of_type(Name), "a definition, like v2"),
    "table": (_read_pattern, "a path in the bucket, like data/train/{date:%Y/%m/%d}/train.csv.gz"),
    "eval": (_read_pattern, "a path in the bucket, like data/train/{date:%Y/%m/%d}/eval.csv.gz"),
    "alias": (_of_type(Name), "an alias, like challenger"),
    "promote": (_one_of(*get_args(Promote)), "never, auto (if it is better beyond chance) or always"),
    "interval": (_read_switch, "true or false"),
    "force": (_read_switch, "true or false"),
    "catch_up": (_one_of(*get_args(CatchUp)), "none, last or all"),
    "wait_for": (_read_length, "a whole number with d, h, min or s, like 2h"),
    "late_after": (_read_length, "a whole number with d, h, min or s, like 6h"),
    "enabled": (_read_switch, "true or false"),
}
"""Field -> how its value is read, and what to write where that fails."""
