"""Fires the schedule: asks for the jobs of the runs that are due, and says when one did not start or is late.

Beat looks at it every few seconds. All that is known lies in the bucket, so two beats, or one that was started again, ask for each run
once: the request of a run is known by the run's name (see ``ScheduledRun``), and so are the notices about it. ::

    config/schedule.yaml            what shall run when, written by people
    schedule/<name>/<timing>.json   since when the entry is in force with these times: what was before is never caught up
                    waiting/        a mark for each run that was due while somebody looked, and whose table was not there yet
"""

import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from producers.cron import FURTHEST
from producers.enqueue.deduplication import ScheduledRun
from producers.enqueue.score import enqueue_score
from producers.enqueue.sending import Enqueued
from producers.enqueue.sources import newest_training_tables
from producers.enqueue.train import enqueue_train
from producers.local_definitions import definitions_here
from producers.schedule import SCHEDULE, Entry, Problem, Run, due_runs, is_blank, newest_runs, next_run, read_schedule
from shared.bucket.interface import Bucket
from shared.catalog.aliases import MODELS, resolve
from shared.errors import PermanentError, RequestError, ScoringError, TableError, TransientError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import Notice
from shared.jobs.outbox import NoticeFolder, announce
from shared.records import Moment, Record
from shared.settings import Settings
from shared.table_files import find_files
from shared.text.yaml_files import shown

FIRED = "schedule"
"""Folder of what is remembered of entries."""
WAITING, MARK = "waiting", "%Y%m%dt%H%M"
SETTLED = timedelta(seconds=10)
"""A table is there when nobody has written to it for so long; a copy into a folder of a disk may take its time."""
PATIENCE = timedelta(minutes=3)
"""A run is not given up for a bucket that has not answered for less than this, however short its entry waits."""
ALARM_WINDOW = timedelta(days=1)
"""Who looks for late runs looks so far back behind the moment from which a run is late."""
MOST_LATE = 20
"""The runs of one entry that are looked at for that, the newest."""
FORGOTTEN_AFTER = timedelta(minutes=10)
"""An entry that is no longer in the file is forgotten after this long."""
MOST_REMEMBERED = 100_000
"""Runs; then all are looked at anew."""

log = structlog.get_logger()


