"""The workers' way to Redis: kombu's own, but for a message that is none, which it drops and logs instead of ending the worker.

Anybody who can reach the Redis can put a line on a queue. What a task's arguments say is judged in ``tasks``; here it is only what
comes before that: text that is no JSON, or JSON without the fields that Celery writes.
"""

from typing import Any

import structlog
from kombu.transport import redis

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading an object raises that is not what it should be; errors of the connection are none of these."""

SHOWN_LENGTH = 200

log = structlog.get_logger()


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
        try:
            super()._deliver(message, queue)
        except MALFORMED as error:
            log.error("message refused: it is not one of Celery's", queue=queue, error=repr(error), message=repr(message)[:SHOWN_LENGTH])
            self._forget(message)

    def _forget(self, message: Any) -> None:  # noqa: ANN401 - the same
        """Free the place of a message among those in hand: a worker takes no more than it has processes for."""
        properties = message.get("properties") if isinstance(message, dict) else None
        tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
        for channel in self.channels or []:
            if isinstance(tag, str) and tag in (channel.qos._delivered or ()):  # private, but kombu has no other way to ask
                channel.basic_reject(tag, requeue=False)
