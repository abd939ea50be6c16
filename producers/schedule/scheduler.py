"""Runs the schedule: requests the jobs of due runs, and sends notices about runs that did not start or are late.

Beat calls it every few seconds. All state is in the bucket, so two beats, or a restarted one, request each run only once: the run's key
identifies its request (see ``ScheduledRun``) and the notices about it. ::

    config/schedule.yaml            the schedule, written by people
    schedule/<name>/<timing>.json   the time at which the entry came into force with these times: earlier runs are never caught up
                    waiting/        a mark for each due run whose table was missing at a tick
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import structlog

from producers.enqueue.deduplication import ScheduledRun
from producers.enqueue.score import enqueue_score
from producers.enqueue.sending import Enqueued
from producers.enqueue.sources import newest_training_tables
from producers.enqueue.train import enqueue_train
from producers.schedule.entries import Entry
from producers.schedule.run_states import (
    MAX_LATE_RUNS,
    STATE_FOLDER,
    WAITING,
    WAITING_TIME_FORMAT,
    RunPhase,
    RunState,
    Since,
    check_settled,
    give_up_notice_name,
    read_entries,
    read_since,
    since_file,
    state_of,
    waiting_file,
)
from producers.schedule.runs import Run, due_runs, is_newest, newest_runs, next_run
from producers.schedule.schedule_file import SCHEDULE, Problem
from shared.bucket.interface import Bucket
from shared.errors import PermanentError, ScoringError, TransientError
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce
from shared.settings import Settings

log = structlog.get_logger()
PATIENCE = timedelta(minutes=3)
"""A run is not given up before the bucket has failed for this time, even if the entry's ``wait_for`` is shorter."""
ALARM_WINDOW = timedelta(days=1)
"""Late runs are searched in this window before the time at which a run becomes late."""
FORGOTTEN_AFTER = timedelta(minutes=10)
"""An entry that was removed from the file is forgotten after this time."""
MOST_REMEMBERED = 100_000
"""The most runs to remember; above it, all are checked again."""


def ask_for(settings: Settings, bucket: Bucket, run: Run, *, once: bool = False, again: bool = False) -> Enqueued:
    """Requests the job of a run, unless it was requested before.

    ``once`` skips a run whose job has failed; ``again`` repeats a run whose job is done.

    Raises:
        TableError: its table is missing or still being written.
        ModelError: its model is missing.
        BucketError: the request could not be written.
    """
    entry = run.entry
    scheduled = ScheduledRun(kind=entry.kind, key=run.key, once=once)
    if entry.score:
        table = run.path(entry.score)
        check_settled(bucket, table)
        return enqueue_score(
            settings,
            bucket,
            table=table,
            model=entry.model,
            day=run.local.date(),
            interval=entry.interval,
            channel=entry.shown_on if is_newest(run, datetime.now(UTC)) else None,
            again=again,
            run=scheduled,
        )
    if entry.table:
        train, eval_table = run.path(entry.table), run.path(entry.eval) or None
    else:
        train, eval_table = newest_training_tables(bucket)
    for path in filter(None, (train, eval_table)):
        check_settled(bucket, path)
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


