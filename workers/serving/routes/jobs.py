"""Jobs over HTTP: enqueue, follow and cancel them, and decide about held results, as the command line does.

The only module of the workers that enters the queue, through the producers' one entrance. Tables are those of the bucket: a request reads
no file of this machine.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from producers.channels.deciding import approve, refuse
from producers.channels.held import list_held
from producers.enqueue import sending
from producers.enqueue.repeated_requests import changes_since
from producers.enqueue.score import enqueue_score
from producers.enqueue.sending import Enqueued
from producers.enqueue.train import enqueue_train
from shared.bucket.interface import Bucket
from shared.errors import BrokerError, MessageError, ModelError, RequestError, ScoringError, TableError, TransientError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder, UnreadableJob, inspect_job
from shared.jobs.states import JobState
from shared.records import check_bucket_path
from shared.table_files import find_files
from workers.serving.http.answers import Answer, HttpError, json_answer, read_object
from workers.serving.http.service import Service
from workers.serving.http.tokens import name_of_caller
from workers.serving.routes.job_requests import DecisionAsked, ScoreAsked, TrainAsked

AnyAsked = TypeVar("AnyAsked", bound=BaseModel)

CODES: tuple[tuple[type[ScoringError], int], ...] = (
    (BrokerError, 503),
    (TransientError, 503),
    (TableError, 422),
    (ModelError, 422),
    (RequestError, 422),
    (ScoringError, 500),
)


def create(service: Service, body: bytes) -> Answer:
    """Enqueues a job: 201 for a new one, 200 for the one that the same request has already, 202 while Redis is away."""
    fields = read_object(body)
    with _errors():
        done = _train(service, _parse(TrainAsked, fields)) if fields.get("kind") == "train" else _score(service, _parse(ScoreAsked, fields))
    return _enqueued(service, done)


def _score(service: Service, asked: ScoreAsked) -> Enqueued:
    bucket = _bucket(service)
    return enqueue_score(
        service.settings,
        bucket,
        table=_table_in_bucket(bucket, asked.table),
        model=asked.model,
        chunk_rows=asked.chunk_rows,
        max_reject_share=asked.max_reject_share,
        max_rejects=asked.max_rejects,
        interval=asked.interval,
        channel=asked.channel,
        again=asked.again,
    )


def _train(service: Service, asked: TrainAsked) -> Enqueued:
    bucket = _bucket(service)
    if asked.eval is not None and asked.train is None:
        raise RequestError("eval names a table but train does not", next_step="Name both, or neither.")
    if asked.config is not None and not bucket.exists(_inside(asked.config)):
        raise RequestError(f"there is no config {asked.config} in the bucket", next_step="Put it into the bucket first.")
    return enqueue_train(
        service.settings,
        bucket,
        definition=asked.definition,
        train=None if asked.train is None else _table_in_bucket(bucket, asked.train),
        eval_table=None if asked.eval is None else _table_in_bucket(bucket, asked.eval),
        alias=asked.alias,
        promote=asked.promote,
        config=asked.config,
        force=asked.force,
        max_left_out=asked.max_left_out,
        again=asked.again,
    )


def _table_in_bucket(bucket: Bucket, table: str) -> str:
    """Returns the path of a table of the bucket; raises TableError or RequestError for any other path, also of a file of this machine."""
    path = _inside(table)
    for _ in find_files(bucket, path):
        break
    return path


def _inside(path: str) -> str:
    try:
        return check_bucket_path(path)
    except ValueError as error:
        raise RequestError(f"the path {path[:200]!r} {error}", next_step="Name a path inside the bucket.") from None


def _enqueued(service: Service, done: Enqueued) -> Answer:
    fields: dict[str, Any] = {"job_id": done.job_id, "fresh": done.fresh, "state": inspect_job(_bucket(service), done.job_id).state}
    if not done.fresh:
        fields["changed_since"] = [change.sentence for change in changes_since(service.settings, _bucket(service), done.job_id)]
    if done.problem is not None:
        fields["problem"] = "the job is written but not sent: Redis does not answer; it runs by itself once Redis is back"
    status = 202 if done.problem is not None else 201 if done.fresh else 200
    return json_answer(fields, status, ((b"location", f"/v1/jobs/{done.job_id}".encode()),))


def show(service: Service, job_id: str) -> Answer:
    """Answers the state of a job."""
    with _errors():
        return json_answer(_status(service, _known(service, job_id)))


def _status(service: Service, job_id: str) -> dict[str, Any]:
    status = inspect_job(_bucket(service), job_id)
    if isinstance(status, UnreadableJob):
        return {"job": {"job_id": status.job_id}, "state": status.state, "reason": status.reason}
    return {
        "job": status.job.encode(),
        "state": status.state,
        "since": status.since.isoformat(),
        "reason": status.reason,
        "chunks": status.chunks,
        "chunks_done": status.chunks_done,
        "outcome": status.outcome.encode() if status.outcome else None,
    }


def cancel(service: Service, job_id: str) -> Answer:
    """Cancels a job: 409 if it has ended otherwise."""
    with _errors():
        state = sending.cancel(service.settings, _bucket(service), _known(service, job_id))
    if state != JobState.CANCELLED:
        raise HttpError(409, f"job {job_id} cannot be cancelled: it is {state} already")
    return json_answer({"job_id": job_id, "state": state})


def held(service: Service) -> Answer:
    """Lists the held results, the oldest first."""
    with _errors():
        found = [vars(each) for each in list_held(_bucket(service))]
    return Answer(orjson.dumps({"held": found}))


def decide(service: Service, job_id: str, verdict: Literal["approve", "refuse"], headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
    """Approves or refuses a held result: 409 if it is not held, or somebody has decided."""
    asked = _parse(DecisionAsked, read_object(body))
    job_id, by = _known(service, job_id), name_of_caller(headers)
    try:
        if verdict == "approve":
            return _enqueued(service, approve(service.settings, _bucket(service), job_id, reason=asked.reason, by=by).enqueued)
        decision = refuse(_bucket(service), job_id, reason=asked.reason, by=by)
    except RequestError as error:
        raise HttpError(409, error.message) from error
    return json_answer({"job_id": job_id, "state": JobState.HELD, "decision": decision.encode()})


def _bucket(service: Service) -> Bucket:
    return service.swapper.watched.bucket


def _known(service: Service, job_id: str) -> str:
    try:
        folder = JobFolder(_bucket(service), job_id)
    except MessageError:
        raise HttpError(404, "there is no such job") from None
    if not folder.has(JobFile.REQUEST):
        raise HttpError(404, "there is no such job")
    return job_id


def _parse(kind: type[AnyAsked], fields: dict[str, Any]) -> AnyAsked:
    """Returns a request; raises HttpError (422), which names the first wrong field."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise HttpError(422, f"the field {place[:100]}: {first['msg']}") from None


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turns errors of this product into answers."""
    try:
        yield
    except ScoringError as error:
        code = next(code for kind, code in CODES if isinstance(error, kind))
        headers = ((b"retry-after", b"5"),) if code == 503 else ()
        raise HttpError(code, error.message, next_step=error.next_step, headers=headers) from error
