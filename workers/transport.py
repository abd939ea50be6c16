"""The workers' way to Redis: kombu's own, but for a message that is none, which it drops and logs instead of ending the worker.

Anybody who can reach the Redis can put a line on a queue. What a task's arguments say is judged in ``tasks``; here it is only what
comes before that: text that is no JSON, or JSON without the fields that Celery writes. Left to Celery, the first ends the worker, and
some of the second take the place of a process for ever.
"""

import base64
import json
from typing import Annotated, Any, Literal

import structlog
from kombu.transport import redis
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from shared.routes import QUEUES

SHOWN_LENGTH = 200
"""Of the text of an error."""

log = structlog.get_logger()


class _Headers(BaseModel):
    """What Celery reads in the worker's main process, before the task itself runs."""

    model_config = ConfigDict(strict=True)

    task: str
    id: str
    retries: int | None = None
    timelimit: Annotated[list[float | None], Field(min_length=2, max_length=2)] | None = None
    eta: str | None = None
    expires: str | float | None = None


class _DeliveryInfo(BaseModel):
    model_config = ConfigDict(strict=True)

    exchange: str
    routing_key: str


class _Properties(BaseModel):
    model_config = ConfigDict(strict=True)

    delivery_tag: str
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"]


def _check_body(body: str) -> str:
    """The body as it is; raises ValueError unless it holds arguments, keyword arguments and options, as JSON in base64."""
    try:
        arguments, keywords, options = json.loads(base64.b64decode(body, validate=True))
    except (ValueError, TypeError, RecursionError):
        raise ValueError("must be three JSON values in base64") from None
    if not isinstance(arguments, list) or not isinstance(keywords, dict) or not isinstance(options, dict):
        raise ValueError("must hold a list and two objects")
    return body


class _Envelope(BaseModel):
    model_config = ConfigDict(strict=True)

    body: Annotated[str, AfterValidator(_check_body)]
    headers: _Headers
    properties: _Properties
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")


class Channel(redis.Channel):
    """Takes messages off the queues; the one that is not JSON has left its queue already and goes."""

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 - kombu's own signature
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # kombu's type stubs leave it out
        except (ValueError, RecursionError) as error:
            log.error("message refused: it is not JSON", error=str(error)[:SHOWN_LENGTH])
            return True


class Transport(redis.Transport):
    """Chosen in ``workers.app``: whoever only sends needs nothing of this."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:  # noqa: ANN401 - whatever JSON can say
        if queue in QUEUES:
            try:
                _Envelope.model_validate(message)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"])) or "text"
                log.error("message refused: it is not one of Celery's", queue=queue, error=f"{where}: {first['msg']}")
                return
        super()._deliver(message, queue)
