"""States of the runs of the schedule, and which runs are overdue."""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog

from producers.enqueue.deduplication import ScheduledRun
from producers.enqueue.sources import newest_training_tables
from producers.local_definitions import definitions_here
from producers.schedule.cron import FURTHEST
from producers.schedule.entries import Entry
from producers.schedule.runs import Run, newest_runs, next_run
from producers.schedule.schedule_file import SCHEDULE, Problem, is_blank, read_schedule
from shared.bucket.interface import Bucket
from shared.catalog.aliases import resolve
from shared.catalog.paths import MODELS
from shared.errors import PermanentError, RequestError, ScoringError, TableError
from shared.jobs.folder import JobFolder
from shared.jobs.outbox import NoticeFolder
from shared.jobs.states import FINAL_STATES, JobState
from shared.records import Record, Timestamp
from shared.settings import Settings
from shared.table_files import find_files
from shared.text.yaml_files import shown

log = structlog.get_logger()

STATE_FOLDER = "schedule"
"""The folder with the state that the scheduler keeps of each entry."""
WAITING, WAITING_TIME_FORMAT = "waiting", "%Y%m%dt%H%M"
SETTLED = timedelta(seconds=10)
"""A table is complete when it has not been written to for this time: copying to a disk takes a while."""
MAX_LATE_RUNS = 20
"""The newest runs of one entry that are checked for being late."""


class Since(Record):
    """The record of when an entry came into force."""

    since: Timestamp


class RunPhase(StrEnum):
    """The state of a run that has no job of its own; with a job, the state of the job is that of the run."""

    PENDING = "not started"
    """Nothing was requested yet; of a backfill: the request was refused."""
    WAITING = "waits for its table or model"
    """The run is due, and a table or the model is missing."""
    GIVEN_UP = "did not start"
    """The scheduler gave the run up and sent a notice."""
    DONE_BEFORE = "done before"
    """Of a backfill: the run was done already and is not repeated."""


