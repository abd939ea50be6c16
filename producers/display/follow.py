"""Follows a job to its end, on a terminal with a progress bar. Ctrl-C ends the following, not the job."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import redis
from kombu.utils.url import maybe_sanitize_url
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from producers.display.consoles import print_line
from shared.bucket.interface import Bucket
from shared.errors import BrokerError, JobFailedError
from shared.jobs.folder import JobFolder, JobStatus, Outcome
from shared.jobs.messages import ScoreJob
from shared.jobs.states import JobState
from shared.queue import progress as queue_progress
from shared.queue.client import connect_to_redis
from shared.text.plain import plain

BAR_WIDTH = 24
"""In characters; leaves room for the other columns in a terminal of 80."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.03, 0.5
PATIENCE_SECONDS = 10
"""After this time without a worker for the job, a warning is printed."""

LONG_PATIENCE_SECONDS = 60
"""After this time without progress, a warning is printed; a chunk takes at most a minute."""

NO_REDIS = "Redis does not answer: work goes on by itself once it is back, and nothing is lost"
REDIS_PATIENCE_SECONDS = 5
"""After this time without an answer of Redis, a line is printed, unless a terminal shows the state all the time."""
GIVE_UP_SECONDS = 120
"""After this time without Redis, and without a change in the folder of the job, waiting ends with an error."""


@dataclass(frozen=True, kw_only=True)
class Glance:
    """The progress of a job at one moment."""

    status: JobStatus
    rows: int | None
    """Rows in the finished chunks, from Redis; None when Redis does not answer."""


def watch(bucket: Bucket, job_id: str, redis_url: str) -> Iterator[Glance]:
    """Yield the progress of a job until it has ended, at short intervals first; the last Glance is final."""
    folder = JobFolder(bucket, job_id)
    client = connect_to_redis(redis_url)
    pause = FIRST_PAUSE_SECONDS
    while True:
        status = folder.status()
        yield Glance(status=status, rows=_rows(client, job_id))
        if status.has_ended:
            return
        time.sleep(pause)
        pause = min(pause * 1.2, LONGEST_PAUSE_SECONDS)


class _Rate:
    """Rows per second since the start of the following, without rows that were finished before."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def after(self, rows: int | None, now: float) -> str:
        """The rate as text; empty before the first new row."""
        if rows is None:
            return ""
        if self._first is None:
            self._first = rows, now
        first_rows, began = self._first
        return f"{(rows - first_rows) / (now - began):,.0f} rows/s" if rows > first_rows else ""


class _Words(TextColumn):
    """The current activity, shortened to the width that the other columns leave."""

    def __init__(self) -> None:
        super().__init__("{task.description}", markup=False, table_column=Column(overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        return _one_line(task.description)


class _Display(Progress):
    """A line with the progress bar, and a second one with the state of a search or an outage of Redis."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            SpinnerColumn(table_column=Column(no_wrap=True)),
            _Words(),
            BarColumn(BAR_WIDTH, table_column=Column(no_wrap=True)),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from (_one_line(f"  {task.fields['standing']}") for task in self.tasks if task.fields["standing"])


def _one_line(text: str) -> Text:
    return Text(plain(text), no_wrap=True, overflow="ellipsis")


class _Outage:
    """The time since Redis last answered."""

    def __init__(self, console: Console, redis_url: str) -> None:
        self._console = console
        self._where = maybe_sanitize_url(redis_url)
        self._since: float | None = None
        self._is_told = False

    def note(self, now: float, *, answers: bool) -> None:
        """Print, on a console that is not a terminal, that Redis does not answer, and later that it does again."""
        if answers:
            if self._is_told:
                print_line(self._console, f"Redis at {self._where} answers again")
            self._since, self._is_told = None, False
            return
        self._since = now if self._since is None else self._since
        if not self._is_told and not self._console.is_terminal and now - self._since >= REDIS_PATIENCE_SECONDS:
            print_line(self._console, f"{NO_REDIS}. It was asked at {self._where}", style="yellow")
            self._is_told = True

    def check(self, job_id: str, changed: float, now: float) -> None:
        """Raise BrokerError when waiting is pointless: neither Redis nor the folder of the job has shown a change."""
        if self._since is None or now - max(self._since, changed) < GIVE_UP_SECONDS:
            return
        raise BrokerError(
            f"Redis at {self._where} has not answered for {now - self._since:,.0f} s, and nothing was seen of job {job_id} meanwhile",
            next_step=f"The job goes on by itself once Redis is back. Look again with: scoring jobs show {job_id} --follow",
        )


