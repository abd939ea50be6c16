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

from producers.channels.refused import with_refusal
from producers.display.consoles import print_line
from shared.bucket.interface import Bucket
from shared.errors import BrokerError, HeldError, JobFailedError
from shared.jobs.folder import JobFolder, JobStatus, Outcome
from shared.jobs.messages import ScoreJob
from shared.jobs.states import JobState
from shared.queue.client import connect_to_redis
from shared.queue.state import progress as queue_progress
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
    """Yields the progress of a job until it has ended, at short intervals first; the last Glance is final."""
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
        self._bar = self.add_task("waits for a worker", total=None, rate="", standing="")

    def show(self, glance: Glance, rate: str) -> None:
        """Shows the progress at this moment, with the rate as text."""
        status = glance.status
        description, standing = _describe(status)
        if glance.rows is None and not status.has_ended:
            standing = NO_REDIS
        self.update(
            self._bar, description=description, total=status.chunks or None, completed=status.chunks_done, rate=rate, standing=standing
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from (_one_line(f"  {task.fields['standing']}") for task in self.tasks if task.fields["standing"])


def _one_line(text: str) -> Text:
    return Text(plain(text), no_wrap=True, overflow="ellipsis")


class _StallWarning:
    """Warns once that no worker has taken the job, or that nothing has happened for a while."""

    def __init__(self, console: Console, bucket_url: str, redis_url: str) -> None:
        self._console = console
        self._where = f"the bucket {bucket_url} and the Redis at {maybe_sanitize_url(redis_url)}"
        self._last: tuple[JobState, str, int] | None = None
        self._has_warned = False
        self.changed = time.monotonic()
        """The time of the last change of the job."""

    def note(self, status: JobStatus, now: float) -> None:
        """Notes the status of the job, and prints the warning if it has not changed for too long."""
        current = status.state, status.reason, status.chunks_done
        if current != self._last:
            self._last, self.changed = current, now
        is_queued = status.state == JobState.QUEUED
        if self._has_warned or now - self.changed <= (PATIENCE_SECONDS if is_queued else LONG_PATIENCE_SECONDS):
            return
        what = "No worker has taken the job yet" if is_queued else "Nothing has happened for a while"
        where = f"{what}, asked through {self._where}. Is a worker running for these, or for another BUCKET_URL or REDIS_URL?"
        print_line(self._console, f"{where} Start a local stack with: scoring up", style="yellow")
        self._has_warned = True


class _Outage:
    """The time since Redis last answered."""

    def __init__(self, console: Console, redis_url: str) -> None:
        self._console = console
        self._where = maybe_sanitize_url(redis_url)
        self._since: float | None = None
        self._is_reported = False

    def note(self, now: float, *, answers: bool) -> None:
        """Prints, on a console that is not a terminal, that Redis does not answer, and later that it does again."""
        if answers:
            if self._is_reported:
                print_line(self._console, f"Redis at {self._where} answers again")
            self._since, self._is_reported = None, False
            return
        self._since = now if self._since is None else self._since
        if not self._is_reported and not self._console.is_terminal and now - self._since >= REDIS_PATIENCE_SECONDS:
            print_line(self._console, f"{NO_REDIS}. It was asked at {self._where}", style="yellow")
            self._is_reported = True

    def check(self, job_id: str, changed: float, now: float) -> None:
        """Raises BrokerError when waiting is pointless: neither Redis nor the folder of the job has shown a change."""
        if self._since is None or now - max(self._since, changed) < GIVE_UP_SECONDS:
            return
        raise BrokerError(
            f"Redis at {self._where} has not answered for {now - self._since:,.0f} s, and nothing was seen of job {job_id} meanwhile",
            next_step=f"The job goes on by itself once Redis is back. Look again with: scoring jobs show {job_id} --follow",
        )


def follow(bucket: Bucket, job_id: str, redis_url: str, console: Console) -> Outcome:
    """Shows the progress of a job until it has ended, and returns its outcome.

    Raises:
        JobFailedError: the job failed or was cancelled; carries the reason, the next command and the exit code of the cause.
        HeldError: the result is held back from its channel.
        BrokerError: Redis has not answered for ``GIVE_UP_SECONDS``, and the job has not changed.
    """
    outcome: Outcome | None = None
    with _Display(console) as display:
        rate, outage, stall = _Rate(), _Outage(console, redis_url), _StallWarning(console, bucket.url, redis_url)
        for glance in watch(bucket, job_id, redis_url):
            now = time.monotonic()
            outcome = glance.status.outcome
            stall.note(glance.status, now)
            display.show(glance, rate.after(glance.rows, now))
            if not glance.status.has_ended:
                outage.note(now, answers=glance.rows is not None)
                outage.check(job_id, stall.changed, now)
    if outcome is None or outcome.state != JobState.DONE:
        raise failure(job_id, outcome and with_refusal(JobFolder(bucket, job_id), outcome))
    return outcome


def _describe(status: JobStatus) -> tuple[str, str]:
    """The progress of a job in words; for a search also the report of its last step, the best candidate so far."""
    if not status.chunks:
        return status.reason, ""
    if isinstance(status.job, ScoreJob):
        return f"{status.chunks_done} of {status.chunks} chunks", ""
    return f"{status.chunks_done} of {status.chunks} candidate folds", status.reason


def failure(job_id: str, outcome: Outcome | None) -> JobFailedError | HeldError:
    """The error for a job that failed or was cancelled, with the exit code of its cause."""
    state, reason = (outcome.state, outcome.reason) if outcome else ("lost", "its folder is gone")
    if outcome is not None and outcome.state == JobState.HELD:
        return HeldError(f"the result of job {job_id} is held: {reason}", next_step=outcome.next_step)
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