SETTLED_STATES = (*FINAL_STATES, RunPhase.GIVEN_UP)


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The state of a run, its job and the reason."""

    state: JobState | RunPhase
    job_id: str = ""
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        """True when the state does not change by itself any more."""
        return self.state in SETTLED_STATES


@dataclass(frozen=True, kw_only=True)
class EntryLine:
    """An entry with its last due run, the state of that run, and the next run."""

    entry: Entry
    last: Run | None
    state: RunState | None
    next: Run | None

    def encode(self) -> dict[str, Any]:
        """The line as JSON values; moments in UTC."""
        fields = {name: value for name, value in vars(self.entry).items() if value != ""}
        last = {"at": self.last.at, **vars(self.state)} if self.last and self.state else None
        return fields | {"last": last, "next": self.next.at if self.next else None}


def read_entries(bucket: Bucket) -> tuple[list[Entry], list[Problem], str]:
    """The valid entries, the problems of the others, and a digest of the file; no entries without a file.

    A missing or empty file is a problem if entries were in force: the file may be lost, or about to be written.
    """
    return entries_in(bucket, bucket.read(SCHEDULE))


def entries_in(bucket: Bucket, text: bytes | None) -> tuple[list[Entry], list[Problem], str]:
    """The valid entries in the text of a schedule, the problems of the others, and a digest; ``text`` is None for a missing file."""
    if text is None or is_blank(text):
        remembered = bucket.folders(STATE_FOLDER)
        problems = [_lost_file(text, remembered)] if remembered else []
        return [], problems, f"lost-{datetime.now(UTC):%Y%m%d}" if problems or text is not None else ""
    return *read_schedule(text), hashlib.sha256(text).hexdigest()[:12]


def _lost_file(text: bytes | None, remembered: list[str]) -> Problem:
    return Problem(
        entry="the whole file",
        field="",
        wrong=f"it is {'missing' if text is None else 'empty'}, and {shown(', '.join(remembered))} was in force",
        write="the entries again, or [] to end them all",
    )


def find_entry(bucket: Bucket, name: str) -> Entry:
    """One entry; raises RequestError if no entry has this name or the entry is invalid."""
    entries, problems, _ = read_entries(bucket)
    for entry in entries:
        if entry.name == name:
            return entry
    for problem in problems:
        if problem.entry == name:
            raise RequestError(f"{SCHEDULE}, {problem.place}: {problem.wrong}", next_step="See all with: scoring schedule check")
    names = ", ".join(entry.name for entry in entries)
    raise RequestError(
        f"there is no entry {name!r} in {SCHEDULE} of the bucket {bucket.url}{f'; there are: {names}' if names else ''}",
        next_step="See them with: scoring schedule list",
    )


def check_models(settings: Settings, bucket: Bucket, entries: Iterable[Entry]) -> list[Problem]:
    """The models and definitions of entries that do not exist."""
    problems = []
    here = definitions_here(settings)
    known = here | set(bucket.folders(MODELS))
    for entry in entries:
        try:
            if entry.model:
                resolve(bucket, entry.model)
        except PermanentError as error:
            problems.append(Problem(entry=entry.name, field="model", wrong=error.message, write="one that scoring models list shows"))
        if here and entry.train and entry.train not in known:
            wrong = f"there is no definition {entry.train!r} on this machine, and nothing was trained with one"
            write = f"one of {', '.join(sorted(here))}, or set SCORING_DEFINITIONS here as the workers have it"
            problems.append(Problem(entry=entry.name, field="train", wrong=wrong, write=write))
    return problems


def check_settled(bucket: Bucket, path: str) -> None:
    """Raises TableError when this table is missing or still being written."""
    # by the clock that stamped the files; a clock ahead of this one must not delay a run
    newest = max(file.modified for file, _ in find_files(bucket, path))
    if timedelta(0) <= datetime.now(UTC) - datetime.fromtimestamp(newest, UTC) < SETTLED:
        raise TableError(
            f"the table {path} was written to a moment ago",
            next_step=f"Try again in {SETTLED.seconds} s: it is taken once nobody writes to it.",
        )


def state_of(bucket: Bucket, run: Run) -> RunState:
    """The state of a run, from its job or from the notice about it."""
    folder = ScheduledRun(kind=run.entry.kind, key=run.key).newest_job(bucket)
    if folder is not None:
        return _state_of_job(folder)
    try:
        notice = NoticeFolder(bucket, give_up_notice_name(run)).notice()
    except PermanentError:
        return RunState(state=RunPhase.GIVEN_UP)
    if notice is None:
        return RunState(state=RunPhase.PENDING)
    return RunState(state=RunPhase.GIVEN_UP, reason=notice.facts.get("reason", ""))


def last_success(bucket: Bucket, entry: Entry, now: datetime) -> datetime | None:
    """Returns when the newest finished run was done; None when none of the last runs is."""
    moments = (_done_at(bucket, run) for run in itertools.islice(newest_runs(entry, now - FURTHEST, now), MAX_LATE_RUNS))
    return next(filter(None, moments), None)


def overdue(bucket: Bucket, entry: Entry, now: datetime) -> timedelta:
    """Returns how late the oldest run is that should have succeeded by now and has no later run that did; zero when no run is late.

    Of an entry with many runs only the newest ``MAX_LATE_RUNS`` late runs are checked.
    """
    since, limit = read_since(bucket, entry), now - entry.late_after
    if since is None:
        return timedelta(0)  # beat has not seen the entry: no run was ever due
    newest = itertools.islice(newest_runs(entry, since, limit), MAX_LATE_RUNS)
    late = list(itertools.takewhile(lambda run: _done_at(bucket, run) is None, newest))
    if not late:
        return timedelta(0)
    later = itertools.islice(newest_runs(entry, max(since, limit), now), MAX_LATE_RUNS)
    return timedelta(0) if any(_done_at(bucket, run) for run in later) else limit - late[-1].at


def _done_at(bucket: Bucket, run: Run) -> datetime | None:
    """Returns when the job of a run was done; None when it is not."""
    folder = ScheduledRun(kind=run.entry.kind, key=run.key).newest_job(bucket)
    outcome = folder.outcome() if folder is not None else None
    return outcome.at if outcome is not None and outcome.state == JobState.DONE else None


def _state_of_job(folder: JobFolder) -> RunState:
    outcome = folder.outcome()
    if outcome is not None:
        return RunState(state=outcome.state, job_id=folder.job_id, reason=outcome.reason)
    try:
        status = folder.status()
    except PermanentError as error:
        return RunState(state=JobState.FAILED, job_id=folder.job_id, reason=error.message)
    return RunState(state=status.state, job_id=folder.job_id, reason=status.reason)


def inspect_entry(bucket: Bucket, entry: Entry, now: datetime) -> EntryLine:
    """The status of an entry at this moment."""
    last = next(newest_runs(entry, now - FURTHEST, now), None)
    state = state_of(bucket, last) if last else None
    if last and state and state.state == RunPhase.PENDING:
        if bucket.exists(waiting_file(last)):
            state = RunState(state=RunPhase.WAITING, reason=_missing(bucket, last))
        elif last.at <= (read_since(bucket, entry) or now):
            last = state = None  # never due: the entry was not in force yet
    return EntryLine(entry=entry, last=last, state=state, next=next_run(entry, now) if entry.enabled else None)


def _missing(bucket: Bucket, run: Run) -> str:
    """The missing table or model that a run waits for, in words; empty when nothing is missing any more."""
    entry = run.entry
    try:
        for pattern in filter(None, (entry.score, entry.table, entry.eval)):
            check_settled(bucket, run.path(pattern))
        if entry.train and not entry.table:
            newest_training_tables(bucket)
        if entry.model:
            resolve(bucket, entry.model)
    except ScoringError as error:
        return error.message
    return ""


def waiting_file(run: Run) -> str:
    return f"{STATE_FOLDER}/{run.entry.name}/{WAITING}/{run.at:{WAITING_TIME_FORMAT}}"


def since_file(entry: Entry) -> str:
    return f"{STATE_FOLDER}/{entry.name}/{entry.timing}.json"


def read_since(bucket: Bucket, entry: Entry) -> datetime | None:
    """The time at which an entry came into force; None before beat has seen it."""
    text = bucket.read(since_file(entry))
    with contextlib.suppress(RequestError):
        return None if text is None else Since.decode(text).since
    log.warning("schedule state of an entry is damaged", entry=entry.name)
    return None


def give_up_notice_name(run: Run) -> str:
    return f"schedule-{run.key}-not-started"
