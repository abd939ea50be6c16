"""Records a request as a job and sends its first step; resumes and cancels jobs."""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import redis

from producers.enqueue.deduplication import ScheduledRun, claim
from producers.enqueue.redis_probe import check_redis
from producers.enqueue.sources import Source
from shared.bucket.interface import Bucket
from shared.errors import BrokerError, MessageError, RequestError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import Job, ScoreJob, StepMessage, TrainJob
from shared.queue.broker import make_app, send
from shared.queue.client import connect_to_redis
from shared.queue.routes import NOTIFY, SCORE_FINISH, SCORE_PLAN, TRAIN_FIT
from shared.queue.state.stacks import id_in_redis
from shared.records import decode
from shared.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """The result of a request."""

    job_id: str
    fresh: bool
    """False when the same request was made before and already has this job."""
    problem: BrokerError | None = None
    """Why the first message could not be sent; the job runs anyway once Redis is back."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Path in the job's folder -> the path on this machine of which it is a copy, for tables from outside the bucket."""


def resume(settings: Settings, bucket: Bucket, job_id: str, *, accept_rejects: bool = False) -> Enqueued:
    """Resumes a failed or cancelled job from its files; with ``accept_rejects``, without its rejects, however many it has.

    Raises:
        RequestError: the job does not exist, has not ended, or is done; or it is a training, which has no rejects to accept.
    """
    folder = JobFolder(bucket, job_id)
    job = folder.job()
    if accept_rejects and not isinstance(job, ScoreJob):
        raise RequestError(f"job {job_id} trains and has no rejects to accept", next_step=f"Type: scoring jobs resume {job_id}")
    folder.reopen(accept_rejects=accept_rejects, stack=_stack(settings))
    return Enqueued(job_id=job_id, fresh=True, problem=_send(settings, _first_step(job), job_id))


def cancel(settings: Settings, bucket: Bucket, job_id: str) -> str:
    """Cancels a job unless it has ended, and sends its notice; returns its final state."""
    outcome = JobFolder(bucket, job_id).cancel()
    _send(settings, NOTIFY, job_id)
    return outcome.state


def send_finish(settings: Settings, job_id: str) -> BrokerError | None:
    """Sends the finish step of a score job; returns why it could not be sent, in which case the sweep sends it."""
    return _send(settings, SCORE_FINISH, job_id)


def checked(kind: Any, fields: dict[str, Any]) -> Any:  # noqa: ANN401 - ScoreJob or TrainJob
    try:
        return decode(kind, fields)
    except MessageError as error:
        help_on = "score" if kind is ScoreJob else "train"
        raise RequestError(_in_plain_words(kind, error), next_step=f"See what is possible with: scoring {help_on} --help") from error


_NAME = "a name of up to 64 letters, digits, - and _, the first a letter"
_OPTIONS = {
    "model": ("--model", "the name of a definition, a release or an alias, like v1, v1@20261123T101500Z-9bfad3 or champion"),
    "definition": ("the definition", _NAME),
    "alias": ("--alias", _NAME),
    "promote": ("--promote", "never, auto or always"),
    "chunk_rows": ("--chunk-rows", "a whole number from 1 to 1,000,000,000"),
    "channel": ("--channel", _NAME),
    "max_rejects": ("--max-rejects", "a whole number from 0 to 1,000,000,000,000"),
    "max_reject_share": ("--max-reject-share", "a number from 0 to 1"),
    "max_left_out": ("--max-left-out", "a number from 0 to 1"),
}
"""Field of a request -> its option on the command line, and the allowed values."""
_LONGEST_SHOWN = 80


def _in_plain_words(kind: type, error: MessageError) -> str:
    """Describes an invalid request by its command-line option."""
    if error.field in _OPTIONS:
        option, allowed = _OPTIONS[error.field]
        shown = repr(error.value)
        return f"{option} must be {allowed}, not {shown if len(shown) <= _LONGEST_SHOWN else f'{shown[: _LONGEST_SHOWN - 3]}...'}"
    kinds = (f"a {kind.__name__} contradicts itself: ", f"a {kind.__name__} has a ")
    return f"invalid request: {error.message.removeprefix(kinds[0]).removeprefix(kinds[1])}"


def enqueue(  # noqa: PLR0913 - a request has these parts
    settings: Settings,
    bucket: Bucket,
    digest: str,
    make_job: Callable[[str], Job],
    sources: list[Source],
    texts: Mapping[JobFile, bytes] = MappingProxyType({}),
    *,
    again: bool,
    run: ScheduledRun | None = None,
) -> Enqueued:
    """Writes a request with its tables and the ``texts`` for its folder, and sends its first message."""
    versions = {path: version for source in sources for path, version in source.versions.items()}
    job_id = claim(bucket, digest, {} if run else versions, again=again, run=run)
    folder = JobFolder(bucket, job_id)
    copies = {copy: own for source in sources for copy, own in source.copies_in(folder).items()}
    if folder.has(JobFile.REQUEST):
        return Enqueued(job_id=job_id, fresh=False, copies=copies)
    for source in sources:
        source.copy_to(folder)
    for name, text in texts.items():
        bucket.write(folder.file(name), text)
    job = make_job(job_id)
    # a plan records the versions that it finds itself: the table may be replaced while the job waits
    if versions and (isinstance(job, TrainJob) or job.fixes):
        bucket.write(folder.file(JobFile.VERSIONS), json.dumps(versions).encode())
    first = folder.create(job, _stack(settings))
    return Enqueued(job_id=job_id, fresh=first, problem=_send(settings, _first_step(job), job_id) if first else None, copies=copies)


def _first_step(job: Job) -> str:
    return SCORE_PLAN if isinstance(job, ScoreJob) else TRAIN_FIT


def _stack(settings: Settings) -> str:
    """The stack that enqueues a job; empty while it is unknown: then the job belongs to the owner of the bucket."""
    if settings.cluster:
        return settings.cluster
    with contextlib.suppress(redis.RedisError), connect_to_redis(settings.broker_url) as client:
        return id_in_redis(client)
    return ""


def _send(settings: Settings, task: str, job_id: str) -> BrokerError | None:
    try:
        check_redis(settings.broker_url)
        send(make_app(settings), task, [StepMessage(job_id=job_id)])
    except BrokerError as problem:
        return problem
    return None
