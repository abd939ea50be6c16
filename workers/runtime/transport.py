"""The workers' way to Redis: kombu's own, but neither what is not one of our messages nor a connection lost at a bad moment ends a worker.

Anybody who can reach the Redis can put a line on a queue or say something to the remote control. What a task's arguments say is judged
in ``tasks``; here it is only what Celery reads before that, in the worker's main process: text that is no JSON, JSON without the fields
that Celery writes or with others than we ever send, and orders to stop. Left to Celery, some of these end the worker, some break its
connection, and some take the place of a process for ever.
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
"""Of the text of an error."""

LONGEST_BODY = 256 * 1024
"""Characters of base64; no order of ours comes near."""

LONGEST_WAIT = timedelta(hours=1)
"""Nothing of ours is sent to be done later than this; what is would stay in the worker's memory until then."""

log = structlog.get_logger()


def _check_task(name: str) -> str:
    if name not in QUEUE_OF_TASK:  # Celery's own among them: celery.chord_unlock never ends
        raise ValueError("must be one of our tasks")
    return name


def _check_moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    try:
        is_near = moment.tzinfo is not None and moment.astimezone(UTC) - datetime.now(UTC) < LONGEST_WAIT
    except OverflowError:  # at the ends of time
        is_near = False
    if not is_near:
        raise ValueError("must name its time zone and lie no further ahead than an hour")
    return text


TimeText = Annotated[str, AfterValidator(_check_moment)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Clock = Annotated[int, Field(ge=0, lt=2**63)]


class _Headers(BaseModel):
    """What Celery reads in the worker's main process, before the task itself runs; what we never send must not be there."""

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
    eta: TimeText | None = None
    expires: TimeText | None = None
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
    """The body as it is; raises ValueError unless it holds arguments, keyword arguments and options, as JSON in base64."""
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
    """What a worker answers by remote control: who asks, and nothing that changes or stops it.

    These are what ``scoring up`` and Flower ask for. A worker is stopped with a signal.
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
    headers: _CommandHeaders  # type: ignore[assignment]  # those of a task are others


def _is_ours(kind: type[_Envelope], message: object, where: str | None) -> bool:
    """True when the message is of this kind; else it is logged."""
    try:
        kind.model_validate(message)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "text"
        log.error("message refused: it is not one of ours", queue=where, error=f"{place}: {first['msg']}"[:SHOWN_LENGTH])
        return False
    return True


def _dropping_what_is_no_json(read: Callable[[], Any]) -> Any:  # noqa: ANN401 - kombu's own signature
    try:
        return read()
    except (ValueError, RecursionError) as error:
        log.error("message refused: it is not JSON", error=str(error)[:SHOWN_LENGTH])
        return True


class Channel(redis.Channel):
    """Takes messages off the queues and from the remote control; what is none has left its place already and goes."""

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's own signature
        return _dropping_what_is_no_json(functools.partial(super()._brpop_read, **options))  # type: ignore[misc]  # not in kombu's stubs

    def _receive(self) -> Any:  # noqa: ANN401 - kombu's own signature
        return _dropping_what_is_no_json(super()._receive)  # type: ignore[misc]  # not in kombu's stubs

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # Celery closes a connection that was lost twice. What the first time could not be closed has, the second time, no address any more,
        # which kombu does not know: its AttributeError would end the worker, where a lost connection is one that is made anew
        if self.connection.client is None:
            raise RedisConnectionError("the connection was given up")
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]  # not in kombu's stubs
        return parameters

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:  # noqa: ANN401 - whatever JSON can say
        if not _is_ours(_Broadcast, message, exchange):
            return True
        return super()._deliver_fanout_message(message, exchange)  # type: ignore[misc]  # not in kombu's stubs


class Transport(redis.Transport):
    """Chosen in ``workers.app``: whoever only sends needs nothing of this."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:  # noqa: ANN401 - whatever JSON can say
        if queue not in QUEUES or _is_ours(_Envelope, message, queue):
            super()._deliver(message, queue)
