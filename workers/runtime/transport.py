"""kombu's Redis transport, hardened: neither a foreign message nor a connection lost at a bad moment ends a worker.

Anyone who can reach the Redis can push a line to a queue or send a remote-control command. ``tasks`` validates the arguments of tasks.
This module validates what Celery reads before that, in the worker's main process: text that is not JSON, JSON without the fields that
Celery writes or with fields that we never send, and commands to stop. With plain Celery, some of these end the worker, some break its
connection, and some occupy a process forever.
"""

import base64
import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import structlog
from kombu.transport import redis
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.queue.routes import QUEUE_OF_TASK, QUEUES

SHOWN_LENGTH = 200
"""Maximum characters of an error text."""

LONGEST_BODY = 256 * 1024
"""Maximum characters of base64; our messages are far shorter."""

LONGEST_WAIT = timedelta(hours=1)
"""Maximum delay of a message: we never send a longer one, and a delayed message stays in the worker's memory until it is due."""

LONGEST_EXPIRY = timedelta(days=2)
"""Maximum time until a message expires: ours expire within the hour, but the clock of this machine may be a day behind the sender's."""

log = structlog.get_logger()


def _check_task(name: str) -> str:
    if name not in QUEUE_OF_TASK:  # Celery's own tasks are not ours either: celery.chord_unlock never ends
        raise ValueError("must be one of our tasks")
    return name


def _check_time(text: str, limit: timedelta) -> str:
    time = datetime.fromisoformat(text)
    try:
        is_near = time.tzinfo is not None and time.astimezone(UTC) - datetime.now(UTC) < limit
    except OverflowError:  # datetime.min or datetime.max
        is_near = False
    if not is_near:
        raise ValueError(f"must name its time zone and lie no further ahead than {limit.total_seconds() / 3600:g} hours")
    return text


DueTime = Annotated[str, AfterValidator(functools.partial(_check_time, limit=LONGEST_WAIT))]
ExpiryTime = Annotated[str, AfterValidator(functools.partial(_check_time, limit=LONGEST_EXPIRY))]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Clock = Annotated[int, Field(ge=0, lt=2**63)]


class _Headers(BaseModel):
    """The headers that Celery reads in the worker's main process, before the task runs; headers that we never send are not allowed."""

    model_config = ConfigDict(strict=True)

    task: Annotated[str, AfterValidator(_check_task)]
    id: str
    root_id: str | None = None
    parent_id: str | None = None
    shadow: None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    retries: Annotated[int, Field(ge=0, le=1000)] | None = None
    timelimit: Annotated[list[Seconds | None], Field(min_length=2, max_length=2)] | None = None
    eta: DueTime | None = None
    expires: ExpiryTime | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: Literal[0] | None = None
    stamps: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    stamped_headers: None = None
    compression: None = None


class _DeliveryInfo(BaseModel):
    model_config = ConfigDict(strict=True)

    exchange: str
    routing_key: str


class _Properties(BaseModel):
    model_config = ConfigDict(strict=True)

    delivery_tag: str
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"]
    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    reply_to: str | None = None
    correlation_id: str | None = None


def _unpack(body: str, what: str) -> Any:  # noqa: ANN401 - whatever JSON can say
    try:
        return json.loads(base64.b64decode(body, validate=True))
    except (ValueError, RecursionError):
        raise ValueError(f"must be {what} in base64") from None


def _check_body(body: str) -> str:
    """Returns the body; raises ValueError unless it holds arguments, keyword arguments and options, as JSON in base64."""
    if len(body) > LONGEST_BODY:
        raise ValueError(f"must not be longer than {LONGEST_BODY:,} characters")
    try:
        arguments, keywords, options = _unpack(body, "three JSON values")
    except TypeError:
        raise ValueError("must be three JSON values in base64") from None
    if not isinstance(arguments, list) or not isinstance(keywords, dict) or not isinstance(options, dict):
        raise ValueError("must hold a list and two objects")
    if any(options.values()):
        raise ValueError("must not name further tasks")
    return body


class _Envelope(BaseModel):
    model_config = ConfigDict(strict=True)

    body: Annotated[str, AfterValidator(_check_body)]
    headers: _Headers
    properties: _Properties
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")


class _ReplyTo(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    exchange: str
    routing_key: str


class _Command(BaseModel):
    """The remote-control commands that a worker answers: only queries, nothing that changes or stops it.

    ``scoring up`` and Flower use these. A worker is stopped with a signal.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    method: Literal[
        "ping", "heartbeat", "enable_events", "stats", "conf",
        "registered", "active_queues", "active", "scheduled", "reserved", "revoked",
    ]  # fmt: skip
    arguments: dict[str, Any] | None = None
    destination: list[str] | None = None
    pattern: None = None
    matcher: None = None
    ticket: str | None = None
    reply_to: _ReplyTo | None = None


def _check_command(body: str) -> str:
    _Command.model_validate(_unpack(body, "JSON"))
    return body


class _CommandHeaders(BaseModel):
    model_config = ConfigDict(strict=True)

    clock: Clock | None = None
    compression: None = None


class _Broadcast(_Envelope):
    body: Annotated[str, AfterValidator(_check_command)]
    headers: _CommandHeaders  # type: ignore[assignment]  # differs from the headers of a task


def _is_ours(kind: type[_Envelope], message: object, where: str | None) -> bool:
    """Returns True if the message is of this kind; otherwise logs it."""
    try:
        kind.model_validate(message)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "text"
        log.error("message refused: it is not one of ours", queue=where, error=f"{place}: {first['msg']}"[:SHOWN_LENGTH])
        return False
    return True


def _drop_invalid_json(read: Callable[[], Any]) -> Any:  # noqa: ANN401 - kombu's own signature
    try:
        return read()
    except (ValueError, RecursionError) as error:
        log.error("message refused: it is not JSON", error=str(error)[:SHOWN_LENGTH])
        return True


class Channel(redis.Channel):
    """Receives messages and remote-control commands; drops invalid ones, which are already removed from their queue."""

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's own signature
        return _drop_invalid_json(functools.partial(super()._brpop_read, **options))  # type: ignore[misc]  # not in kombu's stubs

    def _receive(self) -> Any:  # noqa: ANN401 - kombu's own signature
        return _drop_invalid_json(super()._receive)  # type: ignore[misc]  # not in kombu's stubs

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # Celery closes a connection that was lost twice. If the first close failed, the connection has no address at the second one, which
        # kombu does not expect: its AttributeError would end the worker, whereas a lost connection is reconnected.
        if self.connection.client is None:
            raise RedisConnectionError("the connection was given up")
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]  # not in kombu's stubs
        return parameters

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:  # noqa: ANN401 - whatever JSON can say
        if not _is_ours(_Broadcast, message, exchange):
            return True
        return super()._deliver_fanout_message(message, exchange)  # type: ignore[misc]  # not in kombu's stubs


class Transport(redis.Transport):
    """Used by ``workers.app`` only: producers only send and do not need it."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:  # noqa: ANN401 - whatever JSON can say
        if queue not in QUEUES or _is_ours(_Envelope, message, queue):
            super()._deliver(message, queue)
