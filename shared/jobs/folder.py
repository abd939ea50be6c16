"""The folder of a job, ``jobs/<job id>/``, and the state of the job, which follows from its files alone.

jobs/<job id>/                        the files of ``shared.jobs.files``
jobs/_open/<job id>                   a mark: the job is not finished; it holds the stack of the job (``shared.queue.state.stacks``)
jobs/_requests/<digest>.<n>           the job of the n-th run of a request    (first writer wins)
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field

from shared.bucket.interface import Bucket
from shared.errors import JobFailedError, MessageError, PermanentError, RequestError, ScoringError, StaleMessageError
from shared.jobs.files import JobFile, PartFile, Subfolder
from shared.jobs.messages import Job, ScoreJob, StepMessage, decode_job
from shared.jobs.states import FINAL_STATES, SETTLED_STATES, FinalState, JobState
from shared.records import Record, Timestamp, decode, decode_long

JOBS = "jobs"
OPEN = f"{JOBS}/_open"
REQUESTS = f"{JOBS}/_requests"
MAX_STAGE_LENGTH = 500
MAX_ID_SHOWN = 100

AnyValue = TypeVar("AnyValue")


class Promotion(Record):
    """The alias ``champion`` must point to the trained release."""

    champion_since: Timestamp | None
    """Time of the change that made the compared release champion; None without a champion.

    The promotion is skipped if the champion has changed since.
    """


class Pointing(Record):
    """The requested alias must point to the trained release."""

    alias_since: Timestamp | None
    """Time of the last change of the alias before the job ended; None if the alias did not exist.

    The move is skipped if the alias has changed since.
    """


class Outcome(Record):
    """How a job ended. The first writer wins."""

    state: FinalState
    at: Timestamp
    reason: str = ""
    next_step: str = ""
    exit_code: int = 0
    definition: str = ""
    release: str = ""
    result: str = ""
    """Folder of the published result, or of the release."""
    facts: dict[str, str] = Field(default_factory=dict)
    """Counts, means and metrics for people."""
    promotion: Annotated[Promotion | None, Field(exclude_if=lambda promotion: promotion is None)] = None
    pointing: Annotated[Pointing | None, Field(exclude_if=lambda pointing: pointing is None)] = None


class Stage(Record):
    """What the step that runs now is doing."""

    at: Timestamp
    text: Annotated[str, Field(max_length=MAX_STAGE_LENGTH)]


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """The status of a job at one moment."""

    job: Job
    state: JobState
    since: datetime
    reason: str
    chunks: int
    """Chunks in the plan, or of a search the candidates times folds, as far as can be seen; 0 while there is neither."""
    chunks_done: int
    outcome: Outcome | None

    @property
    def has_ended(self) -> bool:
        """True when the job has ended."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, kw_only=True)
class UnreadableJob:
    """A job whose request is damaged or leads outside the bucket."""

    job_id: str
    reason: str
    state: ClassVar[JobState] = JobState.UNREADABLE


