"""Checks Redis before a message is sent: a server that hangs or is not Redis is reported within seconds."""

import redis
from kombu.utils.url import maybe_sanitize_url
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import BrokerError

CONNECT_SECONDS, ANSWER_SECONDS = 2, 5
"""A loaded Redis answers within a second; a port of another service may never answer."""


def check_redis(url: str) -> None:
    """Raises BrokerError when the server at this address does not answer like Redis.

    A refusal, such as of a user without permission, is an answer; a missing server is reported by the later send.
    """
    client = redis.Redis.from_url(
        url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS, retry=Retry(NoBackoff(), 0), retry_on_timeout=False
    )
    where = maybe_sanitize_url(url)
    try:
        client.ping()
    except (redis.TimeoutError, redis.InvalidResponse) as error:
        how = f"answers nothing within {ANSWER_SECONDS} s" if isinstance(error, redis.TimeoutError) else f"answers otherwise: {error}"
        raise BrokerError(
            f"what listens at {where} is not Redis, or hangs: it {how}",
            next_step="Check the port in REDIS_URL or SCORING_REDIS_PORT (for a local stack: scoring up).",
        ) from error
    except redis.RedisError:
        return
    finally:
        client.close()