class Schedule:
    """The schedule of a bucket, run repeatedly by one process."""

    def __init__(self, settings: Settings, bucket: Bucket) -> None:
        self._settings, self._bucket = settings, bucket
        # caches of final states: without them every tick would read the state of all runs
        self._asked_for: set[str] = set()
        self._in_time: set[str] = set()
        self._unreadable_since: dict[str, datetime] = {}
        self._gone_since: dict[str, datetime] = {}
        self._failed: set[str] = set()

    def tick(self, now: datetime) -> bool:
        """Does what is due at this moment; False when every entry failed.

        Raises:
            BucketError: the schedule file cannot be read.
        """
        entries, problems, digest = read_entries(self._bucket)
        if problems:
            self._notify_problems(problems, digest)
        else:
            self._forget_gone(entries, now)
        self._failed.clear()
        enabled = [entry for entry in entries if entry.enabled]
        for entry in enabled:
            with self._isolated_errors(entry):
                self._process_entry(entry, now)
        for remembered in (self._asked_for, self._in_time, self._unreadable_since):
            if len(remembered) > MOST_REMEMBERED:
                remembered.clear()
        return not enabled or len(self._failed) < len(enabled)

    @contextlib.contextmanager
    def _isolated_errors(self, entry: Entry, run: Run | None = None) -> Iterator[None]:
        """Logs an error and continues: the next tick is due soon, and other runs and entries must not wait for it."""
        try:
            yield
        except ScoringError as error:
            self._failed.add(entry.name)
            log.warning("entry skipped after an error", entry=entry.name, run=run.key if run else "", error=str(error))

    def _process_entry(self, entry: Entry, now: datetime) -> None:
        since = self._in_force_since(entry, now)
        waiting = self._waiting(entry)
        for run in sorted({*waiting, *due_runs(entry, since, now)}, key=lambda run: run.at):
            with self._isolated_errors(entry, run):
                self._start(run, now, is_waiting=run in waiting)
        self._notify_late(entry, since, now, waiting)

    def _waiting(self, entry: Entry) -> set[Run]:
        runs = set()
        for info in self._bucket.files(f"{STATE_FOLDER}/{entry.name}/{WAITING}"):
            with contextlib.suppress(ValueError):
                at = datetime.strptime(info.path.rpartition("/")[2], WAITING_TIME_FORMAT).replace(tzinfo=UTC)
                runs.add(Run(entry=entry, at=at))
        return runs

    def _in_force_since(self, entry: Entry, now: datetime) -> datetime:
        since = read_since(self._bucket, entry)
        if since is not None:
            return since
        text = Since(since=now).to_json()
        if not self._bucket.create(since_file(entry), text) and read_since(self._bucket, entry) is None:
            self._bucket.write(since_file(entry), text)  # damaged
        for other in self._bucket.files(f"{STATE_FOLDER}/{entry.name}"):
            if other.path != since_file(entry):
                self._bucket.delete(other.path)
        return read_since(self._bucket, entry) or now

    def _forget_gone(self, entries: list[Entry], now: datetime) -> None:
        """Forgets entries that were disabled, or removed some time ago: their missed runs are not caught up when they return.

        The delay is needed because a file that is written in place may briefly lack its last entries.
        """
        remembered, enabled = set(self._bucket.folders(STATE_FOLDER)), {entry.name for entry in entries if entry.enabled}
        gone = remembered - {entry.name for entry in entries}
        self._gone_since = {name: self._gone_since.get(name, now) for name in gone}
        for name in sorted(remembered - enabled):
            if name not in gone or now - self._gone_since[name] >= FORGOTTEN_AFTER:
                self._notify_dropped(name)
                self._bucket.delete_folder(f"{STATE_FOLDER}/{name}")

    def _notify_dropped(self, name: str) -> None:
        """Sends a notice about waiting runs whose entry was removed or disabled."""
        waiting = [info.path.rpartition("/")[2] for info in self._bucket.files(f"{STATE_FOLDER}/{name}/{WAITING}")]
        if waiting:
            facts = {"entry": name, "waited": ", ".join(waiting[:10]), "reason": f"the entry was switched off or taken out of {SCHEDULE}"}
            step = "Put the entry back, then start a run with: scoring schedule run NAME --date DATE"
            self._announce(f"schedule-{name}-{waiting[-1]}-dropped", f"dropped: {len(waiting)} waiting runs of {name}", facts, step)

    def _start(self, run: Run, now: datetime, *, is_waiting: bool) -> None:
        if not self._ask_for(run, now):
            if not is_waiting:
                self._bucket.write(waiting_file(run), b"")
        elif is_waiting:
            self._bucket.delete(waiting_file(run))

    def _ask_for(self, run: Run, now: datetime) -> bool:
        """Requests the job of a run, or gives the run up when it has waited long enough; False while it waits."""
        if run.key in self._asked_for:
            return True
        if state_of(self._bucket, run).state == RunPhase.PENDING:
            try:
                asked = ask_for(self._settings, self._bucket, run, once=True)
                log.info("schedule asks for a job", entry=run.entry.name, run=run.key, job=asked.job_id, sent=asked.problem is None)
            except PermanentError as error:
                if now - run.at < run.entry.wait_for:
                    return False
                self._notify_given_up(run, error)
            except TransientError as error:
                # such as a table that beat may not read. The time counts from the first failed tick, so that a run that is
                # caught up hours later is not given up after one failure
                if now - self._unreadable_since.setdefault(run.key, now) < max(run.entry.wait_for, PATIENCE):
                    log.warning("run waits", run=run.key, error=str(error))
                    return False
                self._notify_given_up(run, error)
        self._unreadable_since.pop(run.key, None)
        self._asked_for.add(run.key)
        return True

    def _notify_late(self, entry: Entry, since: datetime, now: datetime, waiting: set[Run]) -> None:
        """Sends a notice about each run that has not ended in time. A missed run is reported only while no later run is due."""
        newest = next(newest_runs(entry, since, now), None)
        late = newest_runs(entry, max(since, now - entry.late_after - ALARM_WINDOW), now - entry.late_after)
        for _, run in zip(range(MAX_LATE_RUNS), late, strict=False):
            if run.key in self._in_time:
                continue
            with self._isolated_errors(entry, run):
                found = state_of(self._bucket, run)
                if not found.is_settled:
                    if found.state == RunPhase.PENDING and run != newest and run not in waiting:
                        continue
                    self._notify_late_run(run, found)
                self._in_time.add(run.key)

    def _notify_late_run(self, run: Run, found: RunState) -> None:
        facts = _facts(run) | {"state": found.state, "reason": found.reason, "job": found.job_id}
        tick = f"See it with: scoring jobs show {found.job_id} --follow"
        step = tick if found.job_id else f"Start it with: {_by_hand(run)}"
        self._announce(f"schedule-{run.key}-late", f"late: {_title(run)} has not ended", facts, step)

    def _notify_given_up(self, run: Run, error: ScoringError) -> None:
        step = f"When that is corrected, start it with: {_by_hand(run)}"
        self._announce(give_up_notice_name(run), f"did not start: {_title(run)}", _facts(run) | {"reason": error.message}, step)

    def _notify_problems(self, problems: list[Problem], digest: str) -> None:
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


def run_once(schedule: Schedule) -> bool:
    """Runs the schedule now; False when that failed. The error is only logged, because the next tick is due soon."""
    try:
        return schedule.tick(datetime.now(UTC))
    except TransientError as error:
        log.warning("schedule tick failed; the next tick is due soon", error=str(error))
        return False