def follow(bucket: Bucket, job_id: str, redis_url: str, console: Console) -> Outcome:
    """Show the progress of a job until it has ended, and return its outcome.

    Raises:
        JobFailedError: the job failed or was cancelled; carries the reason, the next command and the exit code of the cause.
        BrokerError: Redis has not answered for ``GIVE_UP_SECONDS``, and the job has not changed.
    """
    began = time.monotonic()
    outcome: Outcome | None = None
    with _Display(console) as progress:
        bar = progress.add_task("waits for a worker", total=None, rate="", standing="")
        rate, outage = _Rate(), _Outage(console, redis_url)
        warned, changed, last_seen = False, began, None
        for glance in watch(bucket, job_id, redis_url):
            status, now = glance.status, time.monotonic()
            outcome = status.outcome
            if (status.state, status.reason, status.chunks_done) != last_seen:
                last_seen, changed = (status.state, status.reason, status.chunks_done), now
            patience = PATIENCE_SECONDS if status.state == JobState.QUEUED else LONG_PATIENCE_SECONDS
            if now - changed > patience and not warned:
                what = "No worker has taken the job yet" if status.state == JobState.QUEUED else "Nothing has happened for a while"
                where = f"the bucket {bucket.url} and the Redis at {maybe_sanitize_url(redis_url)}"
                ask = f"{what}, asked through {where}. Is a worker running for these, or for another BUCKET_URL or REDIS_URL?"
                print_line(console, f"{ask} Start a local stack with: scoring up", style="yellow")
                warned = True
            total = status.chunks or None
            description, standing = _what(status)
            progress.update(bar, description=description, total=total, completed=status.chunks_done)
            if not status.has_ended:
                outage.note(now, answers=glance.rows is not None)
                outage.check(job_id, changed, now)
            if glance.rows is None and not status.has_ended:
                standing = NO_REDIS
            progress.update(bar, rate=rate.after(glance.rows, now), standing=standing)
    if outcome is None or outcome.state != JobState.DONE:
        raise failure(job_id, outcome)
    return outcome


def _what(status: JobStatus) -> tuple[str, str]:
    """The progress of a job in words; for a search also the report of its last step, the best candidate so far."""
    if not status.chunks:
        return status.reason, ""
    if isinstance(status.job, ScoreJob):
        return f"{status.chunks_done} of {status.chunks} chunks", ""
    return f"{status.chunks_done} of {status.chunks} candidate folds", status.reason


def failure(job_id: str, outcome: Outcome | None) -> JobFailedError:
    """The error for a job that failed or was cancelled, with the exit code of its cause."""
    state, reason = (outcome.state, outcome.reason) if outcome else ("lost", "its folder is gone")
    error = JobFailedError(f"job {job_id} {state}: {reason}", next_step=outcome.next_step if outcome else "")
    error.exit_code = outcome.exit_code if outcome and outcome.exit_code else JobFailedError.exit_code
    return error


def _rows(client: redis.Redis, job_id: str) -> int | None:
    try:
        return queue_progress.read_progress(client, job_id).rows
    except redis.RedisError as error:
        # a wrong password or missing permission does not heal by waiting
        away = (redis.ConnectionError, redis.TimeoutError, redis.InvalidResponse)
        is_away = isinstance(error, away) and not isinstance(error, redis.AuthenticationError)
        return None if is_away else 0