class Since(Record):
    """Since when an entry is in force."""

    since: Moment


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What became of a run."""

    state: str
    """That of its job; without one ``did not start``, or ``not started``."""
    job_id: str = ""
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        """True when nothing more will become of it by itself."""
        return self.state in ("done", "failed", "cancelled", "did not start")


@dataclass(frozen=True, kw_only=True)
class EntryLine:
    """An entry with the run that was due last, what became of it, and the run that comes next."""

    entry: Entry
    last: Run | None
    state: RunState | None
    next: Run | None

    def encode(self) -> dict[str, Any]:
        """The same as plain values; moments in UTC."""
        fields = {name: value for name, value in vars(self.entry).items() if value != ""}
        last = {"at": self.last.at, **vars(self.state)} if self.last and self.state else None
        return fields | {"last": last, "next": self.next.at if self.next else None}


def read_entries(bucket: Bucket) -> tuple[list[Entry], list[Problem], str]:
    """The entries that can be kept, what is wrong with the others, and a digest of the file; no entries where there is no file.

    A file that is missing or empty is a problem once entries were in force: it may be on its way, or lost.
    """
    return entries_in(bucket, bucket.read(SCHEDULE))


def entries_in(bucket: Bucket, text: bytes | None) -> tuple[list[Entry], list[Problem], str]:
    """The same of a schedule that was read, None where there is no file."""
    if text is None or is_blank(text):
        remembered = bucket.folders(FIRED)
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
    """One entry; raises RequestError when there is none of this name, or it cannot be kept."""
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
    """The models and definitions of entries that are not there."""
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


def ask_for(settings: Settings, bucket: Bucket, run: Run, *, once: bool = False, again: bool = False) -> Enqueued:
    """Ask for the job of a run, unless it was asked for.

    ``once`` leaves a run alone whose job has failed; ``again`` runs also one anew whose job is done.

    Raises:
        TableError: its table is not there, or somebody is still writing to it.
        ModelError: its model is not there.
        BucketError: the request could not be written.
    """
    entry = run.entry
    scheduled = ScheduledRun(kind=entry.kind, key=run.key, once=once)
    if entry.score:
        table = run.path(entry.score)
        _check_settled(bucket, table)
        return enqueue_score(
            settings,
            bucket,
            table=table,
            model=entry.model,
            day=run.local.date(),
            interval=entry.interval,
            again=again,
            run=scheduled,
        )
    if entry.table:
        train, eval_table = run.path(entry.table), run.path(entry.eval) or None
    else:
        train, eval_table = newest_training_tables(bucket)
    for path in filter(None, (train, eval_table)):
        _check_settled(bucket, path)
    return enqueue_train(
        settings,
        bucket,
        definition=entry.train,
        train=train,
        eval_table=eval_table,
        alias=entry.alias or None,
        promote=entry.promote,
        force=entry.force,
        again=again,
        run=scheduled,
    )


def _check_settled(bucket: Bucket, path: str) -> None:
    """Raise TableError when this table is not there, or somebody is still writing to it."""
    # by the clock that stamped the files; no run is kept waiting by one that goes ahead of ours
    newest = max(file.modified for file, _ in find_files(bucket, path))
    if timedelta(0) <= datetime.now(UTC) - datetime.fromtimestamp(newest, UTC) < SETTLED:
        raise TableError(
            f"the table {path} was written to a moment ago",
            next_step=f"Try again in {SETTLED.seconds} s: it is taken once nobody writes to it.",
        )


def state_of(bucket: Bucket, run: Run) -> RunState:
    """What became of a run, by its job or by what people were told."""
    folder = ScheduledRun(kind=run.entry.kind, key=run.key).newest_job(bucket)
    if folder is not None:
        return _state_of_job(folder)
    try:
        notice = NoticeFolder(bucket, _not_started(run)).notice()
    except PermanentError:
        return RunState(state="did not start")
    if notice is None:
        return RunState(state="not started")
    return RunState(state="did not start", reason=notice.facts.get("reason", ""))


def last_success(bucket: Bucket, entry: Entry, now: datetime) -> datetime | None:
    """When the newest run that is done was done; None when none of the last few is."""
    moments = (_done_at(bucket, run) for run in itertools.islice(newest_runs(entry, now - FURTHEST, now), MOST_LATE))
    return next(filter(None, moments), None)


def overdue(bucket: Bucket, entry: Entry, now: datetime) -> timedelta:
    """By how much the oldest run that ought to have succeeded by now, and has no later one that did, is late; zero when there is none.

    Of an entry with many runs only the newest ``MOST_LATE`` that are late are looked at.
    """
    since, limit = _read_since(bucket, entry), now - entry.late_after
    if since is None:
        return timedelta(0)  # beat has not seen it: nothing was ever due
    newest = itertools.islice(newest_runs(entry, since, limit), MOST_LATE)
    late = list(itertools.takewhile(lambda run: _done_at(bucket, run) is None, newest))
    if not late:
        return timedelta(0)
    later = itertools.islice(newest_runs(entry, max(since, limit), now), MOST_LATE)
    return timedelta(0) if any(_done_at(bucket, run) for run in later) else limit - late[-1].at


def _done_at(bucket: Bucket, run: Run) -> datetime | None:
    """When the job of a run was done; None when it is not."""
    folder = ScheduledRun(kind=run.entry.kind, key=run.key).newest_job(bucket)
    outcome = folder.outcome() if folder is not None else None
    return outcome.at if outcome is not None and outcome.state == "done" else None


def _state_of_job(folder: JobFolder) -> RunState:
    outcome = folder.outcome()
    if outcome is not None:
        return RunState(state=outcome.state, job_id=folder.job_id, reason=outcome.reason)
    try:
        status = folder.status()
    except PermanentError as error:
        return RunState(state="failed", job_id=folder.job_id, reason=error.message)
    return RunState(state=status.state, job_id=folder.job_id, reason=status.reason)


def look_at_entry(bucket: Bucket, entry: Entry, now: datetime) -> EntryLine:
    """What is known of an entry at this moment."""
    last = next(newest_runs(entry, now - FURTHEST, now), None)
    state = state_of(bucket, last) if last else None
    if last and state and state.state == "not started":
        if bucket.exists(_mark(last)):
            state = RunState(state="waits for its table or model", reason=_missing(bucket, last))
        elif last.at <= (_read_since(bucket, entry) or now):
            last = state = None  # it was never due: the entry was not in force yet
    return EntryLine(entry=entry, last=last, state=state, next=next_run(entry, now) if entry.enabled else None)


def _missing(bucket: Bucket, run: Run) -> str:
    """What a run waits for: the first of its tables and its model that is not there; empty when all are by now."""
    entry = run.entry
    try:
        for pattern in filter(None, (entry.score, entry.table, entry.eval)):
            _check_settled(bucket, run.path(pattern))
        if entry.train and not entry.table:
            newest_training_tables(bucket)
        if entry.model:
            resolve(bucket, entry.model)
    except ScoringError as error:
        return error.message
    return ""


def _mark(run: Run) -> str:
    return f"{FIRED}/{run.entry.name}/{WAITING}/{run.at:{MARK}}"


def _since_file(entry: Entry) -> str:
    return f"{FIRED}/{entry.name}/{entry.timing}.json"


def _read_since(bucket: Bucket, entry: Entry) -> datetime | None:
    """Since when an entry is in force; None when nobody has seen it yet."""
    text = bucket.read(_since_file(entry))
    with contextlib.suppress(RequestError):
        return None if text is None else Since.decode(text).since
    log.warning("what is remembered of an entry is damaged", entry=entry.name)
    return None


def _not_started(run: Run) -> str:
    return f"schedule-{run.key}-not-started"


class Schedule:
    """The schedule of a bucket, looked at again and again by one process."""

    def __init__(self, settings: Settings, bucket: Bucket) -> None:
        self._settings, self._bucket = settings, bucket
        # only what is looked up once and never changes: without it every look would look up all runs anew
        self._asked_for: set[str] = set()
        self._in_time: set[str] = set()
        self._unreadable_since: dict[str, datetime] = {}
        self._gone_since: dict[str, datetime] = {}
        self._failed: set[str] = set()

    def look(self, now: datetime) -> bool:
        """Do what is due at this moment; False when no entry could be looked at without an error.

        Raises:
            BucketError: even the file cannot be read.
        """
        entries, problems, digest = read_entries(self._bucket)
        if problems:
            self._tell_problems(problems, digest)
        else:
            self._forget_gone(entries, now)
        self._failed.clear()
        enabled = [entry for entry in entries if entry.enabled]
        for entry in enabled:
            with self._kept_apart(entry):
                self._look_at(entry, now)
        for remembered in (self._asked_for, self._in_time, self._unreadable_since):
            if len(remembered) > MOST_REMEMBERED:
                remembered.clear()
        return not enabled or len(self._failed) < len(enabled)

    @contextlib.contextmanager
    def _kept_apart(self, entry: Entry, run: Run | None = None) -> Iterator[None]:
        """Log an error: the next look is due soon, and neither the other runs nor the other entries must wait for it."""
        try:
            yield
        except ScoringError as error:
            self._failed.add(entry.name)
            log.warning("entry not looked at", entry=entry.name, run=run.key if run else "", error=str(error))

    def _look_at(self, entry: Entry, now: datetime) -> None:
        since = self._in_force_since(entry, now)
        waiting = self._waiting(entry)
        for run in sorted({*waiting, *due_runs(entry, since, now)}, key=lambda run: run.at):
            with self._kept_apart(entry, run):
                self._start(run, now, is_waiting=run in waiting)
        self._tell_late(entry, since, now, waiting)

    def _waiting(self, entry: Entry) -> set[Run]:
        runs = set()
        for info in self._bucket.files(f"{FIRED}/{entry.name}/{WAITING}"):
            with contextlib.suppress(ValueError):
                at = datetime.strptime(info.path.rpartition("/")[2], MARK).replace(tzinfo=UTC)
                runs.add(Run(entry=entry, at=at))
        return runs

    def _in_force_since(self, entry: Entry, now: datetime) -> datetime:
        since = _read_since(self._bucket, entry)
        if since is not None:
            return since
        text = Since(since=now).to_json()
        if not self._bucket.create(_since_file(entry), text) and _read_since(self._bucket, entry) is None:
            self._bucket.write(_since_file(entry), text)  # it is damaged
        for other in self._bucket.files(f"{FIRED}/{entry.name}"):
            if other.path != _since_file(entry):
                self._bucket.delete(other.path)
        return _read_since(self._bucket, entry) or now

    def _forget_gone(self, entries: list[Entry], now: datetime) -> None:
        """Forget entries that were switched off, or that are gone for a while: what they missed is not caught up when they come back.

        A file that is written in place may be seen without its last entries for a moment.
        """
        remembered, enabled = set(self._bucket.folders(FIRED)), {entry.name for entry in entries if entry.enabled}
        gone = remembered - {entry.name for entry in entries}
        self._gone_since = {name: self._gone_since.get(name, now) for name in gone}
        for name in sorted(remembered - enabled):
            if name not in gone or now - self._gone_since[name] >= FORGOTTEN_AFTER:
                self._tell_dropped(name)
                self._bucket.delete_folder(f"{FIRED}/{name}")

    def _tell_dropped(self, name: str) -> None:
        """Tell of runs that waited for their table when their entry was taken away."""
        waiting = [info.path.rpartition("/")[2] for info in self._bucket.files(f"{FIRED}/{name}/{WAITING}")]
        if waiting:
            facts = {"entry": name, "waited": ", ".join(waiting[:10]), "reason": f"the entry was switched off or taken out of {SCHEDULE}"}
            step = "Put the entry back, then start a run with: scoring schedule run NAME --date DATE"
            self._announce(f"schedule-{name}-{waiting[-1]}-dropped", f"dropped: {len(waiting)} waiting runs of {name}", facts, step)

    def _start(self, run: Run, now: datetime, *, is_waiting: bool) -> None:
        if not self._ask_for(run, now):
            if not is_waiting:
                self._bucket.write(_mark(run), b"")
        elif is_waiting:
            self._bucket.delete(_mark(run))

    def _ask_for(self, run: Run, now: datetime) -> bool:
        """Ask for the job of a run, or give it up when it has waited long enough; False while it waits."""
        if run.key in self._asked_for:
            return True
        if state_of(self._bucket, run).state == "not started":
            try:
                asked = ask_for(self._settings, self._bucket, run, once=True)
                log.info("schedule asks for a job", entry=run.entry.name, run=run.key, job=asked.job_id, sent=asked.problem is None)
            except PermanentError as error:
                if now - run.at < run.entry.wait_for:
                    return False
                self._tell_not_started(run, error)
            except TransientError as error:
                # such as a table that beat may not read. Counted from the first look that failed: a run that is caught up
                # hours later must not be given up for one call that failed
                if now - self._unreadable_since.setdefault(run.key, now) < max(run.entry.wait_for, PATIENCE):
                    log.warning("run waits", run=run.key, error=str(error))
                    return False
                self._tell_not_started(run, error)
        self._unreadable_since.pop(run.key, None)
        self._asked_for.add(run.key)
        return True

    def _tell_late(self, entry: Entry, since: datetime, now: datetime, waiting: set[Run]) -> None:
        """Tell of each run that has not ended in time; of one that was missed and forgotten only while no later one is due."""
        newest = next(newest_runs(entry, since, now), None)
        late = newest_runs(entry, max(since, now - entry.late_after - ALARM_WINDOW), now - entry.late_after)
        for _, run in zip(range(MOST_LATE), late, strict=False):
            if run.key in self._in_time:
                continue
            with self._kept_apart(entry, run):
                found = state_of(self._bucket, run)
                if not found.is_settled:
                    if found.state == "not started" and run != newest and run not in waiting:
                        continue
                    self._tell_one_late(run, found)
                self._in_time.add(run.key)

    def _tell_one_late(self, run: Run, found: RunState) -> None:
        facts = _facts(run) | {"state": found.state, "reason": found.reason, "job": found.job_id}
        look = f"See it with: scoring jobs show {found.job_id} --follow"
        step = look if found.job_id else f"Start it with: {_by_hand(run)}"
        self._announce(f"schedule-{run.key}-late", f"late: {_title(run)} has not ended", facts, step)

    def _tell_not_started(self, run: Run, error: ScoringError) -> None:
        step = f"When that is mended, start it with: {_by_hand(run)}"
        self._announce(_not_started(run), f"did not start: {_title(run)}", _facts(run) | {"reason": error.message}, step)

    def _tell_problems(self, problems: list[Problem], digest: str) -> None:
        facts = {problem.place: problem.wrong for problem in problems[:10]}
        title = f"{SCHEDULE} has {len(problems)} problem{'s' if len(problems) > 1 else ''}; entries without one are kept"
        self._announce(f"schedule-problems-{digest}", title, facts, "See them with: scoring schedule check")

    def _announce(self, name: str, title: str, facts: dict[str, str], next_step: str) -> None:
        given = {fact: value for fact, value in facts.items() if value}
        if announce(self._bucket, name, Notice(good=False, title=title, facts=given, next_step=next_step)):
            log.warning("schedule", title=title)


def _title(run: Run) -> str:
    return f"{run.entry.name} of {run.local:%Y-%m-%d %H:%M}"


def _facts(run: Run) -> dict[str, str]:
    facts = {"entry": run.entry.name, "due": f"{run.local:%Y-%m-%d %H:%M %Z}"}
    following = next_run(run.entry, run.at)
    return facts | ({"next": f"{following.local:%Y-%m-%d %H:%M %Z}"} if following else {})


def _by_hand(run: Run) -> str:
    return f"scoring schedule run {run.entry.name} --date {run.local:%Y-%m-%dT%H:%M}"


def look_once(schedule: Schedule) -> bool:
    """Look at the schedule now; False when that failed, which is only logged, since the next look is due soon."""
    try:
        return schedule.look(datetime.now(UTC))
    except TransientError as error:
        log.warning("schedule not looked at, the next look is due soon", error=str(error))
        return False