class JobFolder:
    """The folder of one job in the bucket."""

    def __init__(self, bucket: Bucket, job_id: str) -> None:
        self.bucket = bucket
        try:
            self.job_id = StepMessage.decode({"job_id": job_id}).job_id
        except MessageError:
            shown = repr(job_id) if len(job_id) <= MAX_ID_SHOWN else f"{job_id[:MAX_ID_SHOWN]!r}..."
            raise MessageError(f"{shown} is not the id of a job", next_step="List them with: scoring jobs list") from None
        self.path = f"{JOBS}/{self.job_id}"

    def file(self, name: str) -> str:
        """The path of a file in this folder."""
        return f"{self.path}/{name}"

    def part_file(self, index: int, file: PartFile) -> str:
        """The path of a file that chunk ``index`` writes; names sort in the order of the rows."""
        return self.file(f"{Subfolder.PARTS}/{index:07d}.{file}")

    def create(self, job: Job, stack: str = "") -> bool:
        """Writes the request and marks the job as open in this stack; True when this call was the first."""
        self.bucket.write(f"{OPEN}/{self.job_id}", stack.encode())
        is_first = self.bucket.create(self.file(JobFile.REQUEST), job.to_json())
        self.bucket.settle(self.path)
        return is_first

    def job(self) -> Job:
        """The request.

        Raises:
            RequestError: there is no such job.
            MessageError: its file is malformed or belongs to another job.
        """
        text = self.bucket.read(self.file(JobFile.REQUEST))
        if text is None:
            raise RequestError(
                f"there is no job {self.job_id} in the bucket {self.bucket.url}", next_step="List them with: scoring jobs list"
            )
        job = decode_job(text)
        if job.job_id != self.job_id:
            raise MessageError(f"the job file of {self.job_id} says that it is job {job.job_id}")
        return job

    def score_job(self) -> ScoreJob:
        """The request, which must be one to score; raises StaleMessageError when it is another."""
        job = self.job()
        if not isinstance(job, ScoreJob):
            raise StaleMessageError(
                f"job {job.job_id} is a {job.kind} job, not one that scores", next_step="List results with: scoring results list"
            )
        return job

    def outcome(self) -> Outcome | None:
        """Returns how the job ended, None while it is open. A job whose outcome is damaged has failed."""
        text = self.bucket.read(self.file(JobFile.OUTCOME))
        return None if text is None else self._decode_outcome(text)

    def _decode_outcome(self, text: bytes) -> Outcome:
        try:
            return decode_long(Outcome, text)
        except MessageError as error:
            found = self.bucket.stat(self.file(JobFile.OUTCOME))
            return Outcome(
                state=JobState.FAILED,
                at=datetime.fromtimestamp(found.modified if found else 0, UTC),
                reason=f"{self.file(JobFile.OUTCOME)} is damaged: {error.message}",
                next_step=self._resume,
                exit_code=JobFailedError.exit_code,
            )

    @property
    def _resume(self) -> str:
        return f"Go on from what is there with: scoring jobs resume {self.job_id}"

    def write_outcome(self, outcome: Outcome) -> bool:
        """Decides how the job ended; True when this call was the first to do so."""
        return self.bucket.create(self.file(JobFile.OUTCOME), outcome.to_json())

    def fail(self, error: ScoringError) -> None:
        """Decides that the job failed for this reason, unless it has ended; the exit code is that of the error's kind."""
        self.write_outcome(
            Outcome(
                state=JobState.FAILED,
                at=datetime.now(UTC),
                reason=error.message,
                next_step=error.next_step or self._resume,
                exit_code=error.exit_code if error.exit_code > ScoringError.exit_code else JobFailedError.exit_code,
            )
        )

    def fail_unpublished(self, error: ScoringError, *, is_in_use: Callable[[str], bool] = lambda _: False) -> None:
        """Fails a job whose outcome is ``done`` but whose result or release cannot be published.

        ``is_in_use`` returns True for the revision of a result that is in use all the same, because a channel shows it.
        """
        outcome = self.outcome()
        if outcome is None or self.is_settled(outcome) or not self._keep(outcome):
            return
        revision = f"{outcome.result}/revisions/{self.job_id}"
        if not is_in_use(revision):
            self.bucket.delete(f"{revision}/{JobFile.MANIFEST}")  # a revision with a manifest belongs to a job that is done
        self.bucket.delete(self.file(JobFile.OUTCOME))
        self.fail(error)

    def _keep(self, outcome: Outcome) -> bool:
        """Copies the outcome before it is replaced; returns False if another process has replaced or removed it."""
        text = self.bucket.read(self.file(JobFile.OUTCOME))
        if text is None or self._decode_outcome(text) != outcome:
            return False
        self.bucket.write(self._ended_file(outcome.at), text)
        return self.bucket.read(self.file(JobFile.OUTCOME)) == text

    def _ended_file(self, at: datetime) -> str:
        return self.file(f"{Subfolder.ENDED}/{at:%Y%m%dT%H%M%S%f}.json")

    def has_ended_at(self, at: datetime) -> bool:
        """Returns True if an earlier outcome of the job has this time."""
        return self.bucket.exists(self._ended_file(at))

    def cancel(self) -> Outcome:
        """Cancels the job unless it has ended, and returns how it ended. Needs no worker and no Redis."""
        self.job()
        outcome = Outcome(
            state=JobState.CANCELLED, at=datetime.now(UTC), reason="cancelled on request", exit_code=JobFailedError.exit_code,
            next_step=f"Go on from where it stopped with: scoring jobs resume {self.job_id}",
        )  # fmt: skip
        self.write_outcome(outcome)
        return self.outcome() or outcome

    def reopen(self, *, accept_rejects: bool = False, stack: str = "") -> None:
        """Resumes a failed or cancelled job in this stack from its parts, with ``accept_rejects`` without its rejects.

        Raises:
            RequestError: the job is done, or has not ended.
        """
        outcome = self.outcome()
        if outcome is None:
            raise RequestError(f"job {self.job_id} has not ended", next_step=f"Watch it with: scoring jobs show {self.job_id}")
        if outcome.state == JobState.HELD:
            raise RequestError(
                f"the result of job {self.job_id} is complete, and held",
                next_step=f"Publish it with: scoring results approve {self.job_id} --reason TEXT",
            )
        if outcome.state == JobState.DONE:
            raise RequestError(f"job {self.job_id} is done", next_step=f"See its result with: scoring results show {self.job_id}")
        self._open_again(stack)
        if accept_rejects:
            self.bucket.write(self.file(JobFile.REJECTS_ACCEPTED), b"")
        if self._keep(outcome):
            self.bucket.delete(self.file(JobFile.DELIVERY_ATTEMPT))
            self.bucket.delete(self.file(JobFile.NOTIFIED))
            self.bucket.delete(self.file(JobFile.OUTCOME))
        # again: a process that read the old outcome may have removed the mark
        self.bucket.write(f"{OPEN}/{self.job_id}", stack.encode())

    def reopen_held(self, stack: str = "") -> None:
        """Lets the finish step decide again about a held result, after a person approved it.

        The sweep and the command may do this at once; the outcome of a finish step that ran in between stays.

        Raises:
            RequestError: the files of the job were removed.
        """
        outcome = self.outcome()
        if outcome is None or outcome.state != JobState.HELD:
            return
        self._open_again(stack)
        if self._keep(outcome):
            # the record of the notice names the end that it is about: it stays, so that an interruption here does not announce it twice
            self.bucket.delete(self.file(JobFile.DELIVERY_ATTEMPT))
            self.bucket.delete(self.file(JobFile.OUTCOME))
        # again: a process that read the old outcome may have removed the mark
        self.bucket.write(f"{OPEN}/{self.job_id}", stack.encode())

    def _open_again(self, stack: str) -> None:
        """Marks a job that has ended as open; raises RequestError if its files were removed."""
        self.bucket.write(f"{OPEN}/{self.job_id}", stack.encode())
        # after the mark: removal writes its own mark first, then checks whether the job is open
        if self.files_were_removed():
            close_job(self.bucket, self.job_id)
            raise self.removed_error()

    def files_were_removed(self) -> bool:
        """Returns True if retention removed the files: it left a mark, or a done score job has no plan."""
        if self.has(JobFile.CLEARED):
            return True
        outcome = self.outcome()
        return outcome is not None and outcome.state == JobState.DONE and isinstance(self.job(), ScoreJob) and not self.has(JobFile.PLAN)

    def removed_error(self) -> RequestError:
        """The error of a job that cannot be resumed or fixed because its files were removed."""
        return RequestError(
            f"the files of job {self.job_id} were removed some time after it had ended, by scoring gc",
            next_step="Ask for the job again with --again; how long files stay is set in config/retention.yaml.",
        )

    def remove_open_mark(self, outcome: Outcome) -> None:
        """Removes the mark of an open job that has this outcome, unless it was resumed meanwhile."""
        close_job(self.bucket, self.job_id)
        if self.outcome() != outcome:
            self.bucket.write(f"{OPEN}/{self.job_id}", b"")

    def has(self, name: str) -> bool:
        """Returns True when the folder holds this file."""
        return self.bucket.exists(self.file(name))

    @property
    def is_published(self) -> bool:
        """True when the result is published. An empty file, as a power cut may leave, does not count."""
        mark = self.bucket.stat(self.file(JobFile.PUBLISHED))
        return mark is not None and mark.size > 0

    def is_settled(self, outcome: Outcome) -> bool:
        """Returns True if only the notice of this end is left: the result is published, or held beside its place."""
        if outcome.state == JobState.HELD:
            return self.bucket.read(self.file(JobFile.HELD)) == outcome.at.isoformat().encode()
        return outcome.state != JobState.DONE or self.is_published

    def settle_hold(self, outcome: Outcome) -> None:
        """Notes that the held result of this end has its revision."""
        self.bucket.write(self.file(JobFile.HELD), outcome.at.isoformat().encode())

    def reconsider(self, outcome: Outcome) -> None:
        """Removes an outcome that is not settled, so that the finish step decides once more; it is kept beside earlier ones.

        Does nothing if another process has decided meanwhile.
        """
        if self._keep(outcome):
            self.bucket.delete(self.file(JobFile.OUTCOME))

    def table_versions(self) -> dict[str, str]:
        """The version of each file of the table when the job found it; empty where none is known."""
        text = None if self.bucket.is_remote else self.bucket.read(self.file(JobFile.VERSIONS))
        try:
            found = json.loads(text or b"{}")
        except (ValueError, RecursionError):
            return {}
        return {str(path): str(version) for path, version in found.items()} if isinstance(found, dict) else {}

    def write_stage(self, text: str) -> None:
        """Records what the running step is doing, for people."""
        self.bucket.write(self.file(JobFile.STAGE), Stage(at=datetime.now(UTC), text=text[:MAX_STAGE_LENGTH]).to_json())

    def parts_done(self) -> set[int]:
        """The chunks whose part is complete."""
        return self._chunks_with(PartFile.COMPLETE)

    def parts_with_rejects(self) -> set[int]:
        """The chunks that wrote rejects; a part among them may not be complete yet."""
        return self._chunks_with(PartFile.REJECTED)

    def _chunks_with(self, written: PartFile) -> set[int]:
        """The chunks that wrote this file."""
        ending = f".{written}"
        names = (_name(info.path) for info in self.bucket.files(self.file(Subfolder.PARTS)))
        return {int(number) for name in names if name.endswith(ending) and (number := name.removesuffix(ending)).isdecimal()}

    def status(self) -> JobStatus:
        """The status of the job, from its files alone."""
        job = self.job()
        outcome = self.outcome()
        chunks = self._chunks(job)
        if outcome is None:
            stage = self.stage()
            done = self._chunks_done(job) if chunks else 0
            started = JobState.FINISHING if chunks and done == chunks else JobState.RUNNING
            state = started if chunks or stage else JobState.QUEUED
            reason = stage.text if stage else "waits for a worker"
            return JobStatus(
                job=job, state=state, since=stage.at if stage else job.created, reason=reason, chunks=chunks, chunks_done=done, outcome=None
            )
        state = JobState.FINISHING if not self.is_settled(outcome) else outcome.state
        done = chunks if outcome.state in SETTLED_STATES else self._chunks_done(job)
        return JobStatus(
            job=job,
            state=state,
            since=outcome.at,
            reason=outcome.reason,
            chunks=chunks,
            chunks_done=done,
            outcome=self.with_publication_facts(outcome),
        )

    def with_publication_facts(self, outcome: Outcome) -> Outcome:
        """The outcome with the facts of its publication, for people."""
        done = _field(self.bucket.read(self.file(JobFile.PUBLISHED)) or b"", "facts", dict) or {}
        return outcome.model_copy(update={"facts": outcome.facts | {str(name): str(value) for name, value in done.items()}})

    def _chunks(self, job: Job) -> int:
        """The chunks of the plan, or the candidates times folds that the newest round of a search expects."""
        if isinstance(job, ScoreJob):
            plan = self.bucket.read(self.file(JobFile.PLAN))
            return len(_field(plan or b"", "chunks", list) or [])
        waves = self.bucket.files(self.file(Subfolder.WAVES))
        return _field(self.bucket.read(waves[-1].path) or b"", "expected", int) or 0 if waves else 0

    def _chunks_done(self, job: Job) -> int:
        return len(self.parts_done()) if isinstance(job, ScoreJob) else len(self.bucket.files(self.file(Subfolder.CANDIDATES)))

    def stage(self) -> Stage | None:
        """Returns what the running step recorded last; None if nothing or unreadable."""
        text = self.bucket.read(self.file(JobFile.STAGE))
        try:
            return None if text is None else decode(Stage, text)
        except MessageError:
            return None  # only for people


def _field(text: bytes, name: str, kind: type[AnyValue]) -> AnyValue | None:
    """A field of a JSON object; None when it cannot be read: the next step that needs it fails the job."""
    try:
        value = json.loads(text)[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def list_jobs(bucket: Bucket) -> Iterator[str]:
    """The ids of all jobs, the newest first (a job id starts with its time); a folder without a request is skipped."""
    for name in sorted(bucket.folders(JOBS), reverse=True):
        if not name.startswith("_") and bucket.exists(f"{JOBS}/{name}/{JobFile.REQUEST}"):
            yield name


def inspect_job(bucket: Bucket, job_id: str) -> JobStatus | UnreadableJob:
    """The status of one of many jobs: a damaged job does not hide the others."""
    try:
        return JobFolder(bucket, job_id).status()
    except PermanentError as error:
        return UnreadableJob(job_id=job_id, reason=error.message)


def open_jobs(bucket: Bucket) -> list[str]:
    """The ids of the open jobs, the oldest first."""
    return [_name(info.path) for info in bucket.files(OPEN)]


def close_job(bucket: Bucket, job_id: str) -> None:
    """Removes the mark of an open job."""
    bucket.delete(f"{OPEN}/{job_id}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]
